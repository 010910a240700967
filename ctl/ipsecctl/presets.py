"""Owns the policies that ``policy create --preset`` writes; must not know how they are stored.

Invariants:

1. What is written is an ordinary policy: whoever reads it sees all that it does.
2. It carries expectations that prove its point, and it meets them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from ipsecctl.services import SERVICES
from ipsecd.errors import InvalidInput
from ipsecd.language.conditions import parse_conditions
from ipsecd.language.expectations import parse_expectation
from ipsecd.language.filters import parse_filter, parse_short
from ipsecd.language.icmp import format_protocol_and_message
from ipsecd.model.addresses import Keyword
from ipsecd.model.unmet import Unmet, unmet
from ipsecd.model.values import TCP, UDP, Action, Endpoint, Filter, Policy, Rule
from ipsecd.quoting import quote

PEER, PEER6 = "203.0.113.7", "2001:db8::7"
"""Addresses for documentation (RFC 5737, RFC 3849): those of somebody anywhere."""
_PROBED = (23, 445, 2323, 3389, 5900, 8080, 9100, 27017)
"""Ports of which one that is not permitted stands in expectations."""
_LOCAL = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "[fe80::]/10",
          "[fc00::]/7")  # fmt: skip
"""Networks that nobody reaches over the internet (RFC 1918, 3927, 4291, 4193)."""
_CHOSEN_PORTS = "32768-60999"
"""The ports that Linux takes for a socket which asks for none (net.ipv4.ip_local_port_range)."""


_BRIDGES = {
    "docker*": "docker0",
    "br-*": "br-0123456789ab",
    "podman*": "podman1",
    "cni*": "cni-podman0",
}
"""How the bridges of container engines are called, and one of each."""


class Written(NamedTuple):
    """A rule as it is written."""

    name: str
    action: str
    filters: tuple[str, ...]
    interface: str | None = None
    when: str | None = None


class Preset(NamedTuple):
    """A policy without the permits that are asked for.

    ``closed`` are expectations of a port of this host that is not permitted, ``closed_out`` those
    of such a port of somebody else; PORT stands for it. ``limits_outgoing`` says that what goes out
    has to be permitted too.
    """

    description: str
    rules: tuple[Written, ...]
    expect: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    closed_out: tuple[str, ...] = ()
    limits_outgoing: bool = False


_NOTHING_GETS_IN = Written("Nothing gets in unasked", "block", ("*=0",), when="opening")
_GROUPS = Written(
    "Routers may ask for multicast groups",
    "permit",
    ("*=0::2", "*=0::ICMPv6/multicast-listener-query"),
)
"""Who does not answer such a question gets no more packets of its groups (IGMP, RFC 3376)."""
_CLOSED = (
    f"block tcp {PEER} > me:PORT",
    f"block tcp {PEER6} > me:PORT",
    f"block udp {PEER} > me:PORT",
)
_ASKED_FOR_GROUPS = (
    "permit igmp 192.168.1.254 > 224.0.0.1",
    "permit icmpv6/multicast-listener-query fe80::1 > ff02::1",
)
_ANSWERS = (
    f"permit tcp {PEER}:443 > me:40000 reply",
    f"permit udp [{PEER6}]:53 > me:40000 reply",
)
_GOES_OUT = (
    f"permit tcp me > {PEER}:443",
    f"permit udp me > [{PEER6}]:53",
    f"permit icmp me > {PEER}",
)

PRESETS: dict[str, Preset] = {
    "deny-incoming": Preset(
        "Nothing gets in unasked but what is permitted; everything goes out",
        (_NOTHING_GETS_IN, _GROUPS),
        expect=(*_ASKED_FOR_GROUPS, *_ANSWERS, *_GOES_OUT),
        closed=_CLOSED,
    ),
    "deny-all": Preset(
        "Nothing gets in, goes out or is forwarded unasked but what is permitted",
        (
            Written("Nothing passes unasked", "block", ("*=*",), when="opening"),
            _GROUPS,
            Written(
                "This host may say its multicast groups",
                "permit",
                (
                    "0=*::2",
                    "0=*::ICMPv6/multicast-listener-report",
                    "0=*::ICMPv6/multicast-listener-done",
                    "0=*::ICMPv6/version-2-multicast-listener-report",
                ),
            ),
        ),
        expect=(
            *_ASKED_FOR_GROUPS,
            *_ANSWERS,
            f"block tcp 192.168.1.2 > {PEER}:443",
            "permit igmp me > 224.0.0.22",
        ),
        closed=_CLOSED,
        closed_out=(f"block tcp me > {PEER}:PORT", f"block udp me > [{PEER6}]:PORT"),
        limits_outgoing=True,
    ),
    "workstation": Preset(
        "Nothing gets in unasked but what finds printers and the like; everything goes out",
        (
            _NOTHING_GETS_IN,
            _GROUPS,
            Written(
                "Names and services of this network (mDNS)",
                "permit",
                ("*=224.0.0.251:5353:UDP", "*=[ff02::fb]:5353:UDP"),
            ),
            Written(
                "Answers to questions that went to all (mDNS)",
                "permit",
                tuple(f"{network}:5353=0:5353,{_CHOSEN_PORTS}:UDP" for network in _LOCAL),
            ),
            Written(
                "Answers to questions that went to all (SSDP)",
                "permit",
                tuple(f"{network}:1900=0:{_CHOSEN_PORTS}:UDP" for network in _LOCAL),
            ),
        ),
        expect=(
            *_ASKED_FOR_GROUPS,
            *_ANSWERS,
            *_GOES_OUT,
            "permit udp 192.168.1.9 > 224.0.0.251:5353",
            "permit udp 192.168.1.9:5353 > me:40000",
            "permit udp [fe80::9]:5353 > me:40000",
            "permit udp 192.168.1.9:1900 > me:40000",
            "block udp 192.168.1.9:1900 > me:1900",
            f"block udp {PEER} > me:40000",
        ),
        closed=_CLOSED,
    ),
    "container-host": Preset(
        "Nothing gets in or is forwarded unasked but what is permitted and what containers send; "
        "published ports are closed",
        (
            _NOTHING_GETS_IN,
            _GROUPS,
            Written("Nothing is forwarded unasked", "block", ("*=*",), when="opening"),
            Written("This host sends what it likes", "permit", ("0=*",)),
            *(
                Written(f"Containers send what they like ({link})", "permit", ("*=*",), link)
                for link in _BRIDGES
            ),
            *(
                Written(
                    f"Containers ask this host for names ({link})",
                    "permit",
                    ("*=0:53:UDP", "*=0:53:TCP"),
                    link,
                )
                for link in _BRIDGES
            ),
        ),
        expect=(
            *_ASKED_FOR_GROUPS,
            *_ANSWERS,
            *_GOES_OUT,
            *(f"permit tcp 172.17.0.2 > {PEER}:443 in {link}" for link in _BRIDGES.values()),
            *(f"permit udp 172.17.0.2 > me:53 in {link}" for link in _BRIDGES.values()),
            f"permit tcp {PEER}:443 > 172.17.0.2:40000 in eth0 reply",
            f"block tcp {PEER} > 172.17.0.2:80 in eth0",
            f"block tcp 192.168.1.2 > {PEER}:443 in eth0",
            f"block udp {PEER} > me:53 in eth0",
        ),
        closed=(*_CLOSED, "block tcp 172.17.0.2 > me:PORT in docker0"),
    ),
}


def preset_policy(
    name: str,
    preset: str,
    permits: Iterable[str] = (),
    permits_out: Iterable[str] = (),
    description: str = "",
) -> Policy:
    """The policy called `name` that `preset` stands for, with permits by services or filters.

    Raises ``InvalidInput`` for what is no permit, or has no place in this preset.
    """
    base = PRESETS[preset]
    gets_in = [Rule(f"{word} gets in", _filters_in(word), Action.PERMIT) for word in permits]
    goes_out = [Rule(f"{word} goes out", _filters_out(word), Action.PERMIT) for word in permits_out]
    if goes_out and not base.limits_outgoing:
        limiting = ", ".join(name for name, other in PRESETS.items() if other.limits_outgoing)
        raise InvalidInput(
            f"everything goes out with {preset}", f"leave --permit-out out, or take {limiting}"
        )
    permitted = [member for rule in (*gets_in, *goes_out) for member in rule.filters]
    texts = [
        *_closed(base.closed, _by_anybody(gets_in)),
        *_closed(base.closed_out, _by_anybody(goes_out)),
        *base.expect,
        *(text for member in permitted for text in _permitted(member)),
    ]
    stated = {text.partition(" ")[2]: text for text in texts}
    policy = Policy(
        name,
        (*map(_rule, base.rules), *_each_once(gets_in), *_each_once(goes_out)),
        description or base.description,
        tuple(map(parse_expectation, stated.values())),
    )
    wanted = {rule.name for rule in (*gets_in, *goes_out)}
    opened = {one.expectation for one in unmet(policy) if _is_by(one, wanted)}
    return replace(policy, expect=tuple(one for one in policy.expect if one not in opened))


def _is_by(failing: Unmet, wanted: Container[str]) -> bool:
    """Whether what was expected to be blocked is permitted because somebody wants it."""
    by = failing.decision.by
    return by is not None and by.action is Action.PERMIT and by.origin.rule in wanted


def _rule(written: Written) -> Rule:
    return Rule(
        written.name,
        tuple(map(parse_filter, written.filters)),
        Action(written.action),
        parse_conditions(written.interface, written.when),
    )


def _each_once(rules: Sequence[Rule]) -> Iterator[Rule]:
    yield from {rule.name: rule for rule in rules}.values()


def _filters_in(word: str) -> tuple[Filter, ...]:
    """The filters of a permit of what comes in: those of a service, or the one that it is."""
    found = []
    for text in SERVICES.get(word.lower(), (word,)):
        try:
            member = parse_short(text)
        except InvalidInput as error:
            if not word.isidentifier():
                raise
            what = f"{quote(word)} is no service that is known"
            hint = f"write tcp/PORT, or one of {', '.join(SERVICES)}"
            raise InvalidInput(what, hint) from error
        if member.destination.address is not Keyword.ME or member.mirrored:
            what = f"{quote(word)} is no permit of what comes in to this host"
            raise InvalidInput(what, "write a service, tcp/80,443 or SOURCE=0:PORT:PROTOCOL")
        if member.source.address is Keyword.ANY and member.protocol is None and not _ports(member):
            what = f"{quote(word)} says no more than the rule that blocks everything"
            raise InvalidInput(what, "give a protocol, a port, or the addresses that it is for")
        found.append(member)
    return tuple(found)


def _filters_out(word: str) -> tuple[Filter, ...]:
    """The same of what goes out: to the service, or to the addresses, of anybody."""
    return tuple(
        Filter(
            Endpoint(Keyword.ME),
            Endpoint(member.source.address, member.destination.ports),
            member.protocol,
            message=member.message,
        )
        for member in _filters_in(word)
    )


def _ports(member: Filter) -> bool:
    return bool(member.source.ports or member.destination.ports)


def _by_anybody(rules: Iterable[Rule]) -> list[Filter]:
    """The filters that are for everybody, so that what stands in expectations meets them."""
    members = [member for rule in rules for member in rule.filters]
    return [
        member
        for member in members
        if Keyword.ANY in (member.source.address, member.destination.address)
    ]


def _closed(texts: Iterable[str], permitted: Sequence[Filter]) -> Iterator[str]:
    """Expectations of the first port that nobody is permitted; none if there is no such port."""
    ranges = [ports for member in permitted for ports in member.destination.ports]
    whole = any(member.protocol in (None, TCP, UDP) and not _ports(member) for member in permitted)
    free = [port for port in _PROBED if not any(port in ports for ports in ranges)]
    if free and not whole:
        yield from (text.replace("PORT", str(free[0])) for text in texts)


def _permitted(member: Filter) -> Iterator[str]:
    """What is expected of a permit for everybody: a packet that it is for."""
    if (
        Keyword.ANY not in (member.source.address, member.destination.address)
        or member.source.ports
    ):
        return
    goes_out = member.source.address is Keyword.ME
    for protocol in member.protocols:
        if protocol is None:
            continue
        word = format_protocol_and_message(protocol, member.message).lower()
        for ports in member.destination.ports or (None,):
            at = f":{ports.first}" if ports else ""
            if ports is None and protocol in (TCP, UDP):
                at = f":{_PROBED[0]}"
            yield f"permit {word} " + (f"me > {PEER}{at}" if goes_out else f"{PEER} > me{at}")
