"""Owns the values that users write: filters, rules and policies; must not know any syntax.

Invariants:

1. Every value is immutable and valid: constructors raise ``InvalidInput``.
2. Addresses are integers in host order beside their family; a network has no host bits set.
3. Ports of one endpoint are disjoint, sorted ranges; no range at all means any port.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from itertools import pairwise

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import (
    Address,
    Family,
    HostName,
    Keyword,
    ListName,
    Network,
    Process,
    Selector,
)
from ipsecd.model.expectations import Expectation, each_once
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.kinds import ALWAYS, Action, Conditions, InterfaceType, LinkName
from ipsecd.quoting import quote

__all__ = [
    "ALWAYS",
    "DCCP",
    "ICMP",
    "ICMP_VERSIONS",
    "IPV6_EXTENSION_HEADERS",
    "MAX_NAME",
    "MAX_PORT",
    "PROTOCOLS_WITH_PORTS",
    "SCTP",
    "TCP",
    "UDP",
    "UDPLITE",
    "Action",
    "Conditions",
    "Endpoint",
    "Facts",
    "Filter",
    "IcmpOfFamily",
    "InForce",
    "InterfaceType",
    "LinkName",
    "Origin",
    "Policy",
    "PortRange",
    "Rule",
    "Store",
    "check_name",
    "filters_of",
]

MAX_PORT = 65535
MAX_NAME = 256


_FAMILIES = frozenset(Family)
_ALONE = {family: frozenset({family}) for family in Family}


class Store(Enum):
    """Where a filter lives, and so how long."""

    STATIC = "static"
    DOMAIN = "domain"
    DYNAMIC = "dynamic"
    CONFIGURATION = "configuration"
    """The daemon's settings. They hold no policies, only filters that nothing may outrank."""


class IcmpOfFamily(Enum):
    """The protocol ``ICMP``: number 1 in IPv4 and number 58 in IPv6."""

    ICMP = "ICMP"

    def number(self, family: Family) -> int:
        """The protocol number that carries ICMP in `family`."""
        return 1 if family is Family.IPV4 else 58


ICMP = IcmpOfFamily.ICMP
ICMP_VERSIONS: dict[int | IcmpOfFamily | None, frozenset[int]] = {
    ICMP: frozenset({4, 6}),
    1: frozenset({4}),
    58: frozenset({6}),
}
"""The protocols that have messages of ICMP, and in which IP versions."""

TCP, UDP, DCCP, SCTP, UDPLITE = 6, 17, 33, 132, 136
PROTOCOLS_WITH_PORTS = frozenset({TCP, UDP, DCCP, SCTP, UDPLITE})

IPV6_EXTENSION_HEADERS = frozenset({0, 43, 44, 51, 60})
"""Protocol numbers that in IPv6 are headers to be seen through (RFC 8200, RFC 4302)."""


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Ports from ``first`` to ``last``, both included, 1 to 65535."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= MAX_PORT or not 1 <= self.last <= MAX_PORT:
            raise InvalidInput(
                f"port {self.first if not 1 <= self.first <= MAX_PORT else self.last} "
                f"is not between 1 and {MAX_PORT}",
                "leave the port out, or write 0 or *, for any port",
            )
        if self.first > self.last:
            raise InvalidInput(
                f"port range {self.first}-{self.last} ends before it begins",
                f"write {self.last}-{self.first}",
            )

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    @property
    def width(self) -> int:
        """How many ports the range holds."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side of a filter: an address and the ports at it (none given: any)."""

    address: Address = Keyword.ANY
    ports: tuple[PortRange, ...] = ()

    def __post_init__(self) -> None:
        if self.ports == ():
            return
        order = sorted(set(self.ports))
        for left, right in pairwise(order):
            if right.first <= left.last:
                raise InvalidInput(
                    f"ports {left.first}-{left.last} and {right.first}-{right.last} overlap",
                    "name every port once",
                )
        object.__setattr__(self, "ports", tuple(order))


