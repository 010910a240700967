"""Owns the lists that sets become, and the clauses that block them; must not know evaluation."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipsecctl.importing.ipset import OF_ADDRESSES, OF_SETS, Ipsets, IpsetSet
from ipsecctl.importing.regions import Dim, complement, networks_in, span_of, spans, spans_of
from ipsecctl.importing.source import Clause, Hook, Kind, Line, Note
from ipsecd.model.addresses import MAX_LIST_NAME, Family, Network
from ipsecd.model.kinds import Action
from ipsecd.model.lists import AddressList, listed
from ipsecd.quoting import count, few, quote


def lists_of(ipsets: Ipsets) -> dict[str, tuple[IpsetSet, AddressList]]:
    """The list that each set of addresses becomes, by the name of the list."""
    found: dict[str, tuple[IpsetSet, AddressList]] = {}
    for name, one in ipsets.sets.items():
        parts = ipsets.of_addresses(name)
        if parts:
            networks = (network for part in parts for network in _covered(part))
            found[_list_name(name, found)] = (one, listed(networks))
    return found


def _list_name(name: str, taken: dict[str, tuple[IpsetSet, AddressList]]) -> str:
    """The name of a set as that of a list, which has fewer signs to choose from."""
    base = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("-._")[: MAX_LIST_NAME - 4] or "set"
    number, unique = 2, base
    while unique in taken:
        unique = f"{base}-{number}"
        number += 1
    return unique


def _covered(one: IpsetSet) -> Iterator[Network]:
    """The networks in a set; those with exceptions in them in the parts that are left."""
    out = [network for network, is_in in one.entries.items() if not is_in]
    holes: dict[Network, list[Network]] = {}
    for exception in out:
        for length in range(exception.length):
            size = exception.family.bits - length
            wider = Network(exception.family, exception.address >> size << size, length)
            if one.entries.get(wider):
                holes.setdefault(wider, []).append(exception)
    for network, is_in in one.entries.items():
        if not is_in:
            continue
        if network not in holes:
            yield network
            continue
        whole = span_of(network.address, network.length, network.family)
        for part in complement(spans_of(holes[network]), whole):
            for address, length in networks_in((part,), network.family):
                yield Network(network.family, address, length)


def clauses_of(ipsets: Ipsets) -> Iterator[Clause]:
    """The clauses that block what comes from the lists."""
    for name, (one, addresses) in lists_of(ipsets).items():
        for family in Family:
            some = spans(
                span_of(network.address, network.length, family)
                for network in addresses.networks()
                if network.family is family
            )
            if some:
                region = {Dim.SOURCE: some}
                yield Clause(Hook.IN, family, region, Action.BLOCK, one.line, name)


def notes_of(ipsets: Ipsets, *, blocks: bool) -> Iterator[Note]:
    """What is not in the lists, or is there in another way."""
    yield Note(
        Line("ipset", 0, "what becomes of the addresses in sets"),
        Kind.ASSUMED,
        "sets do not say it; the policy "
        + ("blocks" if blocks else "only counts")
        + " what comes from them to this host",
        ("" if blocks else "have it blocked: --block; ")
        + "if the host forwards, add a rule with @NAME=* for each; if rules use the sets, import "
        "those, with --set",
    )
    for one in ipsets.sets.values():
        yield from _notes(one, ipsets)


def _notes(one: IpsetSet, ipsets: Ipsets) -> Iterator[Note]:
    if one.kind == OF_SETS:
        known = {each.name for each in ipsets.of_addresses(one.name)}
        others = sorted(set(one.members) - known)
        if others or not known:
            yield Note(
                one.line,
                Kind.LEFT_OUT,
                f"{few(others) or 'what is in it'}: no set of addresses is here by that name",
                "give these sets too, or write rules for what they hold",
                weaker=True,
            )
    elif one.kind not in OF_ADDRESSES:
        yield Note(
            one.line,
            Kind.LEFT_OUT,
            "a list holds addresses and prefixes alone, and this set has "
            f"{count(one.others, 'entry')} of another kind",
            "write rules with the addresses and ports, or links, that its entries name",
            weaker=True,
        )
    if one.ending and one.kind in OF_ADDRESSES:
        yield Note(
            one.line,
            Kind.CHANGED,
            f"of its entries {one.ending:,} would end by itself, and stay in the list"
            if one.ending == 1
            else f"of its entries {one.ending:,} would end by themselves, and stay in the list",
            "ipsecctl list remove NAME ADDRESS when it is time, or add them anew with --for",
        )
    if not one.is_created:
        yield Note(
            one.line,
            Kind.ASSUMED,
            f"no line creates set {quote(one.name)}, so it is taken for one of addresses",
            "give the line of 'ipset save' that creates it",
        )
