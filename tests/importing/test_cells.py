"""The packets that stand for all of their class, where there are very many classes."""

from __future__ import annotations

import tracemalloc
from itertools import islice

from ipsecctl.importing import iptables
from ipsecctl.importing.cells import Cells, Place
from ipsecctl.importing.source import Given, Hook, InputFile
from ipsecd.model.addresses import Family

OWN = {Family.IPV4: ((0xC0000201, 0xC0000201),), Family.IPV6: ()}
NOTHING = {Family.IPV4: (), Family.IPV6: ()}


def cells(rules: list[str]) -> Cells:
    """The classes of what is sent to a host with these rules."""
    text = "\n".join(["*filter", ":INPUT DROP [0:0]", *rules, ""])
    parsed = iptables.read([InputFile("rules", text)], Given())
    place = Place(OWN, NOTHING, parsed.links, {})
    return Cells(Hook.IN, Family.IPV4, list(parsed.mentions()), place)


def test_pairs_of_ports_are_drawn_and_not_kept() -> None:
    """Thousands of ports on either side are millions of pairs, and memory for none of these."""
    ports = range(1, 4_000, 2)
    rules = [f"-A INPUT -p tcp --sport {port} --dport {port} -j ACCEPT" for port in ports]
    tracemalloc.start()
    found = cells(rules)
    drawn = list(islice(found.some(50, 0), 50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.size > len(ports) ** 2
    assert peak < 64 << 20
    assert any(one.protocol == 6 and one.destination_port for one in drawn)


def test_the_number_of_classes_may_be_larger_than_any_length() -> None:
    """Rules can ask for more kinds of packets than Python counts in a sequence."""
    rules = [
        f"-A INPUT -i e{n} -s 10.0.{n // 200}.{n % 200} -p tcp --sport {n} --dport {n} -j ACCEPT"
        for n in range(1, 500)
    ]
    few = cells(rules[:2])
    assert few.size == len(list(few.all()))
    assert cells(rules).size > 500**4
