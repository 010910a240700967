"""Owns finding out whether somebody translates addresses in this network namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.wire import NFPROTO_UNSPEC, Message, NftSocket
from ipsecd.netlink import NLM_F_DUMP, attributes

LEGACY_TABLES = (Path("/proc/self/net/ip_tables_names"), Path("/proc/self/net/ip6_tables_names"))
"""The tables of x_tables that are loaded in this network namespace, one on each line."""

_CHAIN_HOOK, _CHAIN_USE, _CHAIN_TYPE = 4, 6, 7
"""Where a base chain is, how many rules it has, its type (``enum nft_chain_attributes``)."""
_HOOK_NUMBER = 1


def is_translated(socket: NftSocket) -> bool:
    """Whether there is a base chain of type nat with rules, or the nat table of x_tables.

    Of a chain without rules nobody is translated, and connection tracking may be off. Raises
    ``KernelError``.
    """
    return _has_legacy_nat() or any(any(chain[_CHAIN_USE]) for chain in _nat_chains(socket))


def is_output_translated(socket: NftSocket) -> bool:
    """Whether what this host sends may be translated before it is at an interface.

    By a base chain of type nat at hook output, with rules or without, or by x_tables. Raises
    ``KernelError``.
    """
    return _has_legacy_nat() or any(
        int.from_bytes(dict(attributes(chain[_CHAIN_HOOK])).get(_HOOK_NUMBER, b""), "big")
        == nft.HOOKS["output"]
        for chain in _nat_chains(socket)
    )


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
            yield {_CHAIN_HOOK: b"", _CHAIN_USE: b"", **chain}
