"""Owns what hosts.allow and hosts.deny say, as values; must not know what becomes of packets.

Reading them, evaluating them and translating them are three modules that share these values alone.
The form is that of hosts_access(5) and hosts_options(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from ipsecctl.importing.source import Line
from ipsecd.model.addresses import Network
from ipsecd.model.values import PortRange

OPEN_CONNECTIONS = Line("tcp_wrappers", 0, "only what opens a connection is judged")
"""What is so whatever the files say."""


class Answer(Enum):
    """What a rule says to a connection."""

    ALLOW = "allow"
    DENY = "deny"
    UNKNOWN = "unknown"
    """Whatever a command says that is run for it."""


@dataclass(frozen=True, slots=True)
class PortOf:
    """A range of ports of TCP (6) or UDP (17)."""

    protocol: int
    ports: PortRange


@dataclass(frozen=True, slots=True)
class Daemon:
    """A pattern for programs: all of them, or one by its name, with the ports that it listens at.

    ``endpoint`` is the address of this host behind ``@``, which it may be limited to.
    """

    text: str
    everything: bool = False
    ports: tuple[PortOf, ...] = ()
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """A pattern for machines: all of them, a network, or what no address tells, and why."""

    text: str
    everything: bool = False
    network: Network | None = None
    unknown: str = ""


_Item = TypeVar("_Item", Daemon, Client)


@dataclass(frozen=True, slots=True)
class Patterns(Generic[_Item]):
    """A list of patterns of which one has to fit, and a list behind EXCEPT of which none may."""

    items: tuple[_Item, ...]
    exceptions: Patterns[_Item] | None = None

    def all(self) -> tuple[_Item, ...]:
        """Every pattern in it."""
        return self.items + (self.exceptions.all() if self.exceptions else ())


@dataclass(frozen=True, slots=True)
class AccessRule:
    """A line of either file. ``other`` are its options that do not change the answer."""

    line: Line
    daemons: Patterns[Daemon]
    clients: Patterns[Client]
    answer: Answer
    other: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessFiles:
    """Both files. The first rule that fits decides, those of hosts.allow before the others.

    ``ignored`` are lines that are no rules, which programs pass over.
    """

    allow: tuple[AccessRule, ...]
    deny: tuple[AccessRule, ...]
    ignored: tuple[Line, ...] = ()

    @property
    def rules(self) -> tuple[AccessRule, ...]:
        """All rules in the order in which they are asked."""
        return self.allow + self.deny
