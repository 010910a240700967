"""What entries of lists are to count, by the oracle, and what a backend says that they did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from ipsecd.backend.base import Backend
from ipsecd.model.addresses import Keyword, ListName
from ipsecd.model.counted_lists import CountedList, with_counting
from ipsecd.model.decide import Decision, best_first, matches_of
from ipsecd.model.lists import AddressList, Form
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import InForce

Entry = tuple[str, Form, bytes]
"""A list, and one of its entries."""


def counting(
    lists_in_turn: Iterable[Mapping[str, AddressList]], names: Iterable[str]
) -> list[dict[str, AddressList]]:
    """The lists, of which those with these names count."""
    return [
        {name: with_counting(each, counts=name in names) for name, each in lists.items()}
        for lists in lists_in_turn
    ]


def counted_by(backend: Backend) -> Counter[Entry]:
    """How many packets each entry has counted where it counts on."""
    packets: Counter[Entry] = Counter()
    for each in backend.entry_counts(lambda *_: True):
        # What has ended tells its last values once, and they are of the policy before.
        for entry, count in ({} if each.has_ended else each.counts or {}).items():
            packets[each.list_name, each.form, entry] += count.packets
    return packets


def to_count(decisions: Iterable[tuple[Packet, Decision]], host: Host) -> Counter[Entry]:
    """What entries are to count: those by which a packet was decided about, or audited."""
    return Counter(
        entry
        for packet, decision in decisions
        for in_force in (decision.by, decision.audited)
        if in_force
        for entry in _entries(in_force, packet, host)
    )


def _entries(in_force: InForce, packet: Packet, host: Host) -> Iterator[Entry]:
    """The entries by which a filter matches a packet, in the better of its two directions."""
    flt = in_force.filter
    ways = [(flt.source, flt.destination)]
    if flt.mirrored:
        ways.append((flt.destination, flt.source))
    matching = []
    for source, destination in ways:
        one_way = replace(flt, source=source, destination=destination, mirrored=False)
        matches = matches_of(replace(in_force, filter=one_way), packet, host)
        matching += [(best_first(match), source, destination) for match in matches]
    _, source, destination = min(matching, key=lambda each: each[0])
    if packet.point is Point.LEAVING and source.address is not Keyword.ME:
        packet = packet.arrived or packet
    for end, address in ((source, packet.source), (destination, packet.destination)):
        members = host.lists.get(end.address.name) if isinstance(end.address, ListName) else None
        if isinstance(end.address, ListName) and isinstance(members, CountedList):
            length = max(members.covering(packet.family, address))
            form = Form(packet.family, length)
            yield end.address.name, form, form.packed(address)
