"""Owns what the files of firewalld say, as values; must not know XML, nor what becomes of packets.

Reading them, evaluating them and translating them are three modules that share these values alone.
Every value has the file and line that it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ipsecctl.importing.source import Line
from ipsecd.model.addresses import Family, Network
from ipsecd.model.values import PortRange

CONTINUE = "CONTINUE"
ACCEPT, REJECT, DROP, DEFAULT = "ACCEPT", "REJECT", "DROP", "default"
"""The targets. ``default`` rejects what nothing before it let pass, but lets ICMP pass."""
ANY_ZONE, HOST_ZONE = "ANY", "HOST"
"""Words of policies in the place of a zone: any zone, and this host itself."""


_OWN = "firewalld"
ACCEPTS_CONNECTIONS = Line(_OWN, 0, "packets of open connections pass, before all zones")
ACCEPTS_LOOPBACK = Line(_OWN, 0, "what comes over lo passes, before all zones")
DROPS_INVALID = Line(_OWN, 0, "invalid packets are dropped, before all zones")
REJECTS_FORWARDED = Line(_OWN, 0, "what passes through is rejected, behind all zones")
"""What firewalld does whatever its files say (firewalld(1))."""


@dataclass(frozen=True, slots=True)
class PortOf:
    """A range of ports of one protocol, which is given by its number."""

    protocol: int
    ports: PortRange


@dataclass(frozen=True, slots=True)
class IcmpOf:
    """A type of ICMP in each IP version, with a code or any; None: it has no such message."""

    name: str
    ipv4: tuple[int, int | None] | None
    ipv6: tuple[int, int | None] | None


@dataclass(frozen=True, slots=True)
class Service:
    """What a service stands for. ``destinations`` limit it; none of a version: it is for any.

    If there are any, and none of one IP version, the service has no packets of that version.
    """

    name: str
    ports: tuple[PortOf, ...] = ()
    protocols: tuple[int, ...] = ()
    source_ports: tuple[PortOf, ...] = ()
    destinations: tuple[Network, ...] = ()
    includes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IpSet:
    """A set of addresses. ``reason`` says why it is none that can be a list here."""

    name: str
    line: Line
    kind: str = "hash:ip"
    family: Family = Family.IPV4
    entries: tuple[Network, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """One end of traffic: a network, an ipset or a hardware address; all else if ``inverted``."""

    network: Network | None = None
    ipset: str = ""
    mac: str = ""
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """Something that a zone or a policy names, and where."""

    name: str
    line: Line


@dataclass(frozen=True, slots=True)
class Element:
    """What a rich rule is for; the first of these that is given. Nothing: for any traffic."""

    service: str = ""
    port: PortOf | None = None
    source_port: PortOf | None = None
    protocol: int | None = None
    icmp: IcmpOf | None = None
    blocks_icmp: bool = False


@dataclass(frozen=True, slots=True)
class RichRule:
    """A rich rule. ``action`` is accept, reject, drop, or "" where it decides nothing.

    ``limit`` is the text of the limit of the action; ``other`` names what has no part in blocking.
    """

    line: Line
    priority: int = 0
    version: int | None = None
    source: Side | None = None
    destination: Side | None = None
    element: Element = field(default_factory=Element)
    action: str = ""
    limit: str = ""
    other: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """A port, source port, protocol or blocked type of ICMP of a zone or policy, and where."""

    line: Line
    value: PortOf | IcmpOf | int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a zone or a policy says of the traffic that is its own."""

    services: tuple[Named, ...] = ()
    ports: tuple[Item, ...] = ()
    protocols: tuple[Item, ...] = ()
    source_ports: tuple[Item, ...] = ()
    icmp_blocks: tuple[Item, ...] = ()
    icmp_inversion: bool = False
    rich: tuple[RichRule, ...] = ()
    other: tuple[Named, ...] = ()
    """What has no part in blocking, or is not understood."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone: whose traffic it is, what of it passes, and what becomes of the rest."""

    name: str
    line: Line
    target: str = DEFAULT
    interfaces: tuple[Named, ...] = ()
    sources: tuple[tuple[Side, Line], ...] = ()
    traffic: Traffic = Traffic()
    forward: Line | None = None
    """Where it says that packets pass from it into itself."""
    ingress_priority: int = 0
    egress_priority: int = 0
    stock: bool = False
    """Whether it is the one that firewalld brings."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy: rules for what goes from zones to zones, before or behind those of zones."""

    name: str
    line: Line
    target: str = CONTINUE
    priority: int = -1
    ingress: tuple[str, ...] = ()
    egress: tuple[str, ...] = ()
    traffic: Traffic = Traffic()


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that was read. ``direct`` are the rules of direct.xml, ``settings`` firewalld.conf's."""

    zones: Mapping[str, Zone]
    policies: tuple[Policy, ...]
    services: Mapping[str, Service]
    ipsets: Mapping[str, IpSet]
    default_zone: str
    direct: tuple[Named, ...] = ()
    settings: Mapping[str, Named] = field(default_factory=dict)
    from_table: frozenset[str] = frozenset()
    """Services that no file describes, which are taken as they are known here."""

    def service(self, name: str) -> tuple[Service, ...]:
        """The service called `name` with all that it includes; nothing if it is not known."""
        found: dict[str, Service] = {}
        waiting = [name]
        while waiting:
            one = waiting.pop()
            if one in self.services and one not in found:
                found[one] = self.services[one]
                waiting += found[one].includes
        return tuple(found.values())
