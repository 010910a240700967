"""Owns the inventory on disk: what container engines said last, for a daemon that restarts.

It lies where a reboot forgets it: no container survives one, and its addresses are others' then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.files import Disk
from ipsecd.sources.shapes import decode, items, members, text, whole

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
        """Keep them; raises ``StoreFailed``, or ``LimitExceeded`` if they are too many."""
        content = {source: _to_json(one) for source, one in inventories.items()}
        self._file.save(json.dumps(content).encode())

    def load(self) -> dict[str, Inventory]:
        """What was kept last; raises ``StoreFailed`` if the file cannot be used."""
        return self._file.load(_inventories) or {}


Json = dict[str, list[list[int]]]


def _inventories(content: bytes) -> dict[str, Inventory]:
    whole_text = members(decode(content), "the whole")
    return {source: _from_json(one) for source, one in whole_text.items()}


def _to_json(inventory: Inventory) -> dict[str, object]:
    return {
        "containers": [
            [one.id, one.name, _labels_to_json(one), _networks_to_json(one.networks)]
            for one in inventory.containers
        ],
        "networks": _networks_to_json(inventory.networks),
    }


def _labels_to_json(one: Container) -> list[list[str]]:
    # An engine may say what it likes; what is written must be readable.
    return sorted([str(key), str(value)] for key, value in one.labels)


def _from_json(node: object) -> Inventory:
    engine = members(node, "an engine", ("containers", "networks"))
    found = tuple(_container(one) for one in items(engine["containers"], "containers"))
    return Inventory(found, _networks_from_json(engine["networks"]))


def _container(node: object) -> Container:
    identity, name, labels, networks = items(node, "a container", 4)
    pairs = [items(pair, "a label", 2) for pair in items(labels, "labels")]
    return Container(
        text(identity, "an id"),
        text(name, "a name"),
        frozenset((text(key, "a key"), text(value, "a value")) for key, value in pairs),
        _networks_from_json(networks),
    )


def _networks_to_json(networks: Mapping[str, tuple[Network, ...]]) -> Json:
    return {
        name: [[int(n.family), n.address, n.length] for n in found]
        for name, found in networks.items()
    }


def _networks_from_json(node: object) -> dict[str, tuple[Network, ...]]:
    return {
        name: tuple(_network(one) for one in items(found, repr(name)))
        for name, found in members(node, "networks").items()
    }


def _network(node: object) -> Network:
    family, address, length = items(node, "an address", 3)
    version = Family(whole(family, "an IP version", 4, 6))
    return Network(
        version,
        whole(address, "an address", 0, (1 << version.bits) - 1),
        whole(length, "a prefix length", 0, version.bits),
    )
