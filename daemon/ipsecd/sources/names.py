"""Owns filling in the addresses of DNS names in filters; must not know where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ipsecd.model.addresses import HostName, Network
from ipsecd.model.host_names import host_names_in
from ipsecd.model.remembered import RememberedPolicy
from ipsecd.model.values import Endpoint, Filter, Policy, Rule


def dns_names_in(filters: Iterable[Filter]) -> frozenset[str]:
    """The DNS names that `filters` use."""
    return frozenset(name.name for name in host_names_in(filters))


def dns_names_of(policy: Policy) -> frozenset[str]:
    """The DNS names that a policy uses."""
    return policy.facts.names


def with_addresses(rule_filter: Filter, names: Mapping[str, tuple[Network, ...]]) -> Filter:
    """The filter with the addresses of its DNS names filled in, where they are known."""
    source = _resolved(rule_filter.source, names)
    destination = _resolved(rule_filter.destination, names)
    if source is rule_filter.source and destination is rule_filter.destination:
        return rule_filter
    return replace(rule_filter, source=source, destination=destination)


def policy_with_addresses(policy: Policy, names: Mapping[str, tuple[Network, ...]]) -> Policy:
    """The policy with the addresses of its DNS names filled in, where they are known.

    Its rules are read, and addresses filled in, only when somebody asks for them.
    """
    if not dns_names_of(policy):
        return policy
    facts = replace(policy.facts, by_name=_rules_with_addresses(policy.facts.by_name, names))
    return RememberedPolicy(
        policy.name,
        policy.description,
        policy.expect,
        facts,
        lambda: policy.with_rules(_rules_with_addresses(policy.rules, names), policy.resting),
        audit=policy.audit,
    )


def without_names(policy: Policy, names: frozenset[str]) -> Policy:
    """The policy without the filters that use any of these names."""
    rules = []
    for rule in policy.rules:
        remaining = tuple(
            rule_filter for rule_filter in rule.filters if not dns_names_in([rule_filter]) & names
        )
        if remaining or not rule.filters:
            rules.append(replace(rule, filters=remaining))
    return policy.with_rules(tuple(rules), policy.resting)


def _rules_with_addresses(
    rules: Iterable[Rule], names: Mapping[str, tuple[Network, ...]]
) -> tuple[Rule, ...]:
    return tuple(
        replace(
            rule,
            filters=tuple(with_addresses(rule_filter, names) for rule_filter in rule.filters),
        )
        for rule in rules
    )


def _resolved(endpoint: Endpoint, names: Mapping[str, tuple[Network, ...]]) -> Endpoint:
    address = endpoint.address
    if not isinstance(address, HostName) or address.name not in names:
        return endpoint
    return replace(endpoint, address=HostName(address.name, names[address.name]))
