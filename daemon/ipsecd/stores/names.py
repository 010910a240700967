"""Owns putting addresses to DNS names in filters; must not know where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ipsecd.model.values import Endpoint, Filter, HostName, Network, Policy


def names_in(filters: Iterable[Filter]) -> frozenset[str]:
    """The DNS names that `filters` use."""
    return frozenset(
        endpoint.address.name
        for one in filters
        for endpoint in (one.source, one.destination)
        if isinstance(endpoint.address, HostName)
    )


def names_of(policy: Policy) -> frozenset[str]:
    """The DNS names that a policy uses."""
    return names_in(one for rule in policy.rules for one in rule.filters)


def with_addresses(one: Filter, names: Mapping[str, tuple[Network, ...]]) -> Filter:
    """The filter with the addresses of its DNS names filled in, where they are known."""
    source, destination = (_resolved(e, names) for e in (one.source, one.destination))
    if source is one.source and destination is one.destination:
        return one
    return replace(one, source=source, destination=destination)


def policy_with_addresses(policy: Policy, names: Mapping[str, tuple[Network, ...]]) -> Policy:
    """The policy with the addresses of its DNS names filled in, where they are known."""
    if not names_of(policy):
        return policy
    rules = tuple(
        replace(rule, filters=tuple(with_addresses(one, names) for one in rule.filters))
        for rule in policy.rules
    )
    return replace(policy, rules=rules)


def without_names(policy: Policy, names: frozenset[str]) -> Policy:
    """The policy without the filters that use any of these names."""
    rules = []
    for rule in policy.rules:
        kept = tuple(one for one in rule.filters if not names_in([one]) & names)
        if kept:
            rules.append(replace(rule, filters=kept))
    return replace(policy, rules=tuple(rules))


def _resolved(endpoint: Endpoint, names: Mapping[str, tuple[Network, ...]]) -> Endpoint:
    address = endpoint.address
    if not isinstance(address, HostName) or address.name not in names:
        return endpoint
    return replace(endpoint, address=HostName(address.name, names[address.name]))
