"""Owns what a container engine knows at one moment, and what selectors stand for in it; pure.

An address that is given out twice, which no engine should do, belongs to each container that has
it: a block covers both, and so does a permit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Network, Selector, SelectorKind
from ipsecd.model.values import Endpoint, Filter, InForce


@dataclass(frozen=True, slots=True)
class Container:
    """A container that has addresses; ``networks`` has those of each network, by its name.

    ``id`` is the engine's own name for it, ``labels`` are pairs of key and value.
    """

    id: str
    name: str
    labels: frozenset[tuple[str, str]] = frozenset()
    networks: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)

    def matches(self, selector: Selector) -> bool:
        """Whether `selector` means this container."""
        if selector.kind is SelectorKind.CONTAINER:
            long_enough = len(selector.name) >= MIN_ID
            return selector.name == self.name or (long_enough and self.id.startswith(selector.name))
        key, _, value = selector.name.partition("=")
        return selector.kind is SelectorKind.LABEL and (key, value) in self.labels


MIN_ID = 12
"""How many digits of an id name a container: as many as engines show."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All running containers, and the subnets of all networks by name."""

    containers: tuple[Container, ...] = ()
    networks: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)

    def addresses(self, selector: Selector) -> tuple[Network, ...]:
        """What `selector` stands for; nothing if there is no such thing."""
        if selector.kind is SelectorKind.NETWORK:
            return self.networks.get(selector.name, ())
        return tuple(
            address
            for container in self.containers
            if container.matches(selector)
            for network, addresses in container.networks.items()
            if selector.network in {"", network}
            for address in addresses
        )

    def resolve(self, one: Filter) -> Filter | None:
        """The filter with what its selectors stand for; None if it can match nothing."""
        if not has_selectors(one):
            return one
        ends = [self._end(end) for end in (one.source, one.destination)]
        if any(isinstance(e.address, Selector) and not e.address.addresses for e in ends):
            return None
        try:
            return replace(one, source=ends[0], destination=ends[1])
        except InvalidInput:
            # A container that has only IPv6, and a peer that has only IPv4.
            return None

    def known(self, one: Filter) -> Filter:
        """The filter with what its selectors stand for, as far as that is known."""
        return self.resolve(one) or one

    def _end(self, end: Endpoint) -> Endpoint:
        if not isinstance(end.address, Selector):
            return end
        address = replace(end.address, addresses=self.addresses(end.address))
        return replace(end, address=address)

    def with_announced(
        self,
        announced: Mapping[str, tuple[Network, ...]],
        taken: AbstractSet[Network] = frozenset(),
    ) -> Inventory:
        """The same, with addresses that containers have before their engine says so, by id.

        Whoever else had one that is `taken` has it no longer, even if its engine has not said that.
        """
        if not announced:
            return self
        containers = []
        for one in self.containers:
            if one.id not in announced:
                left = {
                    name: tuple(address for address in found if address not in taken)
                    for name, found in one.networks.items()
                }
                containers.append(replace(one, networks=left))
            else:
                containers.append(replace(one, networks=self._by_network(announced[one.id])))
        return replace(self, containers=tuple(containers))

    def _by_network(self, addresses: Iterable[Network]) -> dict[str, tuple[Network, ...]]:
        """Addresses by the network whose subnet they are in; "" where there is none."""
        found: dict[str, tuple[Network, ...]] = {}
        for one in addresses:
            name = next(
                (
                    name
                    for name, subnets in self.networks.items()
                    if any(n.family is one.family and one.address in n for n in subnets)
                ),
                "",
            )
            found[name] = (*found.get(name, ()), one)
        return found


def has_selectors(one: Filter) -> bool:
    """Whether the filter names anything that a container engine knows."""
    return any(isinstance(end.address, Selector) for end in (one.source, one.destination))


def resolved(filters: Iterable[InForce], inventory: Inventory) -> tuple[InForce, ...]:
    """Those of the filters that can match anything, with what their selectors stand for."""
    found = []
    for one in filters:
        if has_selectors(one.filter):
            known = inventory.resolve(one.filter)
            if known is not None:
                found.append(replace(one, filter=known))
        else:
            found.append(one)
    return tuple(found)


def merged(inventories: Iterable[Inventory]) -> Inventory:
    """What several engines know together; networks of one name are all meant by it."""
    containers: list[Container] = []
    networks: dict[str, tuple[Network, ...]] = {}
    for one in inventories:
        containers += one.containers
        for name, found in one.networks.items():
            networks[name] = networks.get(name, ()) + found
    return Inventory(tuple(containers), networks)
