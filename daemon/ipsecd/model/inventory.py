"""Owns what a container engine knows at one moment, and what selectors stand for in it; pure.

No engine should give out an address twice. If one does, the address belongs to both containers: a
block covers both, and so does a permit.
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
"""How many digits of an id are needed to name a container: as many as engines show."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All running containers, and the subnets of all networks by name."""

    containers: tuple[Container, ...] = ()
    networks: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)

    def addresses(self, selector: Selector) -> tuple[Network, ...]:
        """The addresses that `selector` stands for; none if there is nothing of that name."""
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

    def resolve(self, rule_filter: Filter) -> Filter | None:
        """The filter with the addresses of its selectors; None if it can match nothing."""
        if not has_selectors(rule_filter):
            return rule_filter
        source = self._resolved(rule_filter.source)
        destination = self._resolved(rule_filter.destination)
        for endpoint in (source, destination):
            if isinstance(endpoint.address, Selector) and not endpoint.address.addresses:
                return None
        try:
            return replace(rule_filter, source=source, destination=destination)
        except InvalidInput:
            # For example a container has only IPv6, and its peer only IPv4.
            return None

    def resolve_if_possible(self, rule_filter: Filter) -> Filter:
        """The filter with the addresses of its selectors, or as it is if it can match nothing."""
        return self.resolve(rule_filter) or rule_filter

    def _resolved(self, endpoint: Endpoint) -> Endpoint:
        if not isinstance(endpoint.address, Selector):
            return endpoint
        addresses = self.addresses(endpoint.address)
        return replace(endpoint, address=replace(endpoint.address, addresses=addresses))

    def with_announced(
        self,
        announced: Mapping[str, tuple[Network, ...]],
        taken: AbstractSet[Network] = frozenset(),
    ) -> Inventory:
        """This inventory, with addresses that were `announced` for containers, by their ids.

        Other containers lose the addresses that are `taken`, even if the engine still lists them.
        """
        if not announced:
            return self
        containers = []
        for container in self.containers:
            if container.id in announced:
                networks = self._by_network(announced[container.id])
            else:
                networks = {
                    name: tuple(address for address in addresses if address not in taken)
                    for name, addresses in container.networks.items()
                }
            containers.append(replace(container, networks=networks))
        return replace(self, containers=tuple(containers))

    def _by_network(self, addresses: Iterable[Network]) -> dict[str, tuple[Network, ...]]:
        """Addresses by the name of the network whose subnet they are in; "" if there is none."""
        by_network: dict[str, tuple[Network, ...]] = {}
        for host in addresses:
            name = next(
                (
                    name
                    for name, subnets in self.networks.items()
                    if any(
                        subnet.family is host.family and host.address in subnet
                        for subnet in subnets
                    )
                ),
                "",
            )
            by_network[name] = (*by_network.get(name, ()), host)
        return by_network


def has_selectors(rule_filter: Filter) -> bool:
    """Whether the filter names anything that a container engine knows."""
    endpoints = (rule_filter.source, rule_filter.destination)
    return any(isinstance(endpoint.address, Selector) for endpoint in endpoints)


def resolved(filters: Iterable[InForce], inventory: Inventory) -> tuple[InForce, ...]:
    """The filters that can match something, with the addresses of their selectors."""
    resolved_filters = []
    for in_force in filters:
        if has_selectors(in_force.filter):
            rule_filter = inventory.resolve(in_force.filter)
            if rule_filter is not None:
                resolved_filters.append(replace(in_force, filter=rule_filter))
        else:
            resolved_filters.append(in_force)
    return tuple(resolved_filters)


def merged(inventories: Iterable[Inventory]) -> Inventory:
    """What several engines know together. A name stands for all networks of that name."""
    containers: list[Container] = []
    networks: dict[str, tuple[Network, ...]] = {}
    for inventory in inventories:
        containers += inventory.containers
        for name, subnets in inventory.networks.items():
            networks[name] = networks.get(name, ()) + subnets
    return Inventory(tuple(containers), networks)
