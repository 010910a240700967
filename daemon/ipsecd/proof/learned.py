"""Owns which permits the packets that audit rules noted ask for; must not know who noted them.

Invariants, for the policy with the permits, where its audit rules are blocks:

1. It permits every flow that was noted, whatever port the client has, but for those that are named
   as ``refused``.
2. Whatever the policy blocks and no permit that was learned covers, it still blocks.
3. A permit is wider than the packets that were seen only in the ways that are said below, and
   nowhere where it would let through what another rule blocks, as far as that could be proven.

Peers of one service become ``*`` if they are in many networks, else the prefixes that hold only
peers that were seen, or, where that is asked for, the least prefix of those in one network. The
port of a client is any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ipsecd.compiler.classifier import Lookups
from ipsecd.compiler.policy import compile_filters
from ipsecd.errors import LimitExceeded
from ipsecd.language.seen import assumed_types
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.flows import Flow
from ipsecd.model.kinds import InterfaceType
from ipsecd.model.packets import Host, Packet
from ipsecd.model.source_ports import EPHEMERAL
from ipsecd.model.values import (
    MAX_NAME,
    MAX_PORT,
    PROTOCOLS_WITH_PORTS,
    Action,
    Conditions,
    InForce,
    Origin,
    Policy,
    Rule,
    Store,
    filters_of,
)
from ipsecd.proof.changes import Surroundings, changes
from ipsecd.proof.permits import Permit, Service, proposed, service_of
from ipsecd.proof.standing import with_stand_ins

MOST_CLIENT_PORTS = 100
Types = Mapping[str, InterfaceType | None]
NO_TYPES: Types = {}


@dataclass(frozen=True, slots=True)
class LearnedRule:
    """A rule of permits that stands beside the audit rule ``audit``, with its conditions."""

    name: str
    audit: str
    permits: tuple[Permit, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned: the policy with the permits, and what of the flows is not in them.

    ``settled`` are flows that no audit rule of the policy decides about any more, as it is written.
    ``refused`` are those that nothing narrower than the audit rule's own filter could permit.
    ``is_proven`` is whether it is proven that no permit lets through what another rule blocks;
    ``overruled`` are the names of such rules that permits which are as narrow as can be overrule.
    """

    policy: Policy
    rules: tuple[LearnedRule, ...]
    settled: tuple[Flow, ...] = ()
    refused: tuple[Flow, ...] = ()
    overruled: tuple[str, ...] = ()
    is_proven: bool = True


def learn(
    policy: Policy,
    audits: Iterable[str],
    flows: Iterable[Flow],
    host: Host,
    *,
    types: Types = NO_TYPES,
    widen: int | None = None,
) -> Learned:
    """What `flows` ask of `policy`, whose rules called `audits` noted them.

    `types` are the links of `host`. `widen` is the shortest prefix of IPv4 in bits that peers of
    a service may share, and then 64 bits for IPv6; None for none that holds others.
    """
    rules = {rule.name: rule for rule in policy.rules if rule.action is not Action.PERMIT}
    noted = {name: rules[name] for name in audits if name in rules}
    enforced = filters_of(_enforced(policy), Store.STATIC)
    (standing,), host, _ = with_stand_ins([enforced], host)
    judge = _Judge(standing, host, types)
    wanted: dict[Flow, tuple[Packet, ...]] = {}
    settled = []
    for flow in dict.fromkeys(flows):
        rule = noted.get(flow.rule)
        packets = judge.noted_packets(flow, rule.conditions) if rule else ()
        if packets:
            wanted[flow] = packets
        else:
            settled.append(flow)
    names = _names(policy, noted)
    found = _Search(judge, {name: rule.conditions for name, rule in noted.items()}, names, widen)
    found.search(wanted)
    learned = [
        LearnedRule(names[name], name, tuple(found.permits[name]))
        for name in noted
        if found.permits.get(name)
    ]
    return Learned(
        _with(policy, learned, noted),
        tuple(learned),
        tuple(settled),
        tuple(found.refused),
        tuple(sorted(found.overruled)),
        found.is_proven,
    )


def _enforced(policy: Policy) -> Policy:
    """The rules of the policy as it is enforced: whatever is no permit is a block."""
    actions = (Action.PERMIT if r.action is Action.PERMIT else Action.BLOCK for r in policy.rules)
    rules = (replace(r, action=action) for r, action in zip(policy.rules, actions, strict=True))
    return Policy(policy.name, tuple(rules))


def _names(policy: Policy, noted: Mapping[str, Rule]) -> dict[str, str]:
    """The name of the rule of permits for each audit rule: one that is there is added to."""
    rules = {rule.name: rule for rule in policy.rules}
    taken = {rule.name for rule in policy.resting}
    names: dict[str, str] = {}
    for name, audit in noted.items():
        number = 1
        while True:
            suffix = f" {number}" if number > 1 else ""
            own = f"Learned from {name}"[: MAX_NAME - len(suffix)].rstrip() + suffix
            there = rules.get(own)
            mine = there is None or (
                there.action is Action.PERMIT and there.conditions == audit.conditions
            )
            if mine and own not in taken and own not in names.values():
                break
            number += 1
        names[name] = own
    return names


def _with(policy: Policy, learned: Sequence[LearnedRule], noted: Mapping[str, Rule]) -> Policy:
    rules = {rule.name: rule for rule in policy.rules}
    for one in learned:
        filters = tuple(permit.filter for permit in one.permits)
        there = rules[one.name].filters if one.name in rules else ()
        conditions = noted[one.audit].conditions
        policy = policy.with_rule(Rule(one.name, (*there, *filters), Action.PERMIT, conditions))
    return policy


