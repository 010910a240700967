"""Owns ``quarantine`` and ``release``: ordinary dynamic rules that cut a container or the host off.

A wide block alone would not hold: a narrower permit of a policy outranks it. So every permit that
a policy has is blocked as well, where it concerns whoever is in quarantine; at the same rank a
dynamic block beats it. What the operator permits is more specific, or left out of those blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ipsecctl.client import Client
from ipsecctl.dynamic import add_dynamic, canonical_filter, rule_line
from ipsecctl.failures import DONE, UsageError
from ipsecctl.options import Options, duration_s, parse_options
from ipsecctl.presentation import print_json
from ipsecd.errors import IpsecdError, NotFound
from ipsecd.language.addresses import format_address, parse_address
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.values import Address, Endpoint, Filter, Keyword, Selector

BLOCKED, PERMITTED = "quarantine {}", "quarantine {}: permitted"


def quarantine(client: Client, args: list[str]) -> int:
    """Block all traffic of a container, or of this host, but what is permitted."""
    options = parse_options(args, ("--host", "--json"), ("--permit", "--for"), most=1)
    who = _who(options)
    lifetime = options.value("--for")
    ttl_s = None if lifetime is None else duration_s(lifetime)
    permits = [canonical_filter(text) for text in options.values.get("--permit", [])]
    name = _name(who)
    rules = []
    if permits:
        permitted = PERMITTED.format(name)
        rules.append(add_dynamic(client, permits, "permit", name=permitted, ttl_s=ttl_s))
    filters = blocks(who, permits, _static_permits(client))
    try:
        blocked = BLOCKED.format(name)
        rules.append(add_dynamic(client, filters, "block", name=blocked, ttl_s=ttl_s))
    except IpsecdError:
        if permits:
            client.call("RemoveDynamic", {"selector": PERMITTED.format(name)})
        raise
    if options.has("--json"):
        print_json(rules)
    else:
        for rule in rules:
            print(rule_line(rule))
    return DONE


def release(client: Client, args: list[str]) -> int:
    """End a quarantine."""
    options = parse_options(args, ("--host", "--json"), most=1)
    name = _name(_who(options))
    removed = []
    for pattern in (BLOCKED, PERMITTED):
        try:
            removed += client.call("RemoveDynamic", {"selector": pattern.format(name)})["removed"]
        except NotFound:
            continue
    if not removed:
        raise NotFound(f"{name} is not in quarantine", "ipsecctl show dynamic lists who is")
    if options.has("--json"):
        print_json({"removed": removed})
    else:
        print(f"{name} is released")
    return DONE


def blocks(who: Address, permits: Iterable[str], static: Iterable[str]) -> list[str]:
    """The filters of a quarantine of `who`, given what it and what policies permit."""
    spared = {way for text in permits for way in _ways(parse_filter(text))}
    found = {Filter(Endpoint(who), Endpoint(), mirrored=True): None}
    for text in static:
        for way in _ways(parse_filter(text)):
            for narrowed in (
                replace(way, source=replace(way.source, address=who)),
                replace(way, destination=replace(way.destination, address=who)),
            ):
                within = narrowed.source.address == narrowed.destination.address == Keyword.ME
                if narrowed not in spared and not within:
                    found[narrowed] = None
    return [format_filter(one) for one in found]


def _ways(one: Filter) -> Iterator[Filter]:
    """The filter in each of its directions."""
    yield replace(one, mirrored=False)
    if one.mirrored:
        yield replace(one, source=one.destination, destination=one.source, mirrored=False)


def _static_permits(client: Client) -> list[str]:
    return [
        one["filter"]
        for one in client.call("ListFilters")["filters"]
        if one["action"] == "permit" and one["store"] != "dynamic"
    ]


def _who(options: Options) -> Address:
    if options.has("--host") == bool(options.rest):
        raise UsageError("name a container, as container:NAME, or --host, and not both")
    if options.has("--host"):
        return Keyword.ME
    address = parse_address(options.rest[0])
    if not isinstance(address, Selector):
        raise UsageError(
            f"{options.rest[0]!r} is not a container",
            "write container:NAME; to block an address: ipsecctl block ADDRESS",
        )
    return address


def _name(who: Address) -> str:
    return "this host" if who is Keyword.ME else format_address(who)
