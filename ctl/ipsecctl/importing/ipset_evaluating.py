"""Owns whether a packet is from an address in a set that is blocked; must not know lists.

As the kernel does, the networks of a set are looked up from the narrowest to the widest, and the
first that is there says whether the address is in the set.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipsecctl.importing.ipset import Ipsets, IpsetSet
from ipsecctl.importing.source import Decided, Hook, Judgement, Line, SourcePacket
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action

_PASSES = Judgement((Decided(Action.PERMIT, None),))


class IpsetEvaluator:
    """Judges packets by the sets of addresses, if they are blocked at all."""

    def __init__(self, ipsets: Ipsets, *, blocks: bool) -> None:
        self._blocks = blocks
        self._sets: list[tuple[Line, list[_Lookup]]] = [
            (one.line, [_Lookup(each) for each in ipsets.of_addresses(name)])
            for name, one in ipsets.sets.items()
        ]

    def judge(self, packet: SourcePacket) -> Judgement:
        """What becomes of a packet where what comes from the sets to this host is blocked."""
        if not self._blocks or packet.hook is not Hook.IN or packet.link == "lo":
            return _PASSES
        for line, lookups in self._sets:
            if any(lookup.has(packet.family, packet.source) for lookup in lookups):
                return Judgement((Decided(Action.BLOCK, line),))
        return _PASSES


class _Lookup:
    """The networks of one set by IP version and length."""

    def __init__(self, one: IpsetSet) -> None:
        self._of: dict[tuple[Family, int], dict[int, bool]] = {}
        for network, is_in in one.entries.items():
            self._of.setdefault((network.family, network.length), {})[network.address] = is_in
        self._lengths = sorted(self._of, reverse=True)

    def has(self, family: Family, address: int) -> bool:
        """Whether an address is in the set."""
        for key in self._lengths_of(family):
            size = family.bits - key[1]
            found = self._of[key].get(address >> size << size)
            if found is not None:
                return found
        return False

    def _lengths_of(self, family: Family) -> Iterable[tuple[Family, int]]:
        return (key for key in self._lengths if key[0] is family)