class _Judge:
    """What the policy, with its audit rules enforced, does with packets of flows on a host."""

    def __init__(self, filters: Sequence[InForce], host: Host, types: Types) -> None:
        self.filters = filters
        self.host = host
        self.types = types
        self._lookups = self._compiled(filters)
        self._client_ports = {
            at_source: _told_apart(filters, at_source=at_source) for at_source in (True, False)
        }

    def noted_packets(self, flow: Flow, conditions: Conditions) -> tuple[Packet, ...]:
        """The packets of `flow` that its rule decides about.

        They open a connection, or are part of one, and come from a client at any port that makes a
        difference.
        """
        ways = [self._packet(flow, port) for port in self._ports_of(flow)]
        if not conditions.opening:
            ways += [replace(packet, opening=False) for packet in ways]
        verdicts = ((way, self._lookups.verdict(way)) for way in ways)
        return tuple(
            way
            for way, verdict in verdicts
            if verdict.action is Action.BLOCK
            and verdict.origin is not None
            and verdict.origin.rule == flow.rule
        )

    def blocked(
        self, permits: Iterable[InForce], wanted: Mapping[Flow, Sequence[Packet]]
    ) -> list[Flow]:
        """Those of the flows that are blocked in spite of `permits`."""
        lookups = self._compiled([*self.filters, *permits])
        return [
            flow
            for flow, packets in wanted.items()
            if any(lookups.verdict(packet).action is Action.BLOCK for packet in packets)
        ]

    def _compiled(self, filters: Iterable[InForce]) -> Lookups:
        return Lookups(compile_filters(filters, lists=self.host.lists), self.host)

    def _ports_of(self, flow: Flow) -> Sequence[int]:
        """The ports of its client: one from each range that no filter tells apart."""
        if flow.protocol not in PROTOCOLS_WITH_PORTS:
            return (0,)
        return self._client_ports[flow.source_port is None]

    def _packet(self, flow: Flow, client_port: int) -> Packet:
        has_ports = flow.protocol in PROTOCOLS_WITH_PORTS
        return Packet(
            flow.point,
            flow.family,
            flow.source,
            flow.destination,
            flow.protocol,
            (flow.source_port or client_port) if has_ports else None,
            (flow.destination_port or client_port) if has_ports else None,
            {**assumed_types(flow.interface), **self.types}[flow.interface],
            icmp_type=flow.icmp_type,
            icmp_code=flow.icmp_code,
            interface=flow.interface,
        )


def _told_apart(filters: Iterable[InForce], *, at_source: bool) -> tuple[int, ...]:
    """The first port of each range that `filters` tell apart, at the source or the destination.

    Where they are many, only the first of them: clients have few ports by which anybody filters.
    """
    firsts = {EPHEMERAL, 1}
    for member in (one.filter for one in filters):
        ends = (member.source, member.destination)
        sides = ends if member.mirrored else ends[:1] if at_source else ends[1:]
        for ports in (ports for end in sides for ports in end.ports):
            firsts |= {ports.first, ports.last + 1}
    return tuple(sorted(firsts - {MAX_PORT + 1}, key=lambda port: (port != EPHEMERAL, port)))[
        :MOST_CLIENT_PORTS
    ]


class _Search:
    """Looks for as few and as narrow permits as make sense, from the widest on."""

    def __init__(
        self,
        judge: _Judge,
        conditions: Mapping[str, Conditions],
        names: Mapping[str, str],
        widen: int | None,
    ) -> None:
        self._judge, self._conditions, self._names = judge, conditions, names
        self._widen = widen
        self._narrow: set[Service] = set()
        self.permits: dict[str, list[Permit]] = {}
        self.refused: list[Flow] = []
        self.overruled: set[str] = set()
        self.is_proven = True

    def search(self, wanted: Mapping[Flow, Sequence[Packet]]) -> None:
        """Find the permits for the flows of all packets that are `wanted`."""
        while True:
            self.permits = proposed(wanted, self._service, self._narrow, self._widen)
            blocked = self._judge.blocked(self._in_force(), wanted)
            too_wide = {self._service(flow) for flow in blocked} - self._narrow
            if not too_wide and blocked:
                # Nothing is narrower. Without them the others may share more.
                self.refused += blocked
                wanted = {flow: wanted[flow] for flow in wanted.keys() - set(blocked)}
                continue
            too_wide = too_wide or self._overruling()
            if not too_wide:
                return
            self._narrow |= too_wide

    def _service(self, flow: Flow) -> Service:
        return service_of(flow, self._judge.host)

    def _in_force(self) -> list[InForce]:
        policy = self._judge.filters[0].origin.policy if self._judge.filters else ""
        return [
            InForce(
                Origin(Store.STATIC.value, policy, self._names[rule]),
                permit.filter,
                Action.PERMIT,
                self._conditions[rule],
            )
            for rule, permits in self.permits.items()
            for permit in permits
        ]

    def _overruling(self) -> set[Service]:
        """The services whose permits let through what rules block that are no audit rules."""
        permits = self._in_force()
        if not permits:
            return set()
        before = self._judge.filters
        surroundings = Surroundings(self._judge.host, ESSENTIALS, dict(self._judge.types))
        try:
            found = changes(before, [*before, *permits], surroundings)
        except LimitExceeded:
            self.is_proven = False
            return set()
        self.is_proven = not found.more
        self.overruled = set()
        services: set[Service] = set()
        for one in found.examples:
            blocking, by = one.before.by, one.now.by
            if blocking is None or by is None or blocking.origin.rule in self._conditions:
                continue
            self.overruled.add(blocking.origin.rule)
            services |= {
                self._service(flow)
                for those in self.permits.values()
                for permit in those
                if permit.filter == by.filter
                for flow in permit.flows
            }
        return services - self._narrow
