"""Owns what a word of nft stands for in a field: spans of numbers, or patterns of links."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ipsecctl.importing.address_sets import addresses_in
from ipsecctl.importing.icmp_names import icmp_spans
from ipsecctl.importing.netfilter import Condition
from ipsecctl.importing.regions import Dim, Span, Spans, can_be_said, span_of, spans
from ipsecctl.importing.source import Cast, State
from ipsecd.errors import InvalidInput
from ipsecd.language.protocols import parse_protocol
from ipsecd.model.addresses import Family
from ipsecd.model.values import IcmpOfFamily
from ipsecd.quoting import quote

_SERVICES = {
    "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "bootps": 67, "bootpc": 68,
    "tftp": 69, "http": 80, "pop3": 110, "ntp": 123, "netbios-ns": 137, "netbios-dgm": 138,
    "netbios-ssn": 139, "imap2": 143, "snmp": 161, "bgp": 179, "https": 443, "microsoft-ds": 445,
    "submission": 587, "dhcpv6-client": 546, "dhcpv6-server": 547, "imaps": 993, "pop3s": 995,
    "openvpn": 1194, "mdns": 5353,
}  # fmt: skip
_CASTS = {"local": Cast.LOCAL, "broadcast": Cast.BROADCAST, "multicast": Cast.MULTICAST,
          "unicast": Cast.OTHER}  # fmt: skip


class UnknownWord(Exception):
    """A value that cannot be known here; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A field that is compared: its dimension, and what asking for it says of the packet."""

    dim: Dim
    family: Family | None = None
    implied: tuple[Condition, ...] = ()


def _protocol_is(*numbers: int) -> Condition:
    return Condition(Dim.PROTOCOL, spans((number, number) for number in numbers))


def _icmp(family: Family) -> Selector:
    number = 1 if family is Family.IPV4 else 58
    return Selector(Dim.MESSAGE, family, (Condition(family=family), _protocol_is(number)))


def _family_is(family: Family) -> tuple[Condition, ...]:
    return (Condition(family=family),)


_PORTS = {"sport": Dim.SOURCE_PORT, "dport": Dim.DESTINATION_PORT}
_LINKS = {"iif": Dim.LINK, "iifname": Dim.LINK, "oif": Dim.OUT_LINK, "oifname": Dim.OUT_LINK}
SELECTORS: dict[tuple[str, ...], Selector] = {
    ("ip", "saddr"): Selector(Dim.SOURCE, Family.IPV4, _family_is(Family.IPV4)),
    ("ip", "daddr"): Selector(Dim.DESTINATION, Family.IPV4, _family_is(Family.IPV4)),
    ("ip6", "saddr"): Selector(Dim.SOURCE, Family.IPV6, _family_is(Family.IPV6)),
    ("ip6", "daddr"): Selector(Dim.DESTINATION, Family.IPV6, _family_is(Family.IPV6)),
    ("ip", "protocol"): Selector(Dim.PROTOCOL, None, _family_is(Family.IPV4)),
    ("ip6", "nexthdr"): Selector(Dim.PROTOCOL, None, _family_is(Family.IPV6)),
    ("meta", "l4proto"): Selector(Dim.PROTOCOL),
    ("icmp", "type"): _icmp(Family.IPV4),
    ("icmpv6", "type"): _icmp(Family.IPV6),
    ("ct", "state"): Selector(Dim.STATE),
    ("fib", "daddr", "type"): Selector(Dim.CAST),
    **{(name,): Selector(dim) for name, dim in _LINKS.items()},
    **{("meta", name): Selector(dim) for name, dim in _LINKS.items()},
    **{("th", name): Selector(dim) for name, dim in _PORTS.items()},
    **{
        (name, side): Selector(dim, None, (_protocol_is(number),))
        for name, number in (("tcp", 6), ("udp", 17), ("sctp", 132), ("dccp", 33), ("udplite", 136))
        for side, dim in _PORTS.items()
    },
}
"""By the words of each. What is compared with the IP version alone is read by ``family_of``."""
FAMILIES = {("meta", "nfproto"): {"ipv4": Family.IPV4, "ipv6": Family.IPV6},
            ("meta", "protocol"): {"ip": Family.IPV4, "ip6": Family.IPV6}}  # fmt: skip


def condition(selector: Selector, texts: Sequence[str], *, negated: bool) -> Condition:
    """That a field has one of some values; raises ``UnknownWord`` or ``InvalidInput``."""
    if selector.dim in (Dim.LINK, Dim.OUT_LINK):
        for text in texts:
            if not can_be_said(text):
                raise UnknownWord(f"a policy cannot name links as {quote(text)} does")
        return Condition(selector.dim, negated=negated, links=tuple(texts))
    read = _READERS[selector.dim]
    found: list[Span] = []
    for text in texts:
        found += read(text, selector.family or Family.IPV4)
    family = selector.family if selector.dim in (Dim.SOURCE, Dim.DESTINATION) else None
    return Condition(selector.dim, spans(found), negated, family)


def _addresses(text: str, family: Family) -> Spans:
    try:
        entries = addresses_in(text)
    except ValueError as error:
        raise UnknownWord(f"{quote(text)} is not known as an address") from error
    if any(of is not family for of, _, _ in entries):
        raise InvalidInput(f"{quote(text)} is no address of IPv{int(family)}", "")
    return spans(span_of(value, length, of) for of, value, length in entries)


def _protocols(text: str, _: Family) -> Spans:
    name = {"ipv6-icmp": "58", "icmpv6": "58", "icmp": "1"}.get(text, text)
    first, dash, last = name.partition("-")
    if dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last) <= 255:
        return ((int(first), int(last)),)
    try:
        number = parse_protocol(name)
    except InvalidInput as error:
        raise UnknownWord(f"{quote(text)} is not known as a protocol") from error
    if number is None or isinstance(number, IcmpOfFamily):
        number = 1
    return ((number, number),)


def _ports(text: str, _: Family) -> Spans:
    ends = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    if not ends:
        if text not in _SERVICES:
            raise UnknownWord(f"{quote(text)} is a name, and which port it is is not known here")
        return ((_SERVICES[text],) * 2,)
    first, last = int(ends[1]), int(ends[2] or ends[1])
    if not first <= last <= 65535:
        raise InvalidInput(f"{quote(text)} is no port or range", "")
    return ((first, last),)


def _messages(text: str, family: Family) -> Spans:
    first, dash, last = text.partition("-")
    if dash and first.isdecimal() and last.isdecimal() and int(first) <= int(last) <= 255:
        return ((int(first) << 8, int(last) << 8 | 255),)
    return icmp_spans(text, family)


def _states(text: str, _: Family) -> Spans:
    if text.upper() not in State.__members__:
        raise UnknownWord(f"a policy does not ask for the state {quote(text)}")
    return ((int(State[text.upper()]),) * 2,)


def _casts(text: str, _: Family) -> Spans:
    if text not in _CASTS:
        raise UnknownWord(f"a policy does not ask for addresses of the type {quote(text)}")
    return ((int(_CASTS[text]),) * 2,)


_READERS: dict[Dim, Callable[[str, Family], Spans]] = {
    Dim.SOURCE: _addresses,
    Dim.DESTINATION: _addresses,
    Dim.PROTOCOL: _protocols,
    Dim.SOURCE_PORT: _ports,
    Dim.DESTINATION_PORT: _ports,
    Dim.MESSAGE: _messages,
    Dim.STATE: _states,
    Dim.CAST: _casts,
}
