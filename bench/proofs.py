"""Seconds to prove what a change of many filters decides differently, beside z3 with the question.

Both are given filters that are parsed. z3 gets the filters of both states as one formula, by rank,
and is asked for a TCP packet over IPv4 that arrives and that they decide differently: its answer is
one packet, or that there is none. Ours has one for every pair of rules, of every protocol, for both
IP versions, at every point where packets are looked at, each judged by ``decide`` as well.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import z3

from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Network
from ipsecd.model.values import Action, InForce, Origin
from ipsecd.proof.changes import Surroundings, changes

SIZES = (1_000, 10_000)
RULES = 10
PORT_BITS, ADDRESS_BITS = 16, 32
Filters = list[InForce]
Pair = tuple[Filters, Filters]


def drawn(chance: random.Random, number: int, rules: int, ports: Callable[[], str]) -> Filters:
    """Filters from prefixes of many lengths to ports of this host, in some rules."""
    filters = []
    for at in range(number):
        length = chance.randrange(8, 33)
        bits = chance.getrandbits(length) << ADDRESS_BITS - length
        address = ".".join(str(octet) for octet in bits.to_bytes(4, "big"))
        rule = at * rules // number
        action = Action.PERMIT if rule % 3 == 0 else Action.BLOCK
        written = parse_filter(f"{address}/{length}=0:{ports()}:TCP")
        filters.append(InForce(Origin("static", "P", f"rule {rule:06}"), written, action))
    return filters


def some_ports(chance: random.Random) -> str:
    return str(chance.randrange(1, 1 << PORT_BITS))


def ranges(chance: random.Random) -> str:
    low, high = sorted(chance.sample(range(1, 1 << PORT_BITS), 2))
    return f"{low}-{high}"


def without_last_block(filters: Filters) -> Pair:
    """The filters, and the same without one that blocks and that decides about some packet."""
    gone = max((each for each in filters if each.action is Action.BLOCK), key=rank)
    return filters, [each for each in filters if each is not gone]


def in_another_order(chance: random.Random, filters: Filters) -> Pair:
    """The filters, and the same in other places and with one that never decides."""
    moved = [*filters, filters[0]]
    chance.shuffle(moved)
    return filters, moved


def rank(one: InForce) -> tuple[int, int, int]:
    """The order of precedence, of filters as they are drawn here."""
    address, (low, high) = parts(one)[0], parts(one)[1]
    return address.length, low - high, int(one.action is Action.BLOCK)


def parts(one: InForce) -> tuple[Network, tuple[int, int]]:
    """The source and the ports of a filter."""
    source = one.filter.source.address
    assert isinstance(source, Network)
    (ports,) = one.filter.destination.ports
    return source, (ports.first, ports.last)


def by_z3(before: Sequence[InForce], now: Sequence[InForce]) -> bool:
    """Whether z3 has a packet that is decided differently."""
    source = z3.BitVec("source", ADDRESS_BITS)
    port = z3.BitVec("port", PORT_BITS)

    def blocked(filters: Iterable[InForce]) -> z3.BoolRef:
        decided = z3.BoolVal(False)
        for one in sorted(filters, key=rank):
            network, (first, last) = parts(one)
            low = ADDRESS_BITS - network.length
            matches = [
                z3.Extract(ADDRESS_BITS - 1, low, source) == network.address >> low,
                z3.UGE(port, first),
                z3.ULE(port, last),
            ]
            decided = z3.If(z3.And(matches), z3.BoolVal(one.action is Action.BLOCK), decided)
        return decided

    solver = z3.Solver()
    solver.add(blocked(before) != blocked(now))
    return bool(solver.check() == z3.sat)


def by_us(before: Sequence[InForce], now: Sequence[InForce]) -> bool:
    """Whether something is decided differently by our proof."""
    return bool(changes(before, now, Surroundings()))


def timed(work: Callable[[], bool]) -> tuple[float, bool]:
    """Seconds of this process, and the answer."""
    begun = time.process_time()
    answer = work()
    return time.process_time() - begun, answer


def main() -> None:
    print(f"seconds of a processor; z3 {z3.get_version_string()}")
    for title, rules, drawn_ports in (
        ("one port each, in ten rules", lambda _: RULES, some_ports),
        ("a range of ports each, in ten rules", lambda _: RULES, ranges),
        ("a range of ports each, in a rule of its own", lambda number: number, ranges),
    ):
        for number in SIZES:
            chance = random.Random(number)
            filters = drawn(chance, number, rules(number), partial(drawn_ports, chance))
            for what, (before, now), differs in (
                ("one less", without_last_block(filters), True),
                ("another order", in_another_order(chance, filters), False),
            ):
                (ours, said), (theirs, they_say) = (
                    timed(partial(prove, before, now)) for prove in (by_us, by_z3)
                )
                assert said == they_say == differs, (title, what)
                print(
                    f"  {number:6,} filters, {title:44}{what:14} "
                    f"ipsecd {ours:6.2f}  z3 {theirs:6.2f}  ratio {ours / theirs:5.2f}"
                )


if __name__ == "__main__":
    main()
