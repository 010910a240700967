"""Owns which sources there are; must not know how any of them is read.

A module of a source has ``read``, a ``Reader``, and ``paths``, which says what files an argument of
the command line stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NamedTuple

from ipsecctl.importing.source import Given, InputFile, Parsed

SOURCES: dict[str, str] = {
    "iptables-save": "iptables",
    "ip6tables-save": "ip6tables",
    "ufw": "ufw",
    "nft": "nft",
    "firewalld": "firewalld_source",
    "ipset": "ipset_source",
    "hosts.deny": "hosts_deny_source",
    "windows-firewall": "windows_firewall_source",
}
"""The module of each source."""


class Source(NamedTuple):
    """One source: its name, and its module's functions."""

    name: str
    paths: Callable[[str], Sequence[str]]
    read: Callable[[Sequence[InputFile], Given], Parsed]


def source(name: str) -> Source:
    """The source called `name`, which there is."""
    module = import_module(f"ipsecctl.importing.{SOURCES[name]}")
    return Source(name, module.paths, module.read)
