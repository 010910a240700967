"""Owns the order of filters by rank, as people read it: what decides before others comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ipsecctl.exporting.matches import Match, matches_of
from ipsecd.language.rule_parameters import read_in_force
from ipsecd.model.addresses import Address, Family, HostName, ListName, Network, Selector
from ipsecd.model.packets import Point
from ipsecd.model.values import Filter

Order = tuple[float, ...]


def by_rank(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Filters in force, as the daemon tells of them, the one that decides before others first.

    A filter with several ports, or in both directions, stands where the narrowest of its matches
    does. A name stands for single addresses here; an entry of a list ranks by its own length, which
    may be less. Filters of one rank are in the order in which they came.
    """
    return sorted(entries, key=_order, reverse=True)


def _order(entry: Mapping[str, Any]) -> Order:
    in_force = read_in_force(entry)
    fixed = replace(in_force, filter=_without_names(in_force.filter))
    return max(map(_comparable, matches_of([fixed])), default=())


def _comparable(match: Match) -> Order:
    """The rank of a match, so that it compares with those of the other IP version.

    No packet is of both, so filters for one of them compare only with filters for both, whose
    addresses are known wholly or not at all.
    """
    protected, addresses, *others = match.rank_at(Point.ARRIVING)
    return (protected, addresses / match.family.bits, *others)


def _without_names(flt: Filter) -> Filter:
    """The filter with a single address where it has the name of something."""
    ends = (flt.source, flt.destination)
    families = [end.address.family for end in ends if isinstance(end.address, Network)]
    family = families[0] if families else Family.IPV4
    source, destination = (replace(end, address=_fixed(end.address, family)) for end in ends)
    return replace(flt, source=source, destination=destination)


def _fixed(address: Address, family: Family) -> Address:
    if isinstance(address, HostName | Selector | ListName):
        return Network(family, 1, family.bits)
    return address
