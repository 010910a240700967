"""What it costs that a list counts what each entry matches, beside the same list without.

How long a list takes to be loaded in nftables, to get one entry more, and to be read. Then what a
datagram takes that it drops, by nftables and by programs beside nftables: a veth carries it from
another namespace, so what a send takes is all that happens to it. The least of many rounds counts,
and the ways take turns. Run it with ``make bench``.
"""

from __future__ import annotations

import random
import socket
import statistics
import sys
import time
from collections.abc import Callable
from math import inf

from bench.isolation import must_be_isolated
from bench.second_look import sending
from ipsecd.backend.base import Backend
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.counted_lists import with_counting
from ipsecd.model.lists import AddressList, Form, listed
from ipsecd.model.packing import changed
from ipsecd.model.values import Action, InForce, Origin
from tests.counts import counts_of
from tests.equality.wire import make
from tests.netns.site import PEER4, wire

ROUNDS, PACKETS, PORT = 30, 4000, 1434
ORIGIN = Origin("static", "P", "r")
WAYS = {"without": False, "counting": True}
NOTHING = compile_filters([])


def blocking(addresses: AddressList) -> Classifier:
    """A policy that blocks a list."""
    filters = [InForce(ORIGIN, parse_filter("@drop=0"), Action.BLOCK)]
    return compile_filters(filters, lists={"drop": addresses})


def drawn(count: int) -> AddressList:
    """So many addresses, with the one that sends."""
    luck = random.Random(1434)
    sender = int.from_bytes(socket.inet_aton(PEER4), "big")
    addresses = {sender, *luck.sample(range(1 << 24, 0xE0 << 24), count - 1)}
    packed = b"".join(address.to_bytes(4, "big") for address in sorted(addresses))
    return AddressList({Form(Family.IPV4, 32): packed})


def timed(work: Callable[[], object]) -> float:
    """The seconds that work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def loading(name: str, addresses: AddressList, *, counts: bool) -> None:
    """Print how long changes of the list take, in nftables."""
    backend = NftablesBackend()
    backend.apply(blocking(AddressList()), Volatile())

    def load(addresses: AddressList) -> None:
        wanted = blocking(with_counting(addresses, counts=counts))
        backend.prepare(wanted, lambda work: work())
        backend.apply(wanted, Volatile())

    loaded, more = timed(lambda: load(addresses)), []
    for number in range(ROUNDS):
        one = listed([Network(Family.IPV4, number + 1, 32)])
        addresses = changed(addresses, AddressList(), one)
        begun = time.perf_counter()
        load(addresses)
        more.append(time.perf_counter() - begun)
    read = timed(lambda: backend.entry_counts(lambda *_: True))
    print(
        f"{name:9} loaded in {loaded:6.2f} s, one entry more "
        f"{statistics.median(more) * 1000:5.2f} ms, read in {read:6.2f} s"
    )
    backend.remove()
    backend.close()


def drops(name: str, backend: Backend, addresses: AddressList, sender: socket.socket) -> None:
    """Print what a datagram takes that the list drops, in nanoseconds."""
    least = dict.fromkeys(WAYS, inf)
    for _ in range(ROUNDS):
        for way, counts in WAYS.items():
            backend.apply(blocking(with_counting(addresses, counts=counts)), Volatile())
            before = counts_of(backend)[ORIGIN].packets
            spent = timed(lambda: [sender.send(b"worm") for _ in range(PACKETS)])
            assert counts_of(backend)[ORIGIN].packets - before == PACKETS
            least[way] = min(least[way], spent / PACKETS * 1e9)
    without, counting = least["without"], least["counting"]
    print(f"{name}: a send takes {without:.0f} ns without, {counting:.0f} ns counting")


def main() -> None:
    must_be_isolated()
    addresses = drawn(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    for name, counts in WAYS.items():
        loading(name, addresses, counts=counts)
    few = drawn(1000)
    with wire():
        sender = sending(PORT)
        for name in ("nftables", "xdp"):
            backend = make(name)
            drops(name, backend, few, sender)
            backend.remove()
            backend.close()


if __name__ == "__main__":
    main()