@dataclass(frozen=True, slots=True)
class Filter:
    """A match on one packet, one way or mirrored.

    ``protocol`` is a number from 0 to 255, ``ICMP``, or None for any. Ports without a protocol
    stand for TCP and UDP. ``message`` is of the IP versions that the protocol belongs to.
    """

    source: Endpoint
    destination: Endpoint
    protocol: int | IcmpOfFamily | None = None
    mirrored: bool = False
    message: IcmpMessage | None = None
    # Found out when it is first asked for: filters are compared with those of other policies in
    # several ways, and each time it took as long as reading the filter.
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        number = self.protocol
        if self.message is not None:
            if number not in ICMP_VERSIONS:
                raise InvalidInput("only ICMP has types", "name ICMP or ICMPv6 as the protocol")
            object.__setattr__(self, "message", self.message.within(ICMP_VERSIONS[number]))
        if isinstance(number, int) and not 0 <= number <= 255:
            raise InvalidInput(f"protocol {number} is not between 0 and 255")
        if self.has_ports and number is not None and number not in PROTOCOLS_WITH_PORTS:
            raise InvalidInput(
                f"protocol {number if isinstance(number, int) else number.value} has no ports",
                "leave the port empty, as in *=0::ICMP, or name TCP, UDP or SCTP",
            )
        if isinstance(self.destination.address, Process) or (
            self.mirrored and isinstance(self.source.address, Process)
        ):
            raise InvalidInput(
                "local processes cannot be a destination",
                "they are known by what they send: name them on the left, with =",
            )
        if not self.families:
            raise InvalidInput(
                "the filter matches neither IPv4 nor IPv6 packets",
                "both addresses must be of one IP version, which must have the type of ICMP if "
                "one is given, and extension headers of IPv6 "
                "(protocols 0, 43, 44, 51, 60) are seen through, so no IPv6 packet has one of "
                "them as its protocol",
            )

    def __hash__(self) -> int:
        """As the fields say, of which two equal filters have equal ones."""
        if not self._hash:
            ends = (self.source, self.destination)
            parts = (*ends, self.protocol, self.mirrored, self.message)
            object.__setattr__(self, "_hash", hash(parts))
        return self._hash

    @property
    def has_ports(self) -> bool:
        """Whether either side names ports."""
        return bool(self.source.ports or self.destination.ports)

    @property
    def protocols(self) -> tuple[int | IcmpOfFamily | None, ...]:
        """What ``protocol`` stands for: TCP and UDP when only ports are given."""
        if self.protocol is None and self.has_ports:
            return (TCP, UDP)
        return (self.protocol,)

    @property
    def families(self) -> frozenset[Family]:
        """The IP versions whose packets can match. An unresolved name counts as both."""
        families = _FAMILIES
        for address in (self.source.address, self.destination.address):
            if isinstance(address, Network):
                families &= _ALONE[address.family]
            elif isinstance(address, HostName | Selector) and address.addresses:
                families &= {network.family for network in address.addresses}
        if self.protocol in IPV6_EXTENSION_HEADERS:
            families -= {Family.IPV6}
        if self.message is not None:
            families -= {family for family in families if self.message.number(family) is None}
        return families


@dataclass(frozen=True, slots=True)
class Rule:
    """A named list of filters with one action, for packets under some conditions or always."""

    name: str
    filters: tuple[Filter, ...]
    action: Action
    conditions: Conditions = ALWAYS

    def __post_init__(self) -> None:
        check_name("rule", self.name)
        if not self.filters:
            raise InvalidInput(
                f"rule {quote(self.name)} has no filters",
                'give at least one, such as "*=0:1434:UDP"',
            )
        object.__setattr__(self, "filters", tuple(dict.fromkeys(self.filters)))


@dataclass(frozen=True, slots=True)
class Facts:
    """What is asked of a policy all the time, found out by one look at all of its filters.

    ``actions`` has every rule by its name, ``names`` the DNS names. ``by_name`` are the rules
    with those filters that name containers, lists or local processes, which come and go. Both have
    rules as they are in force.
    """

    actions: Mapping[str, Action]
    filters: int
    names: frozenset[str]
    by_name: tuple[Rule, ...]


