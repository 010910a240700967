"""Owns the canonical form of what people and programs block most; must not know the grammar.

The grammar and the model behind it take longer to import than everything else that a command does.
What is not plain is left to them, also what is wrong: they have the words for that.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from collections.abc import Sequence

_WILD = ("*", "0")
_IPV6 = frozenset("0123456789abcdefABCDEF:")


def plain_filter(text: str) -> str | None:
    """The canonical form of a filter, an address or a port like ``udp/1434``; None if not plain."""
    if _is_ipv4(text):
        return f"{text}=0"
    if text[:4] in ("udp/", "tcp/") and _is_port(text[4:]):
        return f"*=0:{text[4:]}:{text[:3].upper()}"
    for sign in "=+":
        source, found, rest = text.partition(sign)
        if found and _is_side(source) and _is_destination(rest):
            return text
    if text.count(":") > 1 and _IPV6.issuperset(text):
        return _plain_ipv6(text)
    return None


def plain_filters(arguments: Sequence[str]) -> list[str] | None:
    """The canonical forms of all `arguments`; None if one of them is not plain."""
    filters = [*map(plain_filter, arguments)]
    return None if None in filters else [text for text in filters if text is not None]


def _is_destination(text: str) -> bool:
    """Whether it is an address, with or without a port, and then with or without a protocol."""
    address, colon, rest = text.partition(":")
    port, other_colon, protocol = rest.partition(":")
    if not _is_side(address) or (other_colon and protocol not in ("UDP", "TCP")):
        return False
    return not colon or _is_port(port)


def _is_side(text: str) -> bool:
    return text in _WILD or _is_ipv4(text)


def _is_port(text: str) -> bool:
    return _is_number(text, 5) and 1 <= int(text) <= 65535


def _is_ipv4(text: str) -> bool:
    octets = text.split(".")
    return len(octets) == 4 and all(_is_number(octet, 3) and int(octet) < 256 for octet in octets)


def _is_number(text: str, digits: int) -> bool:
    """Whether it is a number of at most so many digits, written in the one canonical way."""
    if not text.isascii() or not text.isdecimal() or len(text) > digits:
        return False
    return text == "0" or text[0] != "0"


def _plain_ipv6(text: str) -> str | None:
    from _socket import AF_INET6, inet_ntop, inet_pton

    try:
        canonical = inet_ntop(AF_INET6, inet_pton(AF_INET6, text))
    except OSError:
        return None
    # With an IPv4 address in it, C libraries differ in how they write it.
    return None if "." in canonical else f"[{canonical}]=0"
