"""Owns which DNS names filters use; must not know how they are looked up."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecd.model.addresses import HostName
from ipsecd.model.values import Filter


def host_names_in(filters: Iterable[Filter]) -> list[HostName]:
    """The DNS names in `filters` with the addresses that they have there, each once."""
    names = {
        endpoint.address: None
        for rule_filter in filters
        for endpoint in (rule_filter.source, rule_filter.destination)
        if isinstance(endpoint.address, HostName)
    }
    return [*names]