@dataclass(frozen=True)
class Policy:
    """A named list of rules; their order has no meaning and their names are unique.

    ``expect`` is what its author expects of it. With ``audit`` every rule that blocks is an audit
    where it is in force; it is still expected to block.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    description: str = ""
    expect: tuple[Expectation, ...] = ()
    audit: bool = False

    def __post_init__(self) -> None:
        check_name("policy", self.name)
        try:
            self.description.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"the description of policy {quote(self.name)} is not text",
                "leave out the half of a surrogate pair in it",
            ) from error
        names: set[str] = set()
        for rule in self.rules:
            if rule.name in names:
                raise InvalidInput(
                    f"policy {quote(self.name)} has two rules named {quote(rule.name)}",
                    "give each rule a name of its own, or put the filters into one rule",
                )
            names.add(rule.name)
        if self.expect:
            object.__setattr__(self, "expect", each_once(self.expect))

    @cached_property
    def facts(self) -> Facts:
        """What is asked of it all the time."""
        names: set[str] = set()
        by_name = []
        for rule in self.rules:
            going: list[Filter] = []
            for flt in rule.filters:
                for address in (flt.source.address, flt.destination.address):
                    if isinstance(address, HostName):
                        names.add(address.name)
                    elif (
                        isinstance(address, Selector | ListName | Process) and flt not in going[-1:]
                    ):
                        going.append(flt)
            if going:
                action = self.action_of(rule)
                by_name.append(replace(rule, filters=tuple(going), action=action))
        return Facts(
            {rule.name: self.action_of(rule) for rule in self.rules},
            sum(len(rule.filters) for rule in self.rules),
            frozenset(names),
            tuple(by_name),
        )

    def action_of(self, rule: Rule) -> Action:
        """The action that one of its rules has where it is in force."""
        return Action.AUDIT if self.audit and rule.action is Action.BLOCK else rule.action

    def with_audit(self, audit: bool) -> Policy:
        """The policy with or without ``audit``."""
        return Policy(self.name, self.rules, self.description, self.expect, audit)

    def with_rule(self, rule: Rule) -> Policy:
        """The policy with `rule` added, in the place of the one that has its name, if any."""
        if any(old.name == rule.name for old in self.rules):
            rules = tuple(rule if old.name == rule.name else old for old in self.rules)
        else:
            rules = (*self.rules, rule)
        return Policy(self.name, rules, self.description, self.expect, self.audit)

    def without_rules(self, names: frozenset[str]) -> Policy:
        """The policy without the rules named in `names`."""
        rules = tuple(rule for rule in self.rules if rule.name not in names)
        return Policy(self.name, rules, self.description, self.expect, self.audit)


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a filter in force was written: its store, policy ("" if dynamic) and rule."""

    store: str
    policy: str
    rule: str

    @property
    def volatile(self) -> bool:
        """Whether the filter is gone when the daemon is stopped."""
        return self.store == Store.DYNAMIC.value

    @property
    def protected(self) -> bool:
        """Whether nothing outranks the filter but others of the settings."""
        return self.store == Store.CONFIGURATION.value


@dataclass(frozen=True, slots=True)
class InForce:
    """One filter in force, with what its rule says about it."""

    origin: Origin
    filter: Filter
    action: Action
    conditions: Conditions = ALWAYS


def filters_of(policy: Policy, store: Store) -> tuple[InForce, ...]:
    """All filters of `policy` as they are in force when it is taken from `store`."""
    return tuple(
        InForce(Origin(store.value, policy.name, rule.name), flt, action, rule.conditions)
        for rule in policy.rules
        for action in (policy.action_of(rule),)
        for flt in rule.filters
    )


def check_name(kind: str, name: str) -> None:
    """Raise ``InvalidInput`` unless `name` can name a policy or rule: printable, 1 to 256 long."""
    if not name or len(name) > MAX_NAME or not name.isprintable() or name != name.strip():
        raise InvalidInput(
            f"{quote(name)} cannot name a {kind}",
            f"use 1 to {MAX_NAME} printable characters with no space at either end",
        )
