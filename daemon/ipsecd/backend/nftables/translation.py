"""Owns finding out whether somebody translates addresses in this network namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.wire import NFPROTO_UNSPEC, Message, NftSocket
from ipsecd.host.netlink import NLM_F_DUMP, attributes

LEGACY_TABLES = (Path("/proc/self/net/ip_tables_names"), Path("/proc/self/net/ip6_tables_names"))
"""The tables of x_tables that are loaded in this network namespace, one on each line."""

_CHAIN_USE, _CHAIN_TYPE = 6, 7
"""How many rules a chain has, and the type of a base chain (``enum nft_chain_attributes``)."""


def is_translated(socket: NftSocket) -> bool:
    """Whether there is a base chain of type nat with rules, or the nat table of x_tables.

    A chain without rules translates nothing, and with no others connection tracking may be off.
    Raises ``KernelError``.
    """
    return _has_legacy_nat() or any(any(chain[_CHAIN_USE]) for chain in _nat_chains(socket))


def may_be_translated(socket: NftSocket) -> bool:
    """Whether there is a base chain of type nat, with rules or without, or that of x_tables.

    Then a packet that this host sends may have other addresses when it is at an interface. A chain
    at any hook can do that, because answers are translated back. Raises ``KernelError``.
    """
    return _has_legacy_nat() or any(True for _ in _nat_chains(socket))


def _has_legacy_nat() -> bool:
    for names in LEGACY_TABLES:
        with suppress(OSError):
            if "nat" in names.read_text(encoding="ascii").split():
                return True
    return False


def _nat_chains(socket: NftSocket) -> Iterator[dict[int, bytes]]:
    everything = Message(nft.GETCHAIN, NLM_F_DUMP, b"", "chains")
    for body in socket.request(everything, family=NFPROTO_UNSPEC):
        chain = dict(attributes(body))
        if chain.get(_CHAIN_TYPE, b"").rstrip(b"\0") == b"nat":
            yield {_CHAIN_USE: b"", **chain}
