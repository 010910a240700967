"""Owns rules of the firewall of Windows, as values; must not know what becomes of packets.

Reading them, evaluating them and translating them are three modules that share these values alone.
The order of rules has no meaning: of those that match, one that blocks is decisive ([MS-FASP],
section 2.2.34), then one that allows, and then what the profile does by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ipsecctl.importing.source import Line
from ipsecd.model.addresses import Network
from ipsecd.model.kinds import Action
from ipsecd.model.values import PortRange

PROFILES = ("domain", "private", "public")
OWN = "windows-firewall"
DEFAULT_IN = Line(OWN, 0, "what no rule allows in is blocked")
DEFAULT_OUT = Line(OWN, 0, "what no rule allows out is blocked")
"""What a profile does by default."""


class Inbound(Enum):
    """What a profile does with what comes in and no rule is about."""

    BLOCK = "block"
    ALLOW = "allow"
    ALWAYS = "always"
    """Block it, and also what a rule allows."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile: whether the firewall is on in it, and what it does by default."""

    is_on: bool = True
    inbound: Inbound = Inbound.BLOCK
    blocks_outbound: bool = False


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of one end; no networks and no words: any. ``words`` are known by the host only."""

    networks: tuple[Network, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        """Whether every address is meant."""
        return not self.networks and not self.words


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of one end; no ranges and no words: any. ``words`` are known by the host only."""

    ranges: tuple[PortRange, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        """Whether every port is meant."""
        return not self.ranges and not self.words


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``conditions`` are those that no packet tells, in words: a program, a user.

    ``messages`` are types of ICMP with a code or any; none: any.
    """

    line: Line
    name: str
    inbound: bool
    action: Action
    profiles: frozenset[str] = frozenset(PROFILES)
    enabled: bool = True
    protocol: int | None = None
    messages: tuple[tuple[int, int | None], ...] = ()
    local: Addresses = Addresses()
    remote: Addresses = Addresses()
    local_ports: Ports = Ports()
    remote_ports: Ports = Ports()
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unread:
    """A line that is about the firewall and was not understood, and why."""

    line: Line
    reason: str
    hint: str
    weaker: bool = True


@dataclass(frozen=True, slots=True)
class WindowsFirewall:
    """All that was read. ``profile`` is the one that is meant, "" for what holds in all of them.

    ``profiles`` are those of which it was read what they do by default; of others it is assumed.
    """

    rules: tuple[Rule, ...]
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    unread: tuple[Unread, ...] = ()
    other_lines: int = 0
    profile: str = ""

    @property
    def meant(self) -> tuple[str, ...]:
        """The profiles that are meant."""
        return (self.profile,) if self.profile else PROFILES

    def default(self, profile: str) -> Profile:
        """What a profile does by default."""
        return self.profiles.get(profile, Profile())
