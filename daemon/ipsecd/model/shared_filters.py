"""Owns filter lists and filter actions that policies share; must not know any syntax.

They live beside the policies and outlive them. A rule that was made of a list and an action has
its filters in its policy all the same, and the names of both; whoever changes a list or an action
changes the policies that use it. Every value is immutable and valid: constructors raise
``InvalidInput``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Address, Family, Network
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.kinds import Action
from ipsecd.model.values import (
    Endpoint,
    Filter,
    IcmpOfFamily,
    PortRange,
    check_description,
    check_name,
)
from ipsecd.quoting import quote


@dataclass(frozen=True, slots=True)
class AddressRange:
    """All addresses from ``first`` to ``last``, both included, in host order."""

    family: Family
    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last < 1 << self.family.bits:
            raise InvalidInput(
                "the range of addresses ends before it begins", "write the lower address first"
            )

    def networks(self) -> Iterator[Network]:
        """The fewest networks that hold these addresses and no others, ascending."""
        first, bits = self.first, self.family.bits
        while first <= self.last:
            # As many host bits as the first address has zeros at its end, if there is room.
            host_bits = min((first & -first).bit_length() - 1 if first else bits, bits)
            host_bits = min(host_bits, (self.last - first + 1).bit_length() - 1)
            yield Network(self.family, first, bits - host_bits)
            first += 1 << host_bits


class ServerKind(Enum):
    """The servers of this host that have a word of their own in the place of an address."""

    DNS = "dns"
    WINS = "wins"
    DHCP = "dhcp"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Servers:
    """This host's servers of one kind, with the addresses that they had when they were looked up.

    ``addresses`` are hosts, each once, sorted; there is one at least.
    """

    kind: ServerKind
    addresses: tuple[Network, ...]

    def __post_init__(self) -> None:
        if not self.addresses:
            raise InvalidInput(
                f"no address of a {self.kind.value} server is given",
                f"write {self.kind.value}(192.0.2.1), or the address itself",
            )
        if any(network.length != network.family.bits for network in self.addresses):
            raise InvalidInput(
                f"a {self.kind.value} server is one host", "leave out the prefix length"
            )
        order = sorted(set(self.addresses), key=lambda each: (each.family, each.address))
        object.__setattr__(self, "addresses", tuple(order))


SharedAddress = Address | AddressRange | Servers


@dataclass(frozen=True, slots=True)
class SharedEndpoint:
    """One side of a filter of a list: an address and the ports at it (none given: any)."""

    address: SharedAddress
    ports: tuple[PortRange, ...] = ()

    def endpoints(self) -> tuple[Endpoint, ...]:
        """What it stands for in filters that are enforced."""
        if isinstance(self.address, AddressRange):
            return tuple(Endpoint(network, self.ports) for network in self.address.networks())
        if isinstance(self.address, Servers):
            return tuple(Endpoint(network, self.ports) for network in self.address.addresses)
        return (Endpoint(self.address, self.ports),)


@dataclass(frozen=True, slots=True)
class SharedFilter:
    """A filter of a list. Two that match the same are equal, whatever describes them."""

    source: SharedEndpoint
    destination: SharedEndpoint
    protocol: int | IcmpOfFamily | None = None
    mirrored: bool = False
    message: IcmpMessage | None = None
    description: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_description("a filter", self.description)
        # Whatever is wrong with it is wrong with the first filter that it stands for.
        next(self.filters())

    def filters(self) -> Iterator[Filter]:
        """The filters that it stands for: one, unless a side stands for several networks."""
        for source in self.source.endpoints():
            for destination in self.destination.endpoints():
                yield Filter(source, destination, self.protocol, self.mirrored, self.message)


@dataclass(frozen=True, slots=True)
class FilterList:
    """A named list of filters, each once, in the order in which they came; it may be empty."""

    name: str
    description: str = ""
    filters: tuple[SharedFilter, ...] = ()

    def __post_init__(self) -> None:
        check_name("filter list", self.name)
        check_description(f"filter list {quote(self.name)}", self.description)
        object.__setattr__(self, "filters", tuple(dict.fromkeys(self.filters)))


@dataclass(frozen=True, slots=True)
class FilterAction:
    """A named action."""

    name: str
    action: Action
    description: str = ""

    def __post_init__(self) -> None:
        check_name("filter action", self.name)
        check_description(f"filter action {quote(self.name)}", self.description)


_NO_LISTS: Mapping[str, FilterList] = MappingProxyType({})
_NO_ACTIONS: Mapping[str, FilterAction] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SharedFilters:
    """All filter lists and filter actions of a host, each by its name."""

    lists: Mapping[str, FilterList] = field(default_factory=lambda: _NO_LISTS)
    actions: Mapping[str, FilterAction] = field(default_factory=lambda: _NO_ACTIONS)

    @classmethod
    def of(
        cls, lists: Iterable[FilterList] = (), actions: Iterable[FilterAction] = ()
    ) -> SharedFilters:
        """Those of `lists` and `actions`; of one name the last is taken."""
        return cls(
            MappingProxyType({each.name: each for each in lists}),
            MappingProxyType({each.name: each for each in actions}),
        )

    def with_list(self, filter_list: FilterList) -> SharedFilters:
        """The same with `filter_list`, in the place of the one of its name if there is one."""
        lists = {**self.lists, filter_list.name: filter_list}
        return replace(self, lists=MappingProxyType(lists))

    def with_action(self, action: FilterAction) -> SharedFilters:
        """The same with `action`, in the place of the one of its name if there is one."""
        actions = {**self.actions, action.name: action}
        return replace(self, actions=MappingProxyType(actions))

    def without_list(self, name: str) -> SharedFilters:
        """The same without the filter list of that name."""
        lists = {key: each for key, each in self.lists.items() if key != name}
        return replace(self, lists=MappingProxyType(lists))

    def without_action(self, name: str) -> SharedFilters:
        """The same without the filter action of that name."""
        actions = {key: each for key, each in self.actions.items() if key != name}
        return replace(self, actions=MappingProxyType(actions))

    def __bool__(self) -> bool:
        return bool(self.lists or self.actions)
