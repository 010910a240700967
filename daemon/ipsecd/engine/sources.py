"""Owns where a policy comes from: in a fixed order, the first source that has one is in force.

A source replaces all that come after it. It says what it has, that it has none, or why it cannot
say; the last good policy has something to say only after another could not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ipsecd.errors import IpsecdError
from ipsecd.sources.last_good import Enforceable
from ipsecd.sources.reading import Loaded, StoredPolicy


class SourceName(StrEnum):
    """The sources, as ``status`` calls them."""

    NOTHING = "nothing"
    DOMAIN = "domain"
    STATIC = "policy"
    LAST_GOOD = "last-good"


@dataclass(frozen=True, slots=True)
class Given:
    """What a source is asked about: the content of the static store as it is or would be.

    ``failing`` says that a source before it could not say what it has, or that settings are wrong.
    """

    loaded: Loaded
    failing: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """A policy with its document, to be compiled, or one that is compiled already."""

    stored: StoredPolicy | None = None
    compiled: Enforceable | None = None


class Source(Protocol):
    """One place that a policy comes from."""

    @property
    def name(self) -> SourceName:
        """What it is called."""

    def read(self, given: Given) -> Offer | None:
        """What it has to put in force, None if nothing; raises ``IpsecdError`` with why not."""


class Static:
    """The assigned one of the policies that people keep on this host."""

    name = SourceName.STATIC

    def read(self, given: Given) -> Offer | None:
        """The assigned policy; raises why it cannot be used."""
        loaded = given.loaded
        if loaded.assigned_error:
            raise loaded.assigned_error
        return Offer(loaded.policies[loaded.assigned]) if loaded.assigned else None


class LastGood:
    """What was in force last, in the place of what cannot be loaded."""

    name = SourceName.LAST_GOOD

    def __init__(self, good: Enforceable | None) -> None:
        self._good = good

    def read(self, given: Given) -> Offer | None:
        """What was in force last, if it is needed and known."""
        if not given.failing or self._good is None:
            return None
        return Offer(compiled=self._good)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be in force, and where it comes from."""

    source: SourceName
    good: Enforceable


def choose(
    sources: Sequence[Source],
    given: Given,
    compiled: Callable[[StoredPolicy | None], Enforceable],
    fail: Callable[[IpsecdError], None],
) -> Choice | None:
    """What is to be in force by the first source that has a policy; None if that is not known.

    `fail` is told of each source that cannot say, and of each policy that cannot be `compiled`;
    what it raises ends the choice.
    """
    unknown = False
    for source in sources:
        try:
            offer = source.read(Given(given.loaded, given.failing or unknown))
            if offer is not None:
                return Choice(source.name, offer.compiled or compiled(offer.stored))
        except IpsecdError as error:
            fail(error)
            unknown = True
    return None if unknown else Choice(SourceName.NOTHING, compiled(None))


def strictly(error: IpsecdError) -> None:
    """Let a source that cannot say what it has be the end of the choice."""
    raise error
