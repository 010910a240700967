"""Owns reading which packets the rules of a policy noted: of the daemon, or from recorded lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ipsecctl.client import Client
from ipsecctl.files import read_bytes
from ipsecd.errors import InvalidInput, IpsecdError
from ipsecd.language.flows import POINTS, flow_from_json, time_ns
from ipsecd.language.packets import parse_packet
from ipsecd.language.seen import assumed_types, to_packet
from ipsecd.model.addresses import Family
from ipsecd.model.flows import Recorded, flow_of
from ipsecd.model.kinds import InterfaceType
from ipsecd.model.packets import Host
from ipsecd.model.values import Store
from ipsecd.quoting import quote

AUDIT, BLOCK = "audit", "block"
_NEEDED = ("at", "rule", "direction", "packet")


@dataclass(frozen=True, slots=True)
class Noted:
    """The flows that were noted, and how many packets at most nothing is known of."""

    flows: tuple[Recorded, ...]
    unseen: int = 0


def noted_by_daemon(client: Client, policy: str) -> Noted:
    """What the daemon has recorded for the audit rules of `policy`, which is one of this host.

    The domain's may have the same name. A daemon that is older does not say whose policy it was.
    """
    flows: list[Recorded] = []
    start: int | None = 0
    unseen = 0
    while start is not None:
        reply = client.call("AuditedFlows", {"policy": policy, "start": start})
        flows += [
            flow_from_json(told)
            for told in reply["flows"]
            if told.get("store") in (None, Store.STATIC.value)
        ]
        start, unseen = reply["next"], reply["unseen"]
    return Noted(tuple(flows), unseen)


def noted_in_file(
    path: str, policy: str, host: Host, types: dict[str, InterfaceType | None], *, blocked: bool
) -> Noted:
    """What lines of ``ipsecctl monitor --json`` in a file tell of rules of `policy`.

    Those that audit rules noted and, with `blocked`, those that were dropped.
    """
    source = "<stdin>" if path == "-" else path
    wanted = {AUDIT, BLOCK} if blocked else {AUDIT}
    flows: dict[Any, Recorded] = {}
    unseen = lost = 0
    for number, seen in _objects(read_bytes(path), source):
        if "packet" not in seen:
            # A line that tells what was lost is no packet. It tells of all of a run so far.
            now = seen.get("lost", 0)
            if type(now) is not int or now < 0:
                raise _no_packet(source, number)
            unseen += now - lost if now >= lost else now
            lost = now
            continue
        if not isinstance(seen.get("action"), str):
            raise _no_packet(source, number)
        if seen.get("policy") != policy or seen["action"] not in wanted:
            continue
        if not all(isinstance(seen.get(name), str) for name in _NEEDED):
            raise _no_packet(source, number)
        try:
            one = _recorded(seen, host, types)
        except (IpsecdError, TypeError) as error:
            raise _no_packet(source, number) from error
        if one is None:
            unseen += 1
            continue
        before = flows.get(one.flow)
        flows[one.flow] = one if before is None else _together(before, one)
    return Noted(tuple(flows.values()), unseen)


def host_of(
    interfaces: Iterable[dict[str, Any]],
) -> tuple[Host, dict[str, InterfaceType | None]]:
    """The host with such interfaces, as ``ListInterfaces`` tells them, and their types."""
    addresses: set[tuple[Family, int]] = set()
    broadcasts: set[tuple[Family, int]] = set()
    types: dict[str, InterfaceType | None] = {}
    for interface in interfaces:
        kind = interface["type"]
        types[interface["name"]] = None if kind == "loopback" else InterfaceType(kind)
        for text in interface["addresses"]:
            own, broadcast = _own(text)
            addresses.add(own)
            broadcasts |= {broadcast} if broadcast else set()
    return Host(frozenset(addresses), frozenset(broadcasts)), types


def _own(text: str) -> tuple[tuple[Family, int], tuple[Family, int] | None]:
    """An address of this host, as with ``192.0.2.1/24``, and the broadcast address beside it."""
    from ipaddress import IPv4Interface, ip_interface

    address, slash, length = text.partition("/")
    parsed = ip_interface(address.partition("%")[0] + slash + length)
    family = Family(parsed.version)
    own = (family, int(parsed.ip))
    if not isinstance(parsed, IPv4Interface) or parsed.network.prefixlen > 30:
        return own, None
    return own, (family, int(parsed.network.broadcast_address))


def _objects(content: bytes, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _no_packet(source, number) from error
        if not isinstance(value, dict):
            raise _no_packet(source, number)
        yield number, value


def _no_packet(source: str, number: int) -> InvalidInput:
    return InvalidInput(
        "this line is no packet",
        "each line is what 'ipsecctl monitor --json' writes",
        source=source,
        line=number,
    )


def _recorded(
    seen: dict[str, Any], host: Host, types: dict[str, InterfaceType | None]
) -> Recorded | None:
    text = parse_packet(seen["packet"])
    known = {**assumed_types(text.interface), **types}
    packet = to_packet(text, host, known)
    if seen["direction"] not in POINTS:
        raise InvalidInput(f"{quote(seen['direction'])} is no direction")
    packet = replace(packet, point=POINTS[seen["direction"]], processes=frozenset())
    flow = flow_of(packet, seen["rule"], str(seen.get("flags") or ""))
    at_ns = time_ns(seen["at"])
    return None if flow is None else Recorded(flow, 1, at_ns, at_ns)


def _together(one: Recorded, other: Recorded) -> Recorded:
    return Recorded(
        one.flow,
        one.packets + other.packets,
        min(one.first_ns, other.first_ns),
        max(one.last_ns, other.last_ns),
    )
