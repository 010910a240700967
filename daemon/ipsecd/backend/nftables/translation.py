"""Owns finding out whether somebody translates addresses in this network namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.wire import (
    NFPROTO_UNSPEC,
    NLM_F_DUMP,
    Message,
    NftSocket,
    attributes,
)

LEGACY_TABLES = (Path("/proc/self/net/ip_tables_names"), Path("/proc/self/net/ip6_tables_names"))
"""The tables of x_tables that are loaded in this network namespace, one on each line."""

_CHAIN_USE, _CHAIN_TYPE = 6, 7
"""How many rules a chain has, and the type of a base chain (``enum nft_chain_attributes``)."""


def is_translated(socket: NftSocket) -> bool:
    """Whether there is a base chain of type nat with rules, or the nat table of x_tables.

    Of a chain without rules nobody is translated, and connection tracking may be off. Raises
    ``KernelError``.
    """
    for names in LEGACY_TABLES:
        with suppress(OSError):
            if "nat" in names.read_text(encoding="ascii").split():
                return True
    return any(
        chain.get(_CHAIN_TYPE, b"").rstrip(b"\0") == b"nat" and any(chain.get(_CHAIN_USE, b""))
        for chain in _chains(socket)
    )


def _chains(socket: NftSocket) -> Iterator[dict[int, bytes]]:
    everything = Message(nft.GETCHAIN, NLM_F_DUMP, b"", "chains")
    for body in socket.request(everything, family=NFPROTO_UNSPEC):
        yield dict(attributes(body))
