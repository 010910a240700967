"""Owns which filters of a filter list become one filter with a list of addresses, and which again.

Filters that differ only in the address of one side say together what one filter says that names a
list of those addresses: an entry of a list ranks as the address in its place would. Must not know
how lists are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ipsecd.model.addresses import Keyword, ListName, Network
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.shared_filters import SharedEndpoint, SharedFilter
from ipsecd.model.values import IcmpOfFamily, PortRange

FOLD_ABOVE = 1000
"""So many filters stay filters: they cost less than a list that has to be looked into."""
UNFOLD_BELOW = 500
"""A list with fewer becomes filters again. Between both, all stays as it is: a list that goes up
and down would else become the one and the other time and again."""
PREFIX = "netsh-"
"""What the names of such lists begin with."""
_MOST_OF_NAME = 40
_OTHERS = re.compile(r"[^A-Za-z0-9_-]+")


class Group(NamedTuple):
    """Filters that differ only in the address of the source, or only in that of the destination.

    What is the same in all: the ``ports`` beside that address, and all of the ``other`` side.
    """

    is_by_source: bool
    ports: tuple[PortRange, ...]
    other: SharedEndpoint
    protocol: int | IcmpOfFamily | None
    mirrored: bool
    message: IcmpMessage | None

    def with_address(self, address: Network | ListName) -> SharedFilter:
        """The filter of this group that has this address, or stands for all in a list."""
        side = SharedEndpoint(address, self.ports)
        source, destination = (side, self.other) if self.is_by_source else (self.other, side)
        return SharedFilter(source, destination, self.protocol, self.mirrored, self.message)


def _group_of(flt: SharedFilter, *, by_source: bool) -> Group:
    side, other = flt.source, flt.destination
    if not by_source:
        side, other = other, side
    return Group(by_source, side.ports, other, flt.protocol, flt.mirrored, flt.message)


def groups_of(flt: SharedFilter) -> Iterator[tuple[Group, Network]]:
    """The groups that a filter is in, and its address in them.

    What is described is in none, as entries of lists are not described. The other side is this
    host, any address or a network: a range stands for several filters, and names are looked up.
    """
    if flt.description:
        return
    source, destination = flt.source, flt.destination
    for by_source, side, other in ((True, source, destination), (False, destination, source)):
        address = side.address
        if not isinstance(address, Network) or not isinstance(other.address, Keyword | Network):
            continue
        if address.length:
            yield _group_of(flt, by_source=by_source), address


def folded_group(flt: SharedFilter) -> tuple[Group, str] | None:
    """The group that a filter stands for, and its list; None for a filter that is only itself."""
    named = [
        (by_source, side.address.name)
        for by_source, side in ((True, flt.source), (False, flt.destination))
        if isinstance(side.address, ListName) and side.address.name.startswith(PREFIX)
    ]
    if len(named) != 1 or flt.description:
        return None
    ((by_source, name),) = named
    return _group_of(flt, by_source=by_source), name


def large_groups(
    filters: Iterable[SharedFilter],
) -> list[tuple[Group, dict[Network, SharedFilter]]]:
    """The groups that are to be lists, the largest first, each with filters that no other has."""
    filters = list(filters)
    if len(filters) <= FOLD_ABOVE:
        return []
    groups: dict[Group, dict[Network, SharedFilter]] = {}
    for flt in filters:
        for group, network in groups_of(flt):
            groups.setdefault(group, {})[network] = flt
    taken: set[SharedFilter] = set()
    large = []
    for group, members in sorted(groups.items(), key=lambda item: -len(item[1])):
        left = {network: flt for network, flt in members.items() if flt not in taken}
        if len(left) > FOLD_ABOVE:
            taken.update(left.values())
            large.append((group, left))
        elif len(members) <= FOLD_ABOVE:
            break
    return large


def are_few(number: int) -> bool:
    """Whether so many in a list are to be filters again."""
    return number < UNFOLD_BELOW


def list_names(filter_list: str) -> Iterator[str]:
    """Names for lists of a filter list: the one that says what it is, then others with numbers."""
    words = _OTHERS.sub("-", filter_list).strip("-")[:_MOST_OF_NAME] or "list"
    yield f"{PREFIX}{words}"
    number = 2
    while True:
        yield f"{PREFIX}{words}-{number}"
        number += 1
