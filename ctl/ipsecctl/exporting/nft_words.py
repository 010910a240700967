"""Owns the words of nft(8) for what a line asks of packets; must not know chains.

Numbers stand where nft would look names up in files of the host, which may not be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ipsecctl.exporting.matches import Line
from ipsecd.language.addresses import format_value
from ipsecd.model.addresses import Family, Network
from ipsecd.model.exemptions import Cast, Pattern
from ipsecd.model.fields import ME, Listed
from ipsecd.model.packets import Point
from ipsecd.model.values import DCCP, SCTP, TCP, UDP, UDPLITE, Origin

DIALUP_TYPES = "{ 256, 257, 258, 259, 512, 519 }"
"""SLIP and its variants, PPP, raw IP of mobile modems (include/uapi/linux/if_arp.h)."""
OPENING = "ct state { new, invalid, untracked }"
_HEADERS = {TCP: "tcp", UDP: "udp", DCCP: "dccp", SCTP: "sctp", UDPLITE: "udplite"}
"""The protocols whose ports nft reads by a word that asks for the protocol, too."""
_IP = {Family.IPV4: "ip", Family.IPV6: "ip6"}
_MAX_COMMENT = 128
"""Bytes, with the one at the end (NFTNL_UDATA_COMMENT_MAXLEN)."""

SetName = Callable[[str, Family, tuple[int, ...]], str]
"""The name of the set with the entries of a list that have one IP version and these lengths."""
Words = tuple[str, ...]


def conditions(line: Line, point: Point, name_of: SetName) -> Iterator[Words]:
    """All that a line asks of packets at a point, once for each way to see it.

    A permit that names no ``me`` goes by what a forwarded packet was when it arrived, which
    connection tracking knows in both directions of a connection. Local processes have no words.
    """
    assert not any(line.choice("process")), "it is left out before, and means nothing without it"
    from_me = line.choice("source")[0][0] == ME
    as_arrived = point is Point.LEAVING and not from_me
    incoming = point is Point.ARRIVING or as_arrived
    opening = (OPENING,) if line.choice("opening")[0] else ()
    for link in _links(line, incoming=incoming):
        if as_arrived and _is_in_header(line):
            known = "ct state { new, established } ct direction"
            for direction in ("original", "reply"):
                tracked = _addressed(line, name_of, direction)
                yield *opening, f"{known} {direction}", *tracked, *link
            unknown_to_it = "ct state { invalid, untracked }"
            yield *opening, unknown_to_it, *_addressed(line, name_of), *link
        else:
            yield *opening, *_addressed(line, name_of), *link


def exempt(pattern: Pattern, family: Family, *, fragment: bool) -> Iterator[Words]:
    """What an exempt pattern asks of packets; nothing if none of this kind can match."""
    ports = (pattern.source_port, pattern.destination_port)
    if fragment and (ports != (None, None) or pattern.icmp_types):
        return
    if pattern.cast is Cast.BROADCAST and family is Family.IPV6:
        return
    words = []
    if pattern.protocol is not None:
        words.append(f"meta l4proto {pattern.protocol}")
    if pattern.hop_limit is not None:
        words.append(f"{'ip ttl' if family is Family.IPV4 else 'ip6 hoplimit'} {pattern.hop_limit}")
    if pattern.icmp_types:
        words.append(_message(family, sorted(pattern.icmp_types), pattern.icmp_code))
    for side, port in zip(("sport", "dport"), ports, strict=True):
        if port is not None:
            words.append(f"th {side} {port}")
    if pattern.cast is Cast.MULTICAST:
        words.append("ip daddr 224.0.0.0/4" if family is Family.IPV4 else "ip6 daddr ff00::/8")
    elif pattern.cast is Cast.BROADCAST:
        words.append("fib daddr type broadcast")
    yield tuple(words)


def comment(text: str) -> str:
    """A comment on a rule, as far as nft takes it: it has no way to write a quotation mark."""
    shortened = text.replace('"', "'").encode()[: _MAX_COMMENT - 1].decode(errors="ignore")
    return f'comment "{shortened}"'


def name_of_rule(origin: Origin) -> str:
    """The place of a rule, for a comment."""
    return " / ".join(filter(None, (origin.policy or origin.store, origin.rule)))


def one_of(items: Iterable[str]) -> str:
    """One value, or an anonymous set of several."""
    words = list(items)
    return words[0] if len(words) == 1 else f"{{ {', '.join(words)} }}"


def prefix(network: Network) -> str:
    """A network as nft has it."""
    address = format_value(network.family, network.address)
    return address if network.length == network.family.bits else f"{address}/{network.length}"


def without_covered(networks: Iterable[Network]) -> list[Network]:
    """The networks in order, without those that lie in another: nft takes no sets that overlap."""
    kept: list[Network] = []
    for network in sorted(networks, key=lambda one: (one.family, one.address, one.length)):
        if not kept or kept[-1].family is not network.family or network.address not in kept[-1]:
            kept.append(network)
    return kept


def _links(line: Line, *, incoming: bool) -> Iterator[Words]:
    """What is asked of the link; any of these is enough.

    It comes behind all else: before it, nft takes a type of links for one that has no IP addresses.
    """
    side = "iif" if incoming else "oif"
    if name := line.choice("interface_name")[0]:
        yield (f'{side}name "{name}"',)
    elif kind := line.choice("interface_type")[0]:
        if kind == "dialup":
            yield (f"{side}type {DIALUP_TYPES}",)
            yield f"{side}type != {DIALUP_TYPES}", f'{side}name "ww*"'
        else:
            yield f"{side}type != {DIALUP_TYPES}", f'{side}name != "ww*"'
    else:
        yield ()


def _is_in_header(line: Line) -> bool:
    """Whether the line asks for addresses or ports, which a translation changes."""
    addresses = (*line.choice("source"), *line.choice("destination"))
    ports = (*line.choice("source_ports"), *line.choice("destination_ports"))
    return any(length != 0 for length, _ in addresses) or any(ports)


def _addressed(line: Line, name_of: SetName, direction: str = "") -> Words:
    """What is asked of protocol, addresses, ports and message, of the packet or as it arrived."""
    protocols = line.choice("protocol")
    source_ports = [span for span in line.choice("source_ports") if span]
    destination_ports = [span for span in line.choice("destination_ports") if span]
    words = []
    alone = _HEADERS.get(protocols[0]) if len(protocols) == 1 else None
    read_by_word = alone and (source_ports or destination_ports) and not direction
    if protocols != (None,) and not read_by_word:
        words.append(f"meta l4proto {one_of(map(str, sorted(protocols)))}")
    for side, name in (("saddr", "source"), ("daddr", "destination")):
        if addresses := _addresses(line, name, name_of):
            tracked = f"ct {direction} " if direction else ""
            words.append(f"{tracked}{_IP[line.family]} {side} {addresses}")
    for side, spans in (("src", source_ports), ("dst", destination_ports)):
        if spans:
            header = alone or "th"
            key = f"ct {direction} proto-{side}" if direction else f"{header} {side[0]}port"
            words.append(f"{key} {one_of(map(_span, _joined(spans)))}")
    if message := line.choice("message")[0]:
        first, last = message
        code = first & 255 if first == last else None
        words.append(_message(line.family, [first >> 8], code))
    return tuple(words)


def _addresses(line: Line, name: str, name_of: SetName) -> str:
    """The value that nft compares an address with; "" for any, and for ``me``."""
    values = line.choice(name)
    length = values[0][0]
    if length in (0, ME):
        return ""
    if isinstance(length, Listed):
        lengths = tuple(sorted(listed.length for listed, _ in values))
        return f"@{name_of(length.name, line.family, lengths)}"
    networks = (Network(line.family, address, length) for length, address in values)
    return one_of(map(prefix, without_covered(networks)))


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans in order, with those as one that overlap: nft takes no sets that overlap."""
    before: tuple[int, int] | None = None
    for span in sorted(spans):
        if before and span[0] <= before[1]:
            before = before[0], max(before[1], span[1])
            continue
        if before:
            yield before
        before = span
    if before:
        yield before


def _span(span: tuple[int, int]) -> str:
    first, last = span
    return str(first) if first == last else f"{first}-{last}"


def _message(family: Family, types: Iterable[int], code: int | None) -> str:
    """What is asked of type and code of ICMP."""
    header = "icmp" if family is Family.IPV4 else "icmpv6"
    asked = f"{header} type {one_of(map(str, types))}"
    return asked if code is None else f"{asked} {header} code {code}"
