"""Owns the text of one address of a filter, canonical in and out; must not know filters.

Code of this module reads IPv4 and prints both families: ``inet_pton`` and ``inet_ntop`` of C
libraries differ in leading zeros and embedded IPv4, and the ``ipaddress`` module takes more time
than everything else in a filter together.
"""

from __future__ import annotations

import re
import socket

from ipsecd.errors import InvalidInput
from ipsecd.language.not_hosts import of_a_file, of_an_interface
from ipsecd.language.quoting import is_number, wrong
from ipsecd.model.addresses import (
    MAX_DNS_NAME,
    Address,
    Family,
    HostName,
    Keyword,
    ListName,
    Network,
    Process,
    Selector,
    SelectorKind,
    check_list_name,
)
from ipsecd.quoting import quote

MAX_DNS_LABEL = 63
ADDRESS_FORMS = (
    "write 0 (this host), *, 192.168.1.5, 10.1.0.0/16, [2001:db8::1], @LIST, or a DNS name of "
    "letters, digits, hyphens and dots"
)
_MAPPED = 0xFFFF  # ::ffff:0:0/96, RFC 4291, section 2.5.5.2
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}")
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF:.")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
SELECTORS = frozenset(kind.value for kind in SelectorKind)
"""Words before a colon that say that a name is one of a container engine, and no DNS name."""
PROCESSES = frozenset({"service", "cgroup"})
"""Words before a colon that name local processes."""
_MASKS_OF_A_HOST = ("255.255.255.255", "32")
"""What scripts write after ``0``, which changes nothing: each address of this host is one host."""
_TEXT_OF = {keyword: keyword.value for keyword in Keyword}
_WORDS = {"me": "0", "my": "0", "self": "0", "localhost": "0", "any": "*", "all": "*"}


def parse_address(text: str) -> Address:
    """The address that `text` names: ``0``, ``*``, a host, a network, a name, or ``@`` a list.

    A mask of one host after ``0`` is taken. IPv6 is in brackets, with its prefix length inside or
    after them. Host bits beyond the mask are refused in IPv4. In IPv6 ``[2001:db8::1]/64`` stands
    for the network of that address, since ``ip address`` shows addresses in this form. Raises
    ``InvalidInput`` with a position in `text`.
    """
    kind, colon, name = text.partition(":")
    if colon and kind in PROCESSES:
        return Process(kind, name)
    if colon and kind in SELECTORS:
        return _parse_selector(SelectorKind(kind), name)
    if text == "0":
        return Keyword.ME
    if text == "*":
        return Keyword.ANY
    if text.startswith("["):
        return _parse_bracketed(text)
    if text.startswith("@"):
        check_list_name(text[1:])
        return ListName(text[1:])
    host, slash, mask = text.partition("/")
    if host == "0" and mask in _MASKS_OF_A_HOST:
        return Keyword.ME
    value = ipv4_value(host)
    if value is not None:
        return _ipv4_network(text, value, mask) if slash else Network(Family.IPV4, value, 32)
    if slash:
        raise _mask_without_address(text, host)
    if "*" in text:
        return _parse_wildcard(text)
    return HostName(_parse_name(text))


def format_address(address: Address) -> str:
    """The canonical text of `address`; a name is printed without the addresses it stands for."""
    if isinstance(address, Network):
        text = format_value(address.family, address.address)
        if address.family is Family.IPV6:
            text = f"[{text}]"
        return text if address.length == address.family.bits else f"{text}/{address.length}"
    if isinstance(address, Keyword):
        return _TEXT_OF[address]
    if isinstance(address, HostName):
        return address.name
    if isinstance(address, Process | ListName):
        return str(address)
    network = f"@{address.network}" if address.network else ""
    return f"{address.kind.value}:{address.name}{network}"


def _parse_selector(kind: SelectorKind, text: str) -> Selector:
    name, at, network = text.partition("@")
    if at and not network:
        raise wrong(text, len(name), f"{quote(text)} names no network", "write NAME@NETWORK")
    return Selector(kind, name, network)


