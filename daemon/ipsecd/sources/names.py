"""Owns putting addresses to DNS names in filters; must not know where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ipsecd.model.addresses import HostName, Network
from ipsecd.model.remembered import RememberedPolicy
from ipsecd.model.values import Endpoint, Filter, Policy, Rule


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
    return policy.facts.names


def with_addresses(one: Filter, names: Mapping[str, tuple[Network, ...]]) -> Filter:
    """The filter with the addresses of its DNS names filled in, where they are known."""
    source, destination = (_resolved(e, names) for e in (one.source, one.destination))
    if source is one.source and destination is one.destination:
        return one
    return replace(one, source=source, destination=destination)


def policy_with_addresses(policy: Policy, names: Mapping[str, tuple[Network, ...]]) -> Policy:
    """The policy with the addresses of its DNS names filled in, where they are known.

    Its rules are not read for that before somebody asks for them.
    """
    if not names_of(policy):
        return policy
    facts = replace(policy.facts, by_name=_rules_with_addresses(policy.facts.by_name, names))
    return RememberedPolicy(
        policy.name,
        policy.description,
        facts,
        lambda: _rules_with_addresses(policy.rules, names),
    )


def without_names(policy: Policy, names: frozenset[str]) -> Policy:
    """The policy without the filters that use any of these names."""
    rules = []
    for rule in policy.rules:
        kept = tuple(one for one in rule.filters if not names_in([one]) & names)
        if kept:
            rules.append(replace(rule, filters=kept))
    return Policy(policy.name, tuple(rules), policy.description)


def _rules_with_addresses(
    rules: Iterable[Rule], names: Mapping[str, tuple[Network, ...]]
) -> tuple[Rule, ...]:
    return tuple(
        replace(rule, filters=tuple(with_addresses(one, names) for one in rule.filters))
        for rule in rules
    )


def _resolved(endpoint: Endpoint, names: Mapping[str, tuple[Network, ...]]) -> Endpoint:
    address = endpoint.address
    if not isinstance(address, HostName) or address.name not in names:
        return endpoint
    return replace(endpoint, address=HostName(address.name, names[address.name]))
