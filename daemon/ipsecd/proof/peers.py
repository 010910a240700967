"""Owns how addresses of peers become few prefixes; must not know what the peers do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import groupby

from ipsecd.model.addresses import Family, Network

MANY_NETWORKS = 16
"""Peers in so many networks are anybody."""
NETWORK_BITS = {Family.IPV4: 24, Family.IPV6: 48}
"""What one site has (RFC 6177), and what is routed by itself."""
SUBNET_BITS = 64
"""One subnet of IPv6 (RFC 4291, section 2.5.1)."""

Peer = tuple[Family, int]


def networks_of(peers: Iterable[Peer]) -> set[Peer]:
    """The networks, each by its first bits, that `peers` are in."""
    return {(family, address >> family.bits - NETWORK_BITS[family]) for family, address in peers}


def prefixes_of(peers: Collection[Peer], widen: int | None = None) -> Iterator[Network]:
    """The fewest prefixes that hold `peers` and nobody else, in order.

    With `widen`, peers that have so many bits of their IPv4 address in common, or 64 of IPv6, get
    the least prefix that holds them, whoever else is in it.
    """
    for family in Family:
        own = sorted({address for other, address in peers if other is family})
        exact = _joined(Network(family, address, family.bits) for address in own)
        if widen is None:
            yield from exact
        else:
            yield from _widened(exact, widen if family is Family.IPV4 else SUBNET_BITS)


def _widened(networks: Iterable[Network], bits: int) -> Iterator[Network]:
    """For each run of `networks` with the first so many `bits` in common the least that holds it.

    One that is wider already stays: no other has its first bits.
    """
    for _, run in groupby(networks, lambda one: one.address >> one.family.bits - bits):
        first, *others = run
        last = others[-1] if others else first
        end = last.address | (1 << last.family.bits - last.length) - 1
        free = (first.address ^ end).bit_length()
        yield Network(first.family, first.address >> free << free, first.family.bits - free)


def _joined(networks: Iterable[Network]) -> list[Network]:
    """The same addresses in the fewest prefixes; `networks` are disjoint, and in order."""
    joined: list[Network] = []
    for network in networks:
        joined.append(network)
        while len(joined) > 1 and (both := _parent(*joined[-2:])):
            joined[-2:] = [both]
    return joined


def _parent(first: Network, second: Network) -> Network | None:
    """The prefix whose two halves are these, if there is one."""
    free = first.family.bits - first.length
    halves = first.length == second.length and first.address ^ second.address == 1 << free
    return Network(first.family, first.address, first.length - 1) if halves else None
