"""Owns the inventory on disk: what container engines said last, for a daemon that restarts.

It lies where a reboot forgets it: no container survives one, and its addresses are others' then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ipsecd.errors import IpsecdError
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.values import Family, Network
from ipsecd.stores.cache import CheckedFile
from ipsecd.stores.files import Disk


class InventoryFile:
    """The inventories of all engines, by the path of their sockets."""

    def __init__(self, runtime_dir: Path, disk: Disk | None = None) -> None:
        self._file = CheckedFile(runtime_dir / "containers", disk)

    def save(self, inventories: Mapping[str, Inventory]) -> None:
        """Keep them; raises ``StoreFailed``."""
        content = {source: _to_json(one) for source, one in inventories.items()}
        self._file.save(json.dumps(content).encode())

    def load(self) -> dict[str, Inventory]:
        """What was kept last; nothing if it cannot be read."""
        content = self._file.load()
        if content is None:
            return {}
        try:
            return {source: _from_json(one) for source, one in json.loads(content).items()}
        except (IpsecdError, ValueError, KeyError, TypeError, AttributeError):
            return {}


Json = dict[str, list[list[int]]]


def _to_json(inventory: Inventory) -> dict[str, object]:
    return {
        "containers": [
            [one.id, one.name, sorted(one.labels), _networks_to_json(one.networks)]
            for one in inventory.containers
        ],
        "networks": _networks_to_json(inventory.networks),
    }


def _from_json(content: dict[str, object]) -> Inventory:
    containers, networks = content["containers"], content["networks"]
    assert isinstance(containers, list)
    assert isinstance(networks, dict)
    found = tuple(
        Container(
            str(identity),
            str(name),
            frozenset((str(key), str(value)) for key, value in labels),
            _networks_from_json(addresses),
        )
        for identity, name, labels, addresses in containers
    )
    return Inventory(found, _networks_from_json(networks))


def _networks_to_json(networks: Mapping[str, tuple[Network, ...]]) -> Json:
    return {
        name: [[int(n.family), n.address, n.length] for n in found]
        for name, found in networks.items()
    }


def _networks_from_json(content: Json) -> dict[str, tuple[Network, ...]]:
    return {
        name: tuple(Network(Family(f), address, length) for f, address, length in found)
        for name, found in content.items()
    }
