"""Owns where the policy comes from: sources are asked in order, and the first policy counts.

A source replaces all that come after it. It gives a policy, says that it has none, or raises why it
cannot say. The last good policy is given only after another source could not say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from ipsecd.config.domain import DomainSettings
from ipsecd.errors import IpsecdError
from ipsecd.quoting import quote
from ipsecd.sources.domain import Taken
from ipsecd.sources.last_good import CompiledPolicy
from ipsecd.sources.reading import Loaded, StoredPolicy


class SourceName(StrEnum):
    """The sources, as ``status`` calls them."""

    NOTHING = "nothing"
    DOMAIN = "domain"
    STATIC = "policy"
    LAST_GOOD = "last-good"


@dataclass(frozen=True, slots=True)
class Situation:
    """What a source is told when it is asked: ``loaded``, the content of the static store.

    ``domain`` is what was taken from the domain last. ``failing`` says that an earlier source could
    not say what it has, or that settings are wrong.
    """

    loaded: Loaded
    failing: bool = False
    domain: Taken | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A policy that a source gives: ``stored``, which is yet to be compiled, or ``compiled``."""

    stored: StoredPolicy | None = None
    compiled: CompiledPolicy | None = None


class Source(Protocol):
    """One place that a policy comes from."""

    @property
    def name(self) -> SourceName:
        """The name of the source."""

    def read(self, situation: Situation) -> Offer | None:
        """Its policy, None if it has none; raises ``IpsecdError`` if it cannot say."""


class Domain:
    """The policy that was taken from the domain, until the domain withdraws it."""

    name = SourceName.DOMAIN

    def read(self, situation: Situation) -> Offer | None:
        """The policy that was taken last, if any was and it is not withdrawn."""
        domain = situation.domain
        return Offer(domain.stored) if domain and domain.stored else None


class Static:
    """The assigned policy among those that people keep on this host."""

    name = SourceName.STATIC

    def read(self, situation: Situation) -> Offer | None:
        """The assigned policy; raises ``IpsecdError`` if it cannot be used."""
        loaded = situation.loaded
        if loaded.assigned_error:
            raise loaded.assigned_error
        return Offer(loaded.policies[loaded.assigned]) if loaded.assigned else None


class LastGood:
    """The policy that was in force last, for when the right one cannot be loaded."""

    name = SourceName.LAST_GOOD

    def __init__(self, compiled: CompiledPolicy | None) -> None:
        self._compiled = compiled

    def read(self, situation: Situation) -> Offer | None:
        """The policy that was in force last, if it is needed and there is one."""
        if not situation.failing or self._compiled is None:
            return None
        return Offer(compiled=self._compiled)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be in force, and where it comes from."""

    source: SourceName
    compiled: CompiledPolicy


def choose(
    sources: Sequence[Source],
    situation: Situation,
    compile_stored: Callable[[StoredPolicy | None], CompiledPolicy],
    on_failure: Callable[[IpsecdError], None],
) -> Choice | None:
    """Choose the policy of the first source that has one; None if a source could not say.

    `on_failure` is called with the error of each source that cannot say, and of each policy that
    cannot be compiled. If it raises, no further source is asked.
    """
    failing = False
    for source in sources:
        try:
            offer = source.read(replace(situation, failing=situation.failing or failing))
            if offer is not None:
                return Choice(source.name, offer.compiled or compile_stored(offer.stored))
        except IpsecdError as error:
            on_failure(error)
            failing = True
    return None if failing else Choice(SourceName.NOTHING, compile_stored(None))


def strictly(error: IpsecdError) -> None:
    """Raise `error`: the choice ends where a source cannot say what it has."""
    raise error


def warnings_of_domain(
    settings: DomainSettings | None, taken: Taken, now: float
) -> tuple[str, ...]:
    """What to say of a domain whose answers have expired, or whose lists were lost on disk.

    `now` is in seconds since the epoch.
    """
    if settings is None:
        return ()
    if not taken.is_expired(now):
        return taken.lost
    warning = (
        f"what {quote(settings.source)} says was good until {taken.expires}: what is in force "
        "stays so\n"
        "  hint: whoever publishes it has to renew it; see also whether it can be reached"
    )
    return (warning, *taken.lost)


def why_not_in_force(
    choice: Choice | None, loaded: Loaded, refused: Loaded | None = None
) -> tuple[str, ...]:
    """Why what is assigned is not in force, in words; where it is not to be, that is no failure."""
    if choice and choice.source is SourceName.DOMAIN:
        return ()
    contents = [content for content in (loaded, refused) if content]
    errors = (content.assigned_error for content in contents)
    return tuple(dict.fromkeys(str(error) for error in errors if error))
