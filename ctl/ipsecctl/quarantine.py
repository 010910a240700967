"""Owns ``quarantine`` and ``release``: ordinary dynamic rules that cut a container or the host off.

A wide block alone would not hold: a narrower permit outranks it. So every permit in force is
blocked as well, where it concerns whoever is in quarantine; at the same rank a dynamic block beats
it. What the operator permits is left out of those blocks, or permitted as narrowly as they block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ipsecctl.client import Client
from ipsecctl.dynamic import add_dynamic, rule_line
from ipsecctl.failures import DONE, UsageError
from ipsecctl.options import Options, duration_s
from ipsecctl.presentation import print_warnings
from ipsecd.errors import InvalidInput, IpsecdError, NotFound
from ipsecd.language.addresses import format_address, parse_address
from ipsecd.language.filters import format_filter, parse_filter, parse_short
from ipsecd.model.values import (
    Address,
    Endpoint,
    Filter,
    InterfaceType,
    Keyword,
    Network,
    PortRange,
    Process,
    Selector,
)
from ipsecd.output import say, say_json
from ipsecd.quoting import quote

PERMITTED = "quarantine {}: permitted"
INTERFACES: dict[str | None, str] = {
    None: "quarantine {}",
    **{kind.value: f"quarantine {{}}: on {kind.value}" for kind in InterfaceType},
}
PATTERNS = (*INTERFACES.values(), PERMITTED)


def quarantine(client: Client, options: Options) -> int:
    """Block all traffic of a container, or of this host, but what is permitted."""
    who = _who(options)
    lifetime = options.value("--for")
    ttl_s = None if lifetime is None else duration_s(lifetime)
    permits = [parse_short(text) for text in options.values.get("--permit", [])]
    ours = [pattern.format(_name(who)) for pattern in PATTERNS]
    others = [
        (parse_filter(one["filter"]), one["interface"])
        for one in client.call("ListFilters")["filters"]
        if one["action"] == "permit" and not (one["store"] == "dynamic" and one["rule"] in ours)
    ]
    wanted = rules(who, permits, others)
    made: list[str] = []
    answers = []
    try:
        for pattern, (action, interface, filters) in wanted.items():
            name = pattern.format(_name(who))
            answers.append(
                add_dynamic(client, filters, action, name=name, ttl_s=ttl_s, interface=interface)
            )
            made.append(name)
    except IpsecdError:
        _remove(client, made)
        raise
    # What an earlier quarantine of the same permitted, and this one does not.
    _remove(client, [name for name in ours if name not in made])
    if options.has("--json"):
        say_json(answers)
    else:
        for rule in answers:
            say(rule_line(rule))
        print_warnings([*dict.fromkeys(line for rule in answers for line in rule["warnings"])])
    return DONE


def release(client: Client, options: Options) -> int:
    """End a quarantine."""
    name = _name(_who(options))
    removed = _remove(client, [pattern.format(name) for pattern in PATTERNS])
    if not removed:
        raise NotFound(f"{name} is not in quarantine", "ipsecctl show dynamic lists who is")
    if options.has("--json"):
        say_json({"removed": removed})
    else:
        say(f"{name} is released")
    return DONE


def rules(
    who: Address, permits: Sequence[Filter], others: Sequence[tuple[Filter, str | None]]
) -> dict[str, tuple[str, str | None, list[str]]]:
    """The dynamic rules of a quarantine by the pattern of their names: action, interface, filters.

    `permits` are the operator's; `others` are the permits in force, each with its interface type.
    """
    permitted = {way: None for one in permits for way in _ways(one)}
    blocked: dict[str | None, dict[Filter, None]] = {kind: {} for kind in INTERFACES}
    for one, interface in others:
        for way in _ways(one):
            for narrowed in _narrowed(way, who):
                overlaps = {_intersection(narrowed, permit) for permit in permitted}
                if narrowed not in overlaps:
                    blocked[interface][narrowed] = None
                    # Where the two overlap, the permit must be the more specific one.
                    permitted |= dict.fromkeys(overlap for overlap in overlaps if overlap)
    found: dict[str, tuple[str, str | None, list[str]]] = {}
    if permitted:
        found[PERMITTED] = ("permit", None, [*map(format_filter, permitted)])
    everything = Filter(Endpoint(who), Endpoint(), mirrored=True)
    for kind, pattern in INTERFACES.items():
        filters = [*([everything] if kind is None else []), *blocked[kind]]
        if filters:
            found[pattern] = ("block", kind, [*map(format_filter, filters)])
    return found


def _ways(one: Filter) -> Iterator[Filter]:
    """The filter in each of its directions."""
    yield replace(one, mirrored=False)
    if one.mirrored:
        yield replace(one, source=one.destination, destination=one.source, mirrored=False)


def _narrowed(way: Filter, who: Address) -> Iterator[Filter]:
    """What of `way` concerns `who`, as source and as destination."""
    if isinstance(way.source.address, Process):
        # Who sends it is this host, and never a container.
        if who is Keyword.ME:
            yield way
        return
    for one in (
        replace(way, source=replace(way.source, address=who)),
        replace(way, destination=replace(way.destination, address=who)),
    ):
        if not one.source.address == one.destination.address == Keyword.ME:
            yield one


def _intersection(one: Filter, other: Filter) -> Filter | None:
    """What both filters match, as far as a filter can say it; None if that is nothing."""
    ends = []
    for left, right in ((one.source, other.source), (one.destination, other.destination)):
        address = _both(left.address, right.address)
        ports = _common_ports(left.ports, right.ports)
        if address is None or ports is None:
            return None
        ends.append(Endpoint(address, ports))
    protocols = {p.protocol for p in (one, other)} - {None}
    if len(protocols) > 1:
        return None
    try:
        return replace(
            one,
            source=ends[0],
            destination=ends[1],
            protocol=protocols.pop() if protocols else None,
            mirrored=False,
        )
    except InvalidInput:
        return None


def _both(one: Address, other: Address) -> Address | None:
    if one == other or other is Keyword.ANY:
        return one
    if one is Keyword.ANY:
        return other
    if isinstance(one, Process) and other is Keyword.ME:
        return one
    if isinstance(one, Network) and isinstance(other, Network) and one.family is other.family:
        wide, narrow = sorted((one, other), key=lambda network: network.length)
        return narrow if narrow.address in wide else None
    return None


def _common_ports(
    one: tuple[PortRange, ...], other: tuple[PortRange, ...]
) -> tuple[PortRange, ...] | None:
    if not one or not other:
        return one or other
    common = tuple(
        PortRange(first, last)
        for a in one
        for b in other
        if (first := max(a.first, b.first)) <= (last := min(a.last, b.last))
    )
    return common or None


def _remove(client: Client, names: Iterable[str]) -> list[str]:
    """Remove dynamic rules that may not be there; those that were."""
    removed = []
    for name in names:
        try:
            removed += client.call("RemoveDynamic", {"selector": name})["removed"]
        except NotFound:
            continue
    return removed


def _who(options: Options) -> Address:
    if options.has("--host"):
        return Keyword.ME
    address = parse_address(options.argument())
    if not isinstance(address, Selector):
        raise UsageError(
            f"{quote(options.argument())} is not a container",
            "write container:NAME; to block an address: ipsecctl block ADDRESS",
        )
    return address


def _name(who: Address) -> str:
    return "this host" if who is Keyword.ME else format_address(who)
