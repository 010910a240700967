"""Owns the JSON of the DNS names in filters, with the addresses that they stand for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ipsecd.language.addresses import format_value
from ipsecd.model.addresses import HostName
from ipsecd.model.host_names import host_names_in
from ipsecd.model.values import Filter


def resolved_names(filters: Iterable[Filter]) -> list[dict[str, Any]]:
    """Each DNS name in `filters` once, as the type ``ResolvedName`` of the interface has it."""
    return [
        {"name": name.name, "addresses": addresses_of(name)}
        for name in host_names_in(filters)
        if name.addresses
    ]


def addresses_of(name: HostName) -> list[str]:
    """The addresses that a DNS name stands for, as they are written alone."""
    return [format_value(network.family, network.address) for network in name.addresses]