def ipv4_value(text: str) -> int | None:
    """The number of an IPv4 address written as four decimal octets, or None.

    Leading zeros are refused, because some programs read such octets as octal.
    """
    match = _IPV4.fullmatch(text)
    if not match:
        return None
    a, b, c, d = map(int, match.groups())
    return a << 24 | b << 16 | c << 8 | d


def ipv6_value(text: str) -> int | None:
    """The number of an IPv6 address in any of the forms of RFC 4291, or None."""
    if ":" not in text or not _HEXADECIMAL.issuperset(text):
        return None
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big")
    except OSError:
        return None


def is_mapped(value: int) -> bool:
    """Whether the IPv6 address `value` stands for an IPv4 address, in ::ffff:0:0/96."""
    return value >> 32 == _MAPPED


def format_value(family: Family, value: int) -> str:
    """The text of an address without mask or brackets; IPv6 in the form of RFC 5952."""
    if family is Family.IPV4:
        return socket.inet_ntop(socket.AF_INET, value.to_bytes(4, "big"))
    groups = [value >> shift & 0xFFFF for shift in range(112, -1, -16)]
    start, length = _longest_zeros(groups)
    if length < 2:
        return ":".join(f"{group:x}" for group in groups)
    head = ":".join(f"{group:x}" for group in groups[:start])
    tail = ":".join(f"{group:x}" for group in groups[start + length :])
    return f"{head}::{tail}"


def _longest_zeros(groups: list[int]) -> tuple[int, int]:
    """Where the first of the longest runs of zero groups begins, and its length."""
    best, start = (0, 0), 0
    for index, group in enumerate(groups):
        if group:
            start = index + 1
        elif index + 1 - start > best[1]:
            best = (start, index + 1 - start)
    return best


def _parse_bracketed(text: str) -> Network:
    close = text.find("]")
    if close < 0:
        raise wrong(text, 0, f"bracket '[' is not closed in {quote(text)}", "write [2001:db8::1]")
    inside, tail = text[1:close].strip(), text[close + 1 :].strip()
    if tail and not tail.startswith("/"):
        raise wrong(
            text,
            close + 1,
            f"{quote(tail)} cannot stand after the IPv6 address {quote(text[: close + 1])}",
            "a prefix length follows as [2001:db8::]/64, a port as [2001:db8::1]:443",
        )
    if "/" in inside and tail:
        raise wrong(text, close + 1, f"{quote(text)} has two prefix lengths", "keep one of them")
    host, slash, length = (inside + tail).partition("/")
    return _ipv6_network(text, 1, host.strip(), length.strip() if slash else None)


def _ipv6_network(text: str, position: int, host: str, length: str | None) -> Network:
    value = ipv6_value(host)
    if value is None:
        raise wrong(text, position, f"{quote(host)} is not an IPv6 address", _ipv6_hint(host))
    if is_mapped(value):
        short = format_value(Family.IPV4, value & 0xFFFFFFFF)
        raise wrong(
            text,
            position,
            f"{quote(host)} is an IPv4 address written as IPv6 (IPv4-mapped)",
            f"no packet carries it; write {short}",
        )
    bits = 128 if length is None else _prefix_length(text, length, Family.IPV6)
    return _network(text, Family.IPV6, value, bits)


def _ipv6_hint(host: str) -> str:
    if "%" in host:
        return "leave the interface (%…) out; a filter applies on all interfaces"
    if ipv4_value(host) is not None:
        return f"brackets are for IPv6; write {host}"
    return "brackets hold one IPv6 address, as in [2001:db8::1] or [2001:db8::]/32"


def _ipv4_network(text: str, value: int, mask: str) -> Network:
    bits = _mask_length(text, mask) if "." in mask else _prefix_length(text, mask, Family.IPV4)
    return _network(text, Family.IPV4, value, bits)


def _network(text: str, family: Family, value: int, length: int) -> Network:
    """The network; raises ``InvalidInput`` if there are bits of an address behind the prefix."""
    beyond = family.bits - length
    network = Network(family, value >> beyond << beyond, length)
    if network.address != value:
        alone = format_address(Network(family, value, family.bits))
        raise wrong(
            text,
            0,
            f"{quote(text)} has address bits set beyond its mask",
            f"write {format_address(network)} for the network, or {alone} for that one host",
        )
    return network


