"""Owns what every source of rules has in common; must not know any source.

Invariants:

1. What a source reads is used in two ways that know nothing of each other: an ``Evaluator`` judges
   packets by the source's own order and meaning, and a translator makes ordered clauses of it.
2. Nothing is left out silently: what is not translated is a ``Note`` with its place and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action
from ipsecd.model.lists import AddressList

if TYPE_CHECKING:
    from ipsecctl.importing.regions import Links, Region

MAX_BYTES = 32 << 20
"""How much one file may hold."""


class Hook(Enum):
    """Where a packet is judged: delivered here, sent from here, or passing through."""

    __hash__ = object.__hash__

    IN = "in"
    OUT = "out"
    FORWARD = "forward"


class State(IntEnum):
    """What connection tracking says of a packet; the first three belong to no connection."""

    NEW = 0
    INVALID = 1
    UNTRACKED = 2
    ESTABLISHED = 3
    RELATED = 4


OPENING = (State.NEW, State.INVALID, State.UNTRACKED)
"""The states of which a policy knows one word: opening."""


class Cast(IntEnum):
    """What kind of address the destination of a packet is."""

    LOCAL = 0
    BROADCAST = 1
    MULTICAST = 2
    OTHER = 3


class InputFile(NamedTuple):
    """A file as it was given: its path, or ``<stdin>``, and its text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """Where a rule was written. ``number`` counts from 1; 0 if it stands for no line."""

    file: str
    number: int
    text: str

    @property
    def where(self) -> str:
        """File and line, as in ``rules.v4:12``."""
        return f"{self.file}:{self.number}" if self.number else self.file


class Kind(Enum):
    """What a note is about."""

    LEFT_OUT = "left out"
    """A rule, or a part of it, that is not in the policy."""
    CHANGED = "changed"
    """A rule that is in the policy and does the same to packets in another way."""
    NO_BLOCKING = "not about blocking"
    """A rule that lets nothing pass and stops nothing."""
    ASSUMED = "assumed"
    """What had to be taken for true of the host."""


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody has to know of a rule: why it is not translated as it is, and what to do.

    ``weaker`` says that the policy may let packets pass which the original stops.
    """

    line: Line
    kind: Kind
    reason: str
    hint: str
    weaker: bool = False


@dataclass(frozen=True, slots=True)
class SourcePacket:
    """A packet as firewalls in general see it; addresses are integers in host order.

    ``link`` is where it comes in, or for OUT where it goes out; ``out_link`` is where a packet that
    passes through goes out. Ports are None where the protocol has none, and so is ``message``, type
    and code of ICMP as 16 bits.
    """

    hook: Hook
    family: Family
    source: int
    destination: int
    protocol: int
    source_port: int | None = None
    destination_port: int | None = None
    message: int | None = None
    link: str = "eth0"
    out_link: str = ""
    state: State = State.NEW
    cast: Cast = Cast.LOCAL


class Decided(NamedTuple):
    """One verdict, and the line of the source that gives it (None: its default)."""

    action: Action
    line: Line | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a source does with a packet: one verdict, or several if something cannot be known.

    ``unsure`` are the lines whose match cannot be known from a packet alone, as a limit's.
    """

    outcomes: tuple[Decided, ...]
    unsure: tuple[Line, ...] = ()

    @property
    def actions(self) -> frozenset[Action]:
        """The verdicts that are possible."""
        return frozenset(outcome.action for outcome in self.outcomes)


class Evaluator(Protocol):
    """The meaning of a source's rules, read independently of their translation."""

    def judge(self, packet: SourcePacket) -> Judgement:
        """What the source does with `packet`."""
        ...


@dataclass(frozen=True, slots=True)
class Clause:
    """One step of an ordered list: the first clause whose region holds a packet decides.

    ``set_name`` is what a set of addresses in it was called, for the name of a list.
    """

    hook: Hook
    family: Family
    region: Region
    action: Action
    line: Line
    set_name: str = ""
    also: tuple[Line, ...] = ()
    """Other lines that it was put together of."""
    before_routing: bool = False
    """Whether its destination was asked for before it is known whether that is this host's."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """A source as ordered clauses: of one hook and IP version the first that holds decides.

    What no clause holds passes. ``judged`` are the hooks and IP versions that the source speaks of.
    ``lists`` are kept as they are, by the names that clauses have for their sets. With ``audit``
    the policy only counts.
    """

    clauses: tuple[Clause, ...]
    links: Links
    judged: frozenset[tuple[Hook, Family]]
    notes: tuple[Note, ...] = ()
    lists: Mapping[str, AddressList] = field(default_factory=dict)
    audit: bool = False


class Mention(NamedTuple):
    """What a rule asks of packets at a hook, with or without "not" before it.

    ``family`` is None for both IP versions; then no addresses are in the region.
    """

    hook: Hook
    family: Family | None
    region: Region


class Parsed(Protocol):
    """What a source has read. The evaluator and the translator are made of it."""

    @property
    def rules(self) -> int:
        """How many rules were read."""
        ...

    def evaluator(self) -> Evaluator:
        """Who judges packets as the source does."""
        ...

    def ordered(self) -> Ordered:
        """The rules as ordered clauses, and what is not among these."""
        ...

    def mentions(self) -> Iterable[Mention]:
        """What each rule asks of packets, so that packets inside and outside of it are chosen."""
        ...

    @property
    def links(self) -> Links:
        """The links that the rules tell apart."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """What is given beside the rules: this host's addresses, and sets of addresses by name."""

    own: frozenset[tuple[Family, int]] = frozenset()
    sets: Mapping[str, Sequence[tuple[Family, int, int]]] = field(default_factory=dict)
    """Of each entry the family, the address and the prefix length in bits."""
    networks: Mapping[str, Sequence[tuple[Family, int, int]]] = field(default_factory=dict)
    """The same of what is behind a link, by its name."""
    block: bool = False
    """Whether what is from a set is blocked, where the source does not say what becomes of it."""
    profile: str = ""
    """The profile of a Windows host whose rules are meant; "" for what holds in all of them."""


class Reader(Protocol):
    """Reads the files of one source. Raises ``InvalidInput`` with file and line."""

    def __call__(self, files: Sequence[InputFile], given: Given) -> Parsed:
        """What the files say."""
        ...
