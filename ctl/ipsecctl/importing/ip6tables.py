"""Owns that files without a first line of their own are IPv6 where ``ip6tables-save`` is named."""

from __future__ import annotations

from collections.abc import Sequence

from ipsecctl.importing import iptables
from ipsecctl.importing.iptables import paths
from ipsecctl.importing.netfilter_source import Netfilter
from ipsecctl.importing.source import Given, InputFile
from ipsecd.model.addresses import Family

__all__ = ["paths", "read"]


def read(files: Sequence[InputFile], given: Given) -> Netfilter:
    """The tables of the files; raises ``InvalidInput`` with file and line."""
    return iptables.read(files, given, Family.IPV6)
