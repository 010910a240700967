"""Owns the file of inventories: what container engines said last, for a daemon that restarts.

It is where a reboot deletes it: no container survives a reboot, and others get its addresses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.files import Disk
from ipsecd.sources.strict_json import decode, integer, items, members, text

FORM = Form(
    "containers",
    1,
    64 << 20,
    "nothing need be done: it is written again when a container engine answers",
    durable=False,
)


class InventoryFile:
    """The inventories of all engines, by the path of their sockets."""

    def __init__(self, runtime_dir: Path, disk: Disk | None = None) -> None:
        self._file = CheckedFile(runtime_dir / "containers", FORM, disk)

    def save(self, inventories: Mapping[str, Inventory]) -> None:
        """Save them; raises ``StoreFailed``, or ``LimitExceeded`` if they are too many."""
        content = {
            source: inventory_to_json(inventory) for source, inventory in inventories.items()
        }
        self._file.save(json.dumps(content).encode())

    def load(self) -> dict[str, Inventory]:
        """What was saved last; raises ``StoreFailed`` if the file cannot be used."""
        return self._file.load(_inventories) or {}


Json = dict[str, list[list[int]]]


def _inventories(content: bytes) -> dict[str, Inventory]:
    engines = members(decode(content), "the whole")
    return {source: inventory_from_json(engine) for source, engine in engines.items()}


def inventory_to_json(inventory: Inventory) -> dict[str, object]:
    """An inventory as JSON."""
    return {
        "containers": [
            [
                container.id,
                container.name,
                _labels_to_json(container),
                _networks_to_json(container.networks),
            ]
            for container in inventory.containers
        ],
        "networks": _networks_to_json(inventory.networks),
    }


def _labels_to_json(container: Container) -> list[list[str]]:
    # An engine may give labels of any type, but the file must be readable again.
    return sorted([str(key), str(value)] for key, value in container.labels)


def inventory_from_json(json_engine: object) -> Inventory:
    """The inverse of ``inventory_to_json``; raises ``ValueError``."""
    engine = members(json_engine, "an engine", ("containers", "networks"))
    containers = tuple(map(_container, items(engine["containers"], "containers")))
    return Inventory(containers, _networks_from_json(engine["networks"]))


def _container(json_container: object) -> Container:
    identity, name, labels, networks = items(json_container, "a container", 4)
    pairs = [items(pair, "a label", 2) for pair in items(labels, "labels")]
    return Container(
        text(identity, "an id"),
        text(name, "a name"),
        frozenset((text(key, "a key"), text(value, "a value")) for key, value in pairs),
        _networks_from_json(networks),
    )


def _networks_to_json(networks: Mapping[str, tuple[Network, ...]]) -> Json:
    return {
        name: [[int(address.family), address.address, address.length] for address in addresses]
        for name, addresses in networks.items()
    }


def _networks_from_json(json_networks: object) -> dict[str, tuple[Network, ...]]:
    return {
        name: tuple(map(_network, items(addresses, repr(name))))
        for name, addresses in members(json_networks, "networks").items()
    }


def _network(json_address: object) -> Network:
    family, address, length = items(json_address, "an address", 3)
    version = Family(integer(family, "an IP version", 4, 6))
    return Network(
        version,
        integer(address, "an address", 0, (1 << version.bits) - 1),
        integer(length, "a prefix length", 0, version.bits),
    )
