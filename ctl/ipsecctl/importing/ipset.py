"""Owns the sets that ``ipset save`` prints, as values; must not know what becomes of packets.

Reading them, evaluating them and translating them are three modules that share these values alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ipsecctl.importing.source import Line
from ipsecd.model.addresses import Network

OF_ADDRESSES = frozenset({"hash:ip", "hash:net", "bitmap:ip"})
OF_SETS = "list:set"


@dataclass(slots=True)
class IpsetSet:
    """One set. ``entries`` says of each network whether it is in it; False is an exception.

    The narrowest network that holds an address decides (ipset(8), ``nomatch``). ``members`` are the
    sets in a set of sets. ``ending`` is how many entries have an end, ``others`` how many are none
    of these.
    """

    name: str
    line: Line
    kind: str
    is_created: bool = True
    entries: dict[Network, bool] = field(default_factory=dict)
    members: dict[str, Line] = field(default_factory=dict)
    length: int | None = None
    """The prefix length that each entry of a set with a netmask has."""
    ending: int = 0
    others: int = 0


@dataclass(frozen=True, slots=True)
class Ipsets:
    """All sets, by name."""

    sets: Mapping[str, IpsetSet]

    def of_addresses(self, name: str) -> tuple[IpsetSet, ...]:
        """The sets of addresses that a set is, or that a set of sets has; none if it is neither."""
        one = self.sets.get(name)
        if one is None:
            return ()
        if one.kind == OF_SETS:
            members = (self.sets.get(member) for member in one.members)
            return tuple(each for each in members if each and each.kind in OF_ADDRESSES)
        return (one,) if one.kind in OF_ADDRESSES else ()
