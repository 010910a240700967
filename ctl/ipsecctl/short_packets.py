"""Owns what ``explain`` makes of an address, a port or both, which are no packet yet."""

from __future__ import annotations

from ipsecd.language.addresses import ipv4_value, ipv6_value
from ipsecd.language.protocols import is_protocol_name
from ipsecd.language.quoting import is_number

ANYBODY = "203.0.113.1"
"""An address for documentation (RFC 5737), which no filter should name."""
UNNAMED = "253"
"""A protocol for experiments (RFC 3692), which no filter should name."""
_FORM = "'tcp 203.0.113.7 > me:22'"


def packets_meant(text: str) -> tuple[list[str], str]:
    """The packets that a text stands for, and what is to be said of that; else none, and nothing.

    ``192.0.2.1`` is what that address sends here, ``tcp/22`` what anybody sends to that port, and
    ``192.0.2.1:22`` is both directions.
    """
    text = text.strip()
    protocol, slash, port = text.partition("/")
    if slash and is_number(protocol):
        protocol, port = port, protocol
    if slash and is_protocol_name(protocol) and is_number(port):
        note = f"no source was named, so this is what becomes of {ANYBODY}, whom no filter names"
        return [f"{protocol} {ANYBODY} > me:{port}"], f"{note}; name one, as in {_FORM}"
    address, port = _divided(text)
    if not address:
        return [], ""
    if port:
        note = f"no protocol was named, so this is TCP, from there and to there; or write {_FORM}"
        return [f"tcp {address} > me:{port}", f"tcp me > {address}:{port}"], note
    note = f"no port was named, so only filters for all protocols count; or write {_FORM}"
    return [f"{UNNAMED} {address} > me"], note


def _divided(text: str) -> tuple[str, str]:
    """The address and the port in a text; the address is empty if there is none."""
    if ipv4_value(text) is not None:
        return text, ""
    if ipv6_value(text.strip("[]")) is not None:
        return f"[{text.strip('[]')}]", ""
    address, _, port = text.rpartition(":")
    is_address = ipv4_value(address) is not None or (
        address.startswith("[") and ipv6_value(address.strip("[]")) is not None
    )
    return (address, port) if is_address and is_number(port) else ("", "")
