"""Owns ``netdiag /test:ipsec``: the old report; must not know how filters are written out."""

from __future__ import annotations

import uuid
from typing import Any

from ipsecctl.client import Client
from ipsecctl.expansion import Block, blocks_of
from ipsecctl.failures import DONE, REFUSED, UnreachableError, UsageError
from ipsecctl.legacy_switches import without_carriage_return
from ipsecctl.presentation import one_line
from ipsecd.output import say
from ipsecd.quoting import first_lines

_DETAILED = ("/debug", "/v")
HEAD = "IP Security test . . . . . . . . . :"
_IDS = uuid.UUID("b1c0a4f2-7a43-4d7e-8f0c-21d2c0d5c7aa")
_NO_POLICY_ID = str(uuid.UUID(int=0))


def run(client: Client, args: list[str]) -> int:
    """Print the report; ``/debug`` or ``/v`` adds every filter in force.

    Without a test it is the one that there is. ``/q`` and ``/l`` asked for less, and for a log.
    """
    words = [arg.lower().replace("-", "/", 1) for arg in without_carriage_return(args)]
    if set(words) - {"/test:ipsec", *_DETAILED, "/q", "/l"}:
        raise UsageError("netdiag has one test here", "netdiag /test:ipsec [/debug]")
    try:
        status = client.call("Status")["status"]
    except UnreachableError as error:
        return _failed(error.message)
    if status["state"] == "stopped":
        return _failed("The IPSec policy service is stopped; nothing is in force.")
    if status["state"] in ("failed", "drifted"):
        return _failed(*status["failures"], *status["drift"])
    say(f"{HEAD} Passed")
    if status["assigned"] is None:
        say("    IPSec policy service is active, but no policy is assigned.")
    elif status["loaded_from"] == "domain":
        say(f"    Domain IPSec Policy Active: '{status['assigned']}'")
    else:
        say(f"    Local IPSec Policy Active: '{status['assigned']}'")
    if set(words) & set(_DETAILED):
        _details(client, status)
    return DONE


def _failed(*reasons: str) -> int:
    say(f"{HEAD} Failed")
    for reason in first_lines([*reasons]):
        say(f"    {one_line(reason)}")
    return REFUSED


def _details(client: Client, status: dict[str, Any]) -> None:
    """Print where the policy is stored, then its filters, then the dynamic ones."""
    filters = client.call("ListFilters")["filters"]
    filters.sort(key=lambda entry: entry["store"] == "dynamic")
    own = _own_addresses(client.call("ListInterfaces")["interfaces"])
    if status["policy_path"]:
        say(f"    IP Security Policy Path: {status['policy_path']}")
    policies = {entry["policy"] for entry in filters if entry["policy"]}
    ids = {name: client.call("GetPolicy", {"name": name})["id"] for name in policies}
    blocks = [
        _block_lines(entry, block, ids.get(entry["policy"], _NO_POLICY_ID))
        for entry in filters
        for block in blocks_of(entry["filter"], own)
    ]
    if blocks:
        number = len(blocks)
        say("", "    There is 1 filter" if number == 1 else f"    There are {number} filters")
        say(*(line for lines in blocks for line in lines))


def _own_addresses(interfaces: list[dict[str, Any]]) -> list[str]:
    """The addresses of this machine, without prefix lengths, scopes and loopback."""
    addresses = (
        address.partition("/")[0].partition("%")[0]
        for interface in interfaces
        if interface["type"] != "loopback"
        for address in interface["addresses"]
    )
    return list(dict.fromkeys(addresses))


def _block_lines(entry: dict[str, Any], block: Block, policy_id: str) -> list[str]:
    source, destination = block.source, block.destination
    origin = (entry["store"], entry["policy"], entry["rule"], entry["action"])
    identity = uuid.uuid5(_IDS, "\0".join((*origin, *block.words)))
    action = {"block": "Block", "audit": "Audit"}.get(entry["action"], "Pass")
    ports = f"Src Port : {source.ports} Dest Port : {destination.ports}"
    return [
        "    No Name",
        f"        Filter Id: {{{str(identity).upper()}}}",
        f"        Policy Id: {{{policy_id.upper()}}}",
        f"        Src Addr : {source.address} Src Mask : {source.mask}",
        f"        Dest Addr : {destination.address} Dest Mask : {destination.mask}",
        f"        Tunnel Addr : {block.any_address} {ports}",
        f"        Protocol : {block.protocol} TunnelFilter: No",
        f"        Flags : {' '.join((*block.ways, action))}",
    ]