def _prefix_length(text: str, length: str, family: Family) -> int:
    if not is_number(length) or len(length) > 3 or int(length) > family.bits:
        raise wrong(
            text,
            text.find("/") + 1,
            f"{quote(length)} is not a mask or prefix length of IPv{int(family)}",
            f"write a number from 0 to {family.bits}"
            + (" or a mask such as 255.255.255.0" if family is Family.IPV4 else ""),
        )
    return int(length)


def _mask_length(text: str, mask: str) -> int:
    value = ipv4_value(mask)
    if value is None:
        raise wrong(
            text,
            text.find("/") + 1,
            f"{quote(mask)} is not a mask",
            "write a mask such as 255.255.255.0, or a prefix length such as 24",
        )
    bits = value.bit_count()
    if value != (1 << 32) - (1 << (32 - bits)):
        raise wrong(
            text,
            text.find("/") + 1,
            f"mask {quote(mask)} has gaps",
            "the one bits of a mask stand together on the left, as in 255.255.255.0; "
            "write several filters instead",
        )
    return bits


def _mask_without_address(text: str, host: str) -> InvalidInput:
    if ":" in host:
        hint = f"an IPv6 address stands in brackets: write [{text}]"
    elif host == "0":
        hint = "0 is this host and takes no mask; 0.0.0.0/0 is something else: every IPv4 address"
    elif host == "*":
        hint = "* is any address and takes no mask; every IPv4 address is 0.0.0.0/0"
    elif "*" in host:
        hint = "wildcard octets give the mask already; leave one of the two out"
    else:
        hint = "a mask follows an IPv4 address with four octets, as in 10.1.0.0/16"
    return wrong(text, len(host), f"a mask cannot follow {quote(host)}", hint)


def _parse_wildcard(text: str) -> Network:
    octets = text.split(".")
    numbers = [octet for octet in octets if octet != "*"]
    base = ipv4_value(".".join([*numbers, *["0"] * (len(octets) - len(numbers))]))
    if base is None or len(octets) != 4:
        raise wrong(
            text,
            0,
            f"{quote(text)} is not an address",
            "wildcards stand for whole octets of four, as in 10.1.*.*",
        )
    if octets[: len(numbers)] != numbers:
        raise wrong(
            text,
            text.find("*"),
            f"{quote(text)} has a number after a wildcard octet",
            "wildcards stand at the end, as in 10.1.*.*",
        )
    return Network(Family.IPV4, base, 8 * len(numbers))


def _parse_name(text: str) -> str:
    if not text:
        raise wrong(text, 0, "there is no address", ADDRESS_FORMS)
    name = text.lower()
    if name in _WORDS:
        raise wrong(
            text,
            0,
            f"{quote(text)} is not an address",
            f"write {_WORDS[name]} for {'this host' if _WORDS[name] == '0' else 'any address'}",
        )
    labels = name.removesuffix(".").split(".")
    if ":" in text or is_number(labels[-1]):
        raise _bad_number(text)
    valid = len(name) <= MAX_DNS_NAME and all(
        0 < len(label) <= MAX_DNS_LABEL
        and _LETTERS.issuperset(label)
        and label[0] != "-" != label[-1]
        for label in labels
    )
    if not valid:
        raise wrong(text, 0, f"{quote(text)} is not an address", ADDRESS_FORMS)
    if meant := of_an_interface(name) or of_a_file(name):
        raise wrong(text, 0, *meant)
    return name


def _bad_number(text: str) -> InvalidInput:
    if ipv6_value(text) is not None:
        message, hint = f"IPv6 address {quote(text)} is not in brackets", f"write [{text}]"
    else:
        message = f"{quote(text)} is not an IPv4 address"
        hint = "write four numbers from 0 to 255 without leading zeros, as in 192.168.1.5"
    return wrong(text, 0, message, hint)
