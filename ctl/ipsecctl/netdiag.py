"""Owns ``netdiag /test:ipsec``: the old report on which policy is in force and its filters."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import DONE, REFUSED, UnreachableError, UsageError
from ipsecd.language.addresses import format_value
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Endpoint, Family, HostName, IcmpOfFamily, Keyword, Network

HEAD = "IP Security test . . . . . . . . . :"
_IDS = uuid.UUID("b1c0a4f2-7a43-4d7e-8f0c-21d2c0d5c7aa")
_NO_POLICY_ID = uuid.UUID(int=0)


@dataclass(frozen=True, slots=True)
class _Way:
    """One direction of one filter in one IP version."""

    source: Endpoint
    destination: Endpoint
    family: Family
    protocol: int


def run(client: Client, args: list[str]) -> int:
    """Print the report; ``/debug`` or ``/v`` adds every filter in force."""
    words = [arg.lower().replace("-", "/", 1) for arg in args]
    if "/test:ipsec" not in words or set(words) - {"/test:ipsec", "/debug", "/v"}:
        raise UsageError("netdiag has one test here", "netdiag /test:ipsec [/debug]")
    try:
        status = client.call("Status")["status"]
    except UnreachableError as error:
        print(f"{HEAD} Failed\n    {error.message}")
        return REFUSED
    if status["state"] == "stopped":
        print(f"{HEAD} Failed\n    The IPSec policy service is stopped; nothing is in force.")
        return REFUSED
    print(f"{HEAD} Passed")
    if status["policy_filters"] or status["assigned"]:
        print(f"    Local IPSec Policy Active: '{status['assigned']}'")
    else:
        print("    IPSec policy service is active, but no policy is assigned.")
    if len(words) > 1:
        _details(client, status)
    return DONE


def _details(client: Client, status: dict[str, Any]) -> None:
    filters = client.call("ListFilters")["filters"]
    own = _own_addresses(client)
    blocks = [block for one in filters for block in _blocks(one, own)]
    if status["policy_path"]:
        print(f"    IP Security Policy Path: {status['policy_path']}")
    print(f"\n    There are {len(blocks)} filters")
    for block in blocks:
        print(block)


def _own_addresses(client: Client) -> dict[Family, list[str]]:
    own: dict[Family, list[str]] = {Family.IPV4: [], Family.IPV6: []}
    for interface in client.call("ListInterfaces")["interfaces"]:
        if interface["type"] != "loopback":
            for text in interface["addresses"]:
                address = text.partition("/")[0]
                own[Family.IPV6 if ":" in address else Family.IPV4].append(address)
    return own


def _blocks(one: dict[str, Any], own: dict[Family, list[str]]) -> Iterator[str]:
    policy = uuid.uuid5(_IDS, one["policy"]) if one["policy"] else _NO_POLICY_ID
    for number, way in enumerate(_ways(one["filter"])):
        text = "\0".join((one["policy"], one["rule"], one["filter"], str(number)))
        ident = uuid.uuid5(_IDS, text)
        flags = f"{_direction(way)} {'Block' if one['action'] == 'block' else 'Pass'}"
        for source in _addresses(way.source, way.family, own):
            for destination in _addresses(way.destination, way.family, own):
                yield _block(way, source, destination, ident, policy, flags)


def _block(
    way: _Way,
    source: tuple[str, str],
    destination: tuple[str, str],
    ident: uuid.UUID,
    policy: uuid.UUID,
    flags: str,
) -> str:
    anywhere = "0.0.0.0" if way.family is Family.IPV4 else "::"
    lines = [
        "    No Name",
        f"        Filter Id: {{{str(ident).upper()}}}",
        f"        Policy Id: {{{str(policy).upper()}}}",
        f"        Src Addr : {source[0]} Src Mask : {source[1]}",
        f"        Dest Addr : {destination[0]} Dest Mask : {destination[1]}",
        f"        Tunnel Addr : {anywhere} Src Port : {_ports(way.source)} "
        f"Dest Port : {_ports(way.destination)}",
        f"        Protocol : {way.protocol} TunnelFilter: No",
        f"        Flags : {flags}",
    ]
    return "\n".join(lines)


def _ways(text: str) -> Iterator[_Way]:
    """The directions of a filter; one that fits both IP versions is shown for IPv4 only, as the
    old tool knew no other, unless a protocol or an address says IPv6.
    """
    one = parse_filter(text)
    pairs = [(one.source, one.destination)]
    if one.mirrored:
        pairs.append((one.destination, one.source))
    for source, destination in pairs:
        family = min(one.families)
        for protocol in one.protocols:
            number = protocol.number(family) if isinstance(protocol, IcmpOfFamily) else protocol
            yield _Way(source, destination, family, number or 0)


def _direction(way: _Way) -> str:
    if way.destination.address is Keyword.ME:
        return "Inbound"
    return "Outbound" if way.source.address is Keyword.ME else "Inbound Outbound"


def _addresses(
    endpoint: Endpoint, family: Family, own: dict[Family, list[str]]
) -> list[tuple[str, str]]:
    """The endpoint as pairs of address and mask."""
    address = endpoint.address
    whole = format_value(family, (1 << family.bits) - 1)
    if address is Keyword.ME:
        return [(text, whole) for text in own[family]] or [("0", whole)]
    if address is Keyword.ANY:
        return [(format_value(family, 0), format_value(family, 0))]
    if isinstance(address, HostName):
        return [(address.name, whole)]
    assert isinstance(address, Network)
    mask = (1 << family.bits) - (1 << (family.bits - address.length))
    return [(format_value(family, address.address), format_value(family, mask))]


def _ports(endpoint: Endpoint) -> str:
    return (
        ",".join(
            str(one.first) if one.width == 1 else f"{one.first}-{one.last}"
            for one in endpoint.ports
        )
        or "0"
    )
