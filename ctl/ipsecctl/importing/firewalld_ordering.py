"""Owns the rules of firewalld as one ordered list; must not know how packets are evaluated.

The list of what arrives is, zone after zone as packets get into them: the policies before the
zone, the zone, the policies behind it, and its target. A clause of a zone is limited to the zone's
sources and links, so what is not in it goes on to the next; the default zone comes last, for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from ipsecctl.importing.firewalld import (
    ACCEPT,
    ACCEPTS_CONNECTIONS,
    ACCEPTS_LOOPBACK,
    ANY_ZONE,
    CONTINUE,
    DEFAULT,
    DROPS_INVALID,
    HOST_ZONE,
    REJECTS_FORWARDED,
    Configuration,
    Named,
    Policy,
    PortOf,
    RichRule,
    Traffic,
    Zone,
)
from ipsecctl.importing.firewalld_regions import (
    Part,
    Unknown,
    any_icmp,
    both,
    everything,
    of_item,
    of_rich,
    of_service,
    of_side,
    of_source_port,
)
from ipsecctl.importing.regions import Dim, Links, Region, Spans, covers
from ipsecctl.importing.source import (
    Clause,
    Hook,
    Kind,
    Line,
    Note,
    State,
)
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action
from ipsecd.quoting import quote

Parts = tuple[Part, ...]
_CONNECTIONS: Spans = ((State.ESTABLISHED, State.RELATED),)
_INVALID: Spans = ((State.INVALID, State.INVALID),)


DHCP_CLIENT = "dhcpv6-client"
_ESSENTIAL = (
    Kind.CHANGED,
    "what answers the host's own DHCP client passes by itself, as one of the essentials",
    "nothing, unless the essential dhcp-client is switched off",
)


def links_of(configuration: Configuration) -> Links:
    """The links that zones name."""
    names = (one.name for zone in configuration.zones.values() for one in zone.interfaces)
    return Links.of(map(_pattern, names))


def _pattern(name: str) -> str:
    return f"{name[:-1]}*" if name.endswith("+") else name


class FirewalldOrder:
    """Makes the list, and notes what cannot be in it."""

    def __init__(self, configuration: Configuration) -> None:
        self._all = configuration
        self.links = links_of(configuration)
        self.notes: list[Note] = []
        self.clauses: list[Clause] = []
        is_sending_judged = any(HOST_ZONE in one.ingress for one in configuration.policies)
        self.hooks = (Hook.IN, *([Hook.OUT] if is_sending_judged else []), Hook.FORWARD)

    def run(self) -> None:
        """Make the lists of all hooks."""
        zones = list(self._dispatched(Dim.SOURCE, Dim.LINK))
        for hook in self.hooks:
            self._before_zones(hook)
        for zone, parts in zones:
            self._received(zone, parts)
        if Hook.OUT in self.hooks:
            to = list(self._dispatched(Dim.DESTINATION, Dim.LINK, quiet=True))
            for zone, parts in _apart(to, self._policies_to):
                self._sent(zone, parts)
        to = list(self._dispatched(Dim.DESTINATION, Dim.OUT_LINK, quiet=True))
        for here, parts in zones:
            for there, others in _apart(to, partial(self._way, here)):
                self._through(here, there, both(parts, others))
        self._put(Hook.FORWARD, everything(), Action.BLOCK, REJECTS_FORWARDED)

    def _before_zones(self, hook: Hook) -> None:
        first: list[tuple[Region, Action, Line]] = [
            ({Dim.STATE: _CONNECTIONS}, Action.PERMIT, ACCEPTS_CONNECTIONS)
        ]
        first += [({Dim.LINK: self.links.matching("lo")}, Action.PERMIT, ACCEPTS_LOOPBACK)]
        if hook is not Hook.OUT:
            first += [({Dim.STATE: _INVALID}, Action.BLOCK, DROPS_INVALID)]
        for region, action, line in first:
            self._put(hook, tuple(Part(family, region) for family in Family), action, line)

    def _dispatched(
        self, address: Dim, link: Dim, *, quiet: bool = False
    ) -> Iterator[tuple[Zone, Parts]]:
        """The zones in the order in which packets get into them, each with what gets in."""
        zones = sorted(self._all.zones.values(), key=lambda one: (one.ingress_priority, one.name))
        for priority in sorted({zone.ingress_priority for zone in zones}):
            here = [zone for zone in zones if zone.ingress_priority == priority]
            for zone in here:
                for side, line in zone.sources:
                    try:
                        yield zone, of_side(self._all, side, address)
                    except Unknown as error:
                        if not quiet:
                            self._note_zone(zone, line, str(error))
            for zone in here:
                for one in zone.interfaces:
                    if not self._is_default(zone, one):
                        there = self.links.matching(_pattern(one.name))
                        yield zone, tuple(Part(family, {link: there}) for family in Family)
        yield self._all.zones[self._all.default_zone], everything()

    def _is_default(self, zone: Zone, link: Named) -> bool:
        """Whether packets of a link of the default zone get there without being named."""
        others = [one for one in self._all.zones.values() if one.name != zone.name]
        return (
            zone.name == self._all.default_zone
            and not any(one.ingress_priority for one in self._all.zones.values())
            and not any(_overlap(link, each) for one in others for each in one.interfaces)
        )

    def _policies_to(self, zone: Zone) -> tuple[str, ...]:
        """The policies for what this host sends into a zone, by name."""
        return tuple(
            one.name
            for one in self._all.policies
            if HOST_ZONE in one.ingress and {zone.name, ANY_ZONE} & set(one.egress)
        )

    def _way(self, here: Zone, there: Zone) -> tuple[object, ...]:
        """All that tells apart what goes from one zone to others."""
        policies = (one.name for one in self._all.policies if _is_between(one, here, there))
        opens = here.target == ACCEPT or (here.target == DEFAULT and there.target == ACCEPT)
        return (opens, bool(here.forward) and here is there, *policies)

    def _note_zone(self, zone: Zone, line: Line, reason: str) -> None:
        self._note(
            line,
            Kind.LEFT_OUT,
            f"{reason}, so its packets count for the zone of their link",
            "put the addresses of these machines into the zone instead",
            weaker=not _is_open(zone),
        )

    def _received(self, zone: Zone, parts: Parts) -> None:
        policies = [
            one
            for one in self._all.policies
            if HOST_ZONE in one.egress and {zone.name, ANY_ZONE} & set(one.ingress)
        ]
        self._policies(Hook.IN, policies, parts, before=True)
        self._traffic(Hook.IN, zone.traffic, parts)
        self._policies(Hook.IN, policies, parts, before=False)
        inverted = zone.traffic.icmp_inversion
        if zone.target == DEFAULT or (zone.target == ACCEPT and inverted):
            action = Action.BLOCK if inverted else Action.PERMIT
            self._put(Hook.IN, both(parts, any_icmp()), action, zone.line)
        self._put(Hook.IN, parts, _of_target(zone.target), zone.line)

    def _sent(self, zone: Zone, parts: Parts) -> None:
        policies = [
            one
            for one in self._all.policies
            if HOST_ZONE in one.ingress and {zone.name, ANY_ZONE} & set(one.egress)
        ]
        self._policies(Hook.OUT, policies, parts, before=True)
        self._policies(Hook.OUT, policies, parts, before=False)
        self._put(Hook.OUT, parts, Action.PERMIT, zone.line)

    def _through(self, here: Zone, there: Zone, parts: Parts) -> None:
        policies = [one for one in self._all.policies if _is_between(one, here, there)]
        self._policies(Hook.FORWARD, policies, parts, before=True)
        if not here.traffic.icmp_inversion:
            for item in here.traffic.icmp_blocks:
                self._put(Hook.FORWARD, both(parts, of_item(item)), Action.BLOCK, item.line)
        if here.forward and here is there:
            self._put(Hook.FORWARD, both(parts, self._named(here)), Action.PERMIT, here.forward)
        self._policies(Hook.FORWARD, policies, parts, before=False)
        opens = here.target == ACCEPT or (here.target == DEFAULT and there.target == ACCEPT)
        line = here.line if here.target != DEFAULT else there.line
        self._put(Hook.FORWARD, parts, Action.PERMIT if opens else Action.BLOCK, line)

    def _named(self, zone: Zone) -> Parts:
        """What leaves by the links or to the sources that a zone names."""
        parts: list[Part] = []
        for one in zone.interfaces:
            there = self.links.matching(_pattern(one.name))
            parts += [Part(family, {Dim.OUT_LINK: there}) for family in Family]
        for side, _ in zone.sources:
            try:
                parts += of_side(self._all, side, Dim.DESTINATION)
            except Unknown:
                continue
        return tuple(parts)

    def _policies(
        self, hook: Hook, policies: Sequence[Policy], parts: Parts, *, before: bool
    ) -> None:
        for policy in policies:
            if (policy.priority < 0) is before:
                self._traffic(hook, policy.traffic, parts)
                if policy.target != CONTINUE:
                    self._put(hook, parts, _of_target(policy.target), policy.line)

    def _traffic(self, hook: Hook, traffic: Traffic, parts: Parts) -> None:
        """What a zone or policy says: below zero, denying, allowing, above zero."""
        decide = [one for one in traffic.rich if one.action]
        by_priority = sorted(decide, key=lambda one: (one.priority, one.action == "accept"))
        self._rich(hook, (one for one in by_priority if one.priority < 0), parts)
        now = [one for one in by_priority if not one.priority]
        self._rich(hook, (one for one in now if one.action != "accept"), parts)
        if not traffic.icmp_inversion:
            for item in traffic.icmp_blocks:
                self._put(hook, both(parts, of_item(item)), Action.BLOCK, item.line)
        self._rich(hook, (one for one in now if one.action == "accept"), parts)
        for named in traffic.services:
            if named.name == DHCP_CLIENT:
                self._note(named.line, *_ESSENTIAL)
                continue
            met = both(parts, tuple(of_service(self._all, named.name)))
            self._put(hook, met, Action.PERMIT, named.line)
        for item in (*traffic.ports, *traffic.protocols):
            self._put(hook, both(parts, of_item(item)), Action.PERMIT, item.line)
        for item in traffic.source_ports:
            assert isinstance(item.value, PortOf)
            self._put(hook, both(parts, of_source_port(item.value)), Action.PERMIT, item.line)
        if traffic.icmp_inversion:
            for item in traffic.icmp_blocks:
                self._put(hook, both(parts, of_item(item)), Action.PERMIT, item.line)
        self._rich(hook, (one for one in by_priority if one.priority > 0), parts)

    def _rich(self, hook: Hook, rules: Iterable[RichRule], parts: Parts) -> None:
        for rule in rules:
            permits = rule.action == "accept"
            try:
                found = of_rich(self._all, rule)
            except Unknown as error:
                self._note(
                    rule.line,
                    Kind.LEFT_OUT,
                    str(error),
                    "write the rule with addresses",
                    weaker=not permits,
                )
                continue
            if rule.limit:
                self._note_limit(rule)
                if permits:
                    continue
            action = Action.PERMIT if permits else Action.BLOCK
            self._put(hook, both(parts, found), action, rule.line)

    def _note_limit(self, rule: RichRule) -> None:
        rate = f"no rate of packets, such as {quote(rule.limit)}, is part of a policy"
        if rule.action == "accept":
            hint = "permit it without a rate, if that is enough, or limit it in the service itself"
            self._note(rule.line, Kind.LEFT_OUT, f"{rate}; it is not permitted", hint)
        else:
            hint = "nothing, unless what is below the rate's limit has to be blocked only"
            self._note(rule.line, Kind.CHANGED, f"{rate}; it is blocked at any rate", hint)

    def _put(self, hook: Hook, parts: Parts, action: Action, line: Line) -> None:
        self.clauses += [
            Clause(hook, part.family, part.region, action, line, part.set_name) for part in parts
        ]

    def _note(
        self, line: Line, kind: Kind, reason: str, hint: str, *, weaker: bool = False
    ) -> None:
        note = Note(line, kind, reason, hint, weaker)
        if note not in self.notes:
            self.notes.append(note)


def _apart(
    zones: list[tuple[Zone, Parts]], what: Callable[[Zone], object]
) -> list[tuple[Zone, Parts]]:
    """The zones in their order, without those just before the last that are no different from it.

    The last is for all packets, so it has theirs, too.
    """
    last = zones[-1]
    kept = zones[:-1]
    while kept and what(kept[-1][0]) == what(last[0]):
        kept.pop()
    return [*kept, last]


def _is_between(policy: Policy, here: Zone, there: Zone) -> bool:
    """Whether a policy is for what goes from one zone to another."""
    return bool(
        {here.name, ANY_ZONE} & set(policy.ingress) and {there.name, ANY_ZONE} & set(policy.egress)
    )


def _overlap(one: Named, other: Named) -> bool:
    """Whether a link can be meant by both names."""
    first, second = _pattern(one.name), _pattern(other.name)
    return covers(first, second.removesuffix("*")) or covers(second, first.removesuffix("*"))


def _of_target(target: str) -> Action:
    return Action.PERMIT if target == ACCEPT else Action.BLOCK


def _is_open(zone: Zone) -> bool:
    """Whether a zone blocks nothing."""
    denies = any(rule.action in {"reject", "drop"} for rule in zone.traffic.rich)
    blocks_icmp = zone.traffic.icmp_blocks or zone.traffic.icmp_inversion
    return zone.target == ACCEPT and not denies and not blocks_icmp
