"""Owns the record that describes a method of ``io.ipsecd.control``; must not know any method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from ipsecd.engine import Engine
from ipsecd.engine.caller import DAEMON, Caller
from ipsecd.engine.confirmation import Part
from ipsecd.model.addresses import Network
from ipsecd.model.values import Filter, Policy
from ipsecd.progress import Tell, silent

Parameters = dict[str, Any]
Names = Mapping[str, tuple[Network, ...]]


class Role(Enum):
    """What the caller of a method must be allowed to do."""

    VIEW = "view"
    SAVE = "save"
    """What only reads, and what only those may read who may change things."""
    CHANGE = "change"
    FETCH = "fetch"
    """What only the fetcher and root do."""

    @property
    def reads(self) -> bool:
        """Whether a method of this role changes nothing."""
        return self in {Role.VIEW, Role.SAVE}


class Work(Enum):
    """How long a method takes, and so in which line of work it is carried out."""

    QUICK = "quick"
    """As long as a few system calls, whatever is in force; or what must not wait for longer."""
    LONG = "long"
    """A read whose time grows with what is in force, or that asks the kernel for much."""
    CHANGE = "change"
    """A change of policies: parsed, compiled, stored and enforced, one after the other."""


class Pages(Protocol):
    """What can be read page by page."""

    def page(self, policy: str | None, start: int) -> dict[str, Any]:
        """The page that begins with number `start`, of one policy or of all."""


class Request:
    """One call: its parameters, who makes it, addresses of DNS names, the policy in its document.

    ``tell`` is called with the progress. ``text`` is the document as it came. ``caller``
    is who makes it, with what he wants of a change; ``by`` is the same in words. ``audited`` is
    what audit rules noted.
    """

    def __init__(
        self,
        parameters: Parameters,
        by: str = "",
        names: Names | None = None,
        policy: Policy | None = None,
        tell: Tell = silent,
        text: bytes = b"",
        caller: Caller = DAEMON,
        audited: Pages | None = None,
    ) -> None:
        self.by = by
        self.audited = audited
        self.caller = caller
        self.text = text
        self.tell = tell
        self.names: Names = names or {}
        self.policy = policy
        self._parameters = parameters

    def __getitem__(self, name: str) -> Any:
        return self._parameters.get(name)


@dataclass(frozen=True, slots=True)
class Method:
    """One method: who may call it, what it costs, what it needs, and its handler.

    ``names`` gives the DNS names that have to be looked up first; None if there never are any.
    """

    name: str
    role: Role
    work: Work
    handler: Callable[[Engine, Request], dict[str, Any]]
    names: Callable[[Engine, Request], frozenset[str]] | None = None
    keeps_names: bool = False
    """Whether a name that cannot be looked up is no error: the handler gets it without addresses,
    and the name keeps those that it had."""
    takes_document: bool = False
    takes_list: bool = False
    """Whether its document is an address list, and no policy."""
    takes_backup: bool = False
    """Whether its document is a backup, and no policy."""
    takes_feed: bool = False
    """Whether a feed is fetched first. It is called with the parameter ``fetched``."""
    takes_bundle: bool = False
    """Whether its document is a bundle of the domain, which is verified first, in a process of its
    own. It is called with the document that was verified, if any, and the parameter ``verdict``."""
    takes_filters: bool = False
    """Whether its filters may be many: they are read first, outside of all lines of work. They come
    as texts, or as the lines of a document, and the handler gets them read."""
    filters: Callable[[Parameters], Iterable[Filter]] | None = None
    """The filters of the dynamic rules that it makes, which may name long lists."""
    for_fetcher: bool = False
    """Whether the fetcher may call it, who may call nothing else."""
    without_secrets: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """What of its reply those get who are neither root nor the fetcher."""
    tells_progress: bool = False
    """Whether it also replies with its progress, if the caller asks for more than one reply."""
    for_programs: bool = False
    """Whether only programs call it, to tell what happens by itself: nobody decides about that."""
    part: Part | None = None
    """What it changes that can be put back as it was if nobody confirms it; None if nothing can."""

    @property
    def takes_bytes(self) -> bool:
        """Whether its handler gets its document as it came."""
        return self.takes_list or self.takes_backup

    @property
    def takes_change(self) -> bool:
        """Whether it has the parameter ``change``, which says how a change is to be made."""
        return self.role is Role.CHANGE and not self.for_programs
