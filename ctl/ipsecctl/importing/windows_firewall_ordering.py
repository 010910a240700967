"""Owns the rules of the firewall of Windows as one ordered list; must not know evaluation.

What blocks comes first, then what allows, then the default, and all of it for packets that open a
connection. A rule with a condition that no packet tells is left out and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ipsecctl.importing.regions import Dim, Links, Region, Spans, spans, spans_of
from ipsecctl.importing.source import Clause, Hook, Kind, Line, Note, State
from ipsecctl.importing.windows_firewall import (
    DEFAULT_IN,
    DEFAULT_OUT,
    OWN,
    PROFILES,
    Addresses,
    Inbound,
    Rule,
    WindowsFirewall,
)
from ipsecd.errors import InvalidInput
from ipsecd.language.filters import format_filter
from ipsecd.model.addresses import Family, Keyword, Network
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.kinds import Action
from ipsecd.model.values import Endpoint, Filter
from ipsecd.quoting import count, few

OPEN_CONNECTIONS = Line(OWN, 0, "packets of open connections pass")
OVER_LOOPBACK = Line(OWN, 0, "what a host sends to itself passes")
LINKS = Links.of(())
"""Links have other names here than there."""
_FAMILY_OF = {1: Family.IPV4, 58: Family.IPV6}
_MOST_SHOWN = 4
_HOOK = {True: Hook.IN, False: Hook.OUT}


def clauses_of(firewall: WindowsFirewall) -> Iterator[Clause]:
    """The ordered lists of what comes in and of what goes out."""
    for inbound, hook in _HOOK.items():
        rules = [rule for rule in taken(firewall) if rule.inbound is inbound]
        for family in Family:
            known: Region = {Dim.STATE: ((State.ESTABLISHED, State.RELATED),)}
            yield Clause(hook, family, known, Action.PERMIT, OPEN_CONNECTIONS)
            loopback: Region = {Dim.LINK: LINKS.matching("lo")}
            yield Clause(hook, family, loopback, Action.PERMIT, OVER_LOOPBACK)
            for action in (Action.BLOCK, Action.PERMIT):
                if action is Action.PERMIT and inbound and _ignores_allow(firewall):
                    continue
                for rule in (one for one in rules if one.action is action):
                    yield from _clauses(rule, hook, family)
            if blocks_by_default(firewall, inbound=inbound):
                line = DEFAULT_IN if inbound else DEFAULT_OUT
                yield Clause(hook, family, {}, Action.BLOCK, line)


def taken(firewall: WindowsFirewall) -> list[Rule]:
    """The rules that count in the profiles that are meant, without those that are left out.

    Of several profiles a rule that blocks counts if it is in one, one that allows if it is in all.
    """
    on = _on(firewall)
    return [
        rule
        for rule in united(firewall.rules)
        if rule.enabled and not rule.conditions and counts(rule, on)
    ]


def united(rules: Iterable[Rule]) -> list[Rule]:
    """The rules, where those that differ in name and profiles alone are one."""
    found: dict[Rule, Rule] = {}
    for rule in rules:
        key = replace(rule, line=OPEN_CONNECTIONS, name="", profiles=frozenset())
        before = found.get(key)
        both = rule.profiles | (before.profiles if before else frozenset())
        found[key] = replace(before or rule, profiles=both)
    return list(found.values())


def counts(rule: Rule, on: frozenset[str]) -> bool:
    """Whether a rule counts in the profiles in which the firewall is on."""
    if rule.action is Action.BLOCK:
        return bool(rule.profiles & on)
    return rule.profiles >= on


def _on(firewall: WindowsFirewall) -> frozenset[str]:
    return frozenset(one for one in firewall.meant if firewall.default(one).is_on)


def _ignores_allow(firewall: WindowsFirewall) -> bool:
    return any(firewall.default(one).inbound is Inbound.ALWAYS for one in _on(firewall))


def blocks_by_default(firewall: WindowsFirewall, *, inbound: bool) -> bool:
    """Whether one of the profiles blocks what no rule is about."""
    on = [firewall.default(one) for one in _on(firewall)]
    if inbound:
        return any(one.inbound is not Inbound.ALLOW for one in on)
    return any(one.blocks_outbound for one in on)


def _clauses(rule: Rule, hook: Hook, family: Family) -> Iterator[Clause]:
    if _FAMILY_OF.get(rule.protocol or 0, family) is not family:
        return
    region: dict[Dim, Spans] = {}
    if rule.protocol is not None:
        region[Dim.PROTOCOL] = ((rule.protocol, rule.protocol),)
    if rule.messages:
        region[Dim.MESSAGE] = spans(map(_message, rule.messages))
    ends = [(rule.remote, rule.remote_ports), (rule.local, rule.local_ports)]
    if not rule.inbound:
        ends.reverse()
    dims = ((Dim.SOURCE, Dim.SOURCE_PORT), (Dim.DESTINATION, Dim.DESTINATION_PORT))
    for (addresses, ports), (address, port) in zip(ends, dims, strict=True):
        if not addresses.is_any:
            region[address] = spans_of(_of_family(addresses, family))
        if not ports.is_any:
            region[port] = spans((one.first, one.last) for one in ports.ranges)
    if all(region.values()):
        yield Clause(hook, family, region, rule.action, rule.line, rule.name)


def _message(message: tuple[int, int | None]) -> tuple[int, int]:
    kind, code = message
    first = kind << 8 | (code or 0)
    return first, first if code is not None else first | 255


def _of_family(addresses: Addresses, family: Family) -> list[Network]:
    return [one for one in addresses.networks if one.family is family]


def notes_of(firewall: WindowsFirewall) -> Iterator[Note]:
    """What is not in the lists, or was taken for true."""
    yield from _of_profiles(firewall)
    for one in firewall.unread:
        yield Note(one.line, Kind.LEFT_OUT, one.reason, one.hint, one.weaker)
    for rule in united(firewall.rules):
        yield from _of_rule(rule, firewall)
    if firewall.other_lines:
        yield Note(
            Line(OWN, 0, count(firewall.other_lines, "line")),
            Kind.NO_BLOCKING,
            "what else the script does has no part in the firewall's rules",
            "nothing",
        )


def _of_profiles(firewall: WindowsFirewall) -> Iterator[Note]:
    if not firewall.profile:
        yield Note(
            Line(OWN, 0, "the profiles domain, private and public"),
            Kind.ASSUMED,
            "no profile was named, so what one of them blocks is blocked, and what all of them "
            "allow is allowed",
            "name the one that the host is in: --profile public",
        )
    unknown = [one for one in firewall.meant if one not in firewall.profiles]
    if unknown:
        yield Note(
            Line(OWN, 0, f"what no rule is about, in {few(unknown)}"),
            Kind.ASSUMED,
            "the firewall is taken to be on, to block what comes in and to allow what goes out",
            "give what netsh advfirewall show allprofiles prints, too",
        )


def _of_rule(rule: Rule, firewall: WindowsFirewall) -> Iterator[Note]:
    blocks = rule.action is Action.BLOCK
    if not rule.enabled:
        yield Note(rule.line, Kind.NO_BLOCKING, "the rule is disabled", "nothing")
        return
    on = _on(firewall)
    if not rule.profiles & on:
        yield Note(
            rule.line,
            Kind.NO_BLOCKING,
            f"the rule is for {few(sorted(rule.profiles))}",
            "nothing, unless another profile is meant",
        )
        return
    if rule.conditions:
        yield Note(
            rule.line,
            Kind.LEFT_OUT,
            f"no filter asks for {few(list(rule.conditions))}",
            f"if it is meant for whoever it is: {_command(rule)}",
            weaker=blocks,
        )
        return
    missing = [one for one in PROFILES if one in on - rule.profiles]
    if not counts(rule, on):
        yield Note(
            rule.line,
            Kind.LEFT_OUT,
            f"the rule allows nothing in {few(missing)}",
            "name the profile that the host is in: --profile " + min(rule.profiles & on),
        )
        return
    words = [*rule.remote.words, *rule.local.words, *rule.remote_ports.words]
    words += rule.local_ports.words
    if words:
        yield Note(
            rule.line,
            Kind.LEFT_OUT,
            f"what {few(words)} stands for is known to the Windows host alone",
            "write a rule with the addresses or ports that it stands for here",
            weaker=blocks,
        )


def _command(rule: Rule) -> str:
    """The command that adds the rule without its conditions."""
    ends = [
        (rule.remote, rule.remote_ports, Keyword.ANY),
        (rule.local, rule.local_ports, Keyword.ME),
    ]
    source, destination = (
        [
            Endpoint(address, tuple(sorted(set(ports.ranges))))
            for address in (addresses.networks[:_MOST_SHOWN] or (word,))
        ]
        for addresses, ports, word in (ends if rule.inbound else reversed(ends))
    )
    try:
        filters = [
            format_filter(Filter(one, other, rule.protocol, message=message))
            for one in source
            for other in destination
            for message in _of_icmp(rule)
        ]
    except InvalidInput:
        # Its addresses are of both IP versions, say, or its ports overlap.
        return "ipsecctl rule add, with its addresses and ports"
    texts = " ".join(f"'{text}'" for text in filters[:_MOST_SHOWN])
    return f"ipsecctl rule add POLICY NAME {texts} --action {rule.action.value}"


def _of_icmp(rule: Rule) -> list[IcmpMessage | None]:
    version_4 = rule.protocol == 1
    return [
        IcmpMessage(kind if version_4 else None, None if version_4 else kind, code)
        for kind, code in rule.messages
    ] or [None]
