"""Owns what stands for what is not known where a proof is made: addresses that nothing else has.

Without a host nobody knows its addresses, what DNS names and containers stand for, and what lists
hold. Each gets one address of each IP version that no filter names, in all states that are
compared. So what is proven is so for a host where none of them overlaps with another or with what
filters name; whoever tells what they are has it proven for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ipsecd.language.addresses import format_address
from ipsecd.model.addresses import Address, Family, HostName, ListName, Network, Selector
from ipsecd.model.expectations import SOME_HOST
from ipsecd.model.lists import listed
from ipsecd.model.packets import Host
from ipsecd.model.unnamed import Unnamed
from ipsecd.model.values import Endpoint, InForce

States = Sequence[Sequence[InForce]]


def with_stand_ins(states: States, host: Host) -> tuple[list[list[InForce]], Host, tuple[str, ...]]:
    """The states and the host with an address for whatever has none, and the names that got one."""
    unnamed = Unnamed(
        (one.filter for filters in states for one in filters), host.addresses | host.broadcasts
    )
    if not host.addresses:
        spare = dict(SOME_HOST.addresses)
        own = frozenset((family, unnamed.take(family) or spare[family]) for family in Family)
        host = replace(host, addresses=own)
    names: dict[str, tuple[Network, ...]] = {}
    lists = dict(host.lists)

    def resolved(end: Endpoint) -> Endpoint:
        address = end.address
        if not _is_unknown(address, host):
            return end
        name = format_address(address)
        if name not in names:
            names[name] = tuple(_taken(unnamed))
        if isinstance(address, ListName):
            lists[address.name] = listed(names[name])
            return end
        assert isinstance(address, HostName | Selector)
        return replace(end, address=replace(address, addresses=names[name]))

    standing = [[_with_ends(one, resolved) for one in filters] for filters in states]
    return standing, replace(host, lists=lists), tuple(sorted(names))


def _is_unknown(address: Address, host: Host) -> bool:
    if isinstance(address, ListName):
        return address.name not in host.lists
    return isinstance(address, HostName | Selector) and not address.addresses


def _taken(unnamed: Unnamed) -> Iterator[Network]:
    for family in Family:
        value = unnamed.take(family)
        if value is not None:
            yield Network(family, value, family.bits)


def _with_ends(one: InForce, resolved: Callable[[Endpoint], Endpoint]) -> InForce:
    member = one.filter
    source, destination = resolved(member.source), resolved(member.destination)
    if source is member.source and destination is member.destination:
        return one
    return replace(one, filter=replace(member, source=source, destination=destination))
