"""Owns what filters that name lists stand for at one moment; must not know the entries of lists.

A list that does not exist is as one without entries: filters that name it match nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from ipsecd.model.addresses import JOINED, ListName
from ipsecd.model.inventory import has_selectors
from ipsecd.model.lists import AddressList
from ipsecd.model.values import Endpoint, Filter, InForce


def lists_in(rule_filter: Filter) -> frozenset[str]:
    """The names of the lists that a filter names."""
    ends = (rule_filter.source.address, rule_filter.destination.address)
    return frozenset(address.name for address in ends if isinstance(address, ListName))


def changes_by_itself(rule_filter: Filter) -> bool:
    """Whether what a filter stands for changes without it: it names containers, or lists."""
    return has_selectors(rule_filter) or bool(lists_in(rule_filter))


def with_lengths(filters: Iterable[InForce], lists: Mapping[str, AddressList]) -> Iterator[InForce]:
    """The filters, with the prefix lengths that the entries of their lists have at the moment."""
    for in_force in filters:
        rule_filter = in_force.filter
        if lists_in(rule_filter):
            source = _with_lengths(rule_filter.source, lists)
            destination = _with_lengths(rule_filter.destination, lists)
            rule_filter = replace(rule_filter, source=source, destination=destination)
            yield replace(in_force, filter=rule_filter)
        else:
            yield in_force


def _with_lengths(end: Endpoint, lists: Mapping[str, AddressList]) -> Endpoint:
    if not isinstance(end.address, ListName):
        return end
    name = end.address.name
    forms = {f for part in name.split(JOINED) if part in lists for f in lists[part].entries}
    return replace(end, address=ListName(name, tuple(forms)))
