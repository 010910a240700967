"""Owns what filters that name lists stand for at one moment; must not know the entries of lists.

A list that does not exist is as one without entries: filters that name it match nothing. In the
domain's policy a name means the domain's list, if the policy carries one of that name.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace

from ipsecd.model.addresses import JOINED, OF_DOMAIN, ListName
from ipsecd.model.inventory import has_selectors
from ipsecd.model.lists import AddressList
from ipsecd.model.values import Endpoint, Filter, InForce, Policy

_NONE: frozenset[str] = frozenset()


def lists_in(rule_filter: Filter) -> frozenset[str]:
    """The names of the lists that a filter names."""
    source, destination = rule_filter.source.address, rule_filter.destination.address
    if not (isinstance(source, ListName) or isinstance(destination, ListName)):
        # So it is with nearly all filters, and each is asked several times.
        return _NONE
    ends = (source, destination)
    return frozenset(address.name for address in ends if isinstance(address, ListName))


def lists_named_by(policy: Policy) -> frozenset[str]:
    """The names of the lists that filters of a policy name."""
    rules = policy.facts.by_name
    return frozenset(name for rule in rules for flt in rule.filters for name in lists_in(flt))


def changes_by_itself(rule_filter: Filter) -> bool:
    """Whether what a filter stands for changes without it: it names containers, or lists."""
    return has_selectors(rule_filter) or bool(lists_in(rule_filter))


def as_domain_means(rule_filter: Filter, lists: Container[str]) -> Filter:
    """A filter of the domain's policy: lists in it are the domain's, if they are among `lists`."""
    if not lists_in(rule_filter):
        return rule_filter
    source, destination = rule_filter.source, rule_filter.destination
    return replace(
        rule_filter,
        source=_of_domain(source, lists),
        destination=_of_domain(destination, lists),
    )


def _of_domain(end: Endpoint, lists: Container[str]) -> Endpoint:
    if not isinstance(end.address, ListName) or f"{OF_DOMAIN}{end.address.name}" not in lists:
        return end
    return replace(end, address=ListName(f"{OF_DOMAIN}{end.address.name}"))


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
