"""Owns the methods about containers: to list them, and to announce one that is about to start."""

from __future__ import annotations

from typing import Any

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import states_of_engines
from ipsecd.engine import Engine
from ipsecd.errors import InvalidInput, NotFound
from ipsecd.language.addresses import format_value, parse_address
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import MIN_ID
from ipsecd.quoting import quote


def _list_containers(engine: Engine, _: Request) -> dict[str, Any]:
    engine.ask_for_containers()
    containers = [
        {
            "id": container.id[:MIN_ID],
            "name": container.name,
            "labels": [f"{key}={value}" for key, value in sorted(container.labels)],
            "networks": [
                {"name": name, "addresses": [_host_text(address) for address in addresses]}
                for name, addresses in sorted(container.networks.items())
            ],
        }
        for container in sorted(engine.inventory.containers, key=lambda container: container.name)
        if container.networks
    ]
    return {"containers": containers, "engines": states_of_engines(engine)}


def _announce_container(engine: Engine, request: Request) -> dict[str, Any]:
    addresses = []
    for text in request["addresses"]:
        address = parse_address(f"[{text}]" if ":" in text else text)
        if not isinstance(address, Network) or address.length != address.family.bits:
            raise InvalidInput(
                f"{quote(text)} is not an address", "write it without a prefix length"
            )
        addresses.append(address)
    if not engine.announce(request["id"], tuple(addresses), shared=request["shared"]):
        raise NotFound(
            f"no container engine has told of container {quote(request['id'][:MIN_ID])} yet",
            "try again in a moment",
        )
    return {}


def _host_text(host: Network) -> str:
    return format_value(host.family, host.address)


METHODS = (
    Method("ListContainers", Role.VIEW, Work.QUICK, _list_containers),
    Method("AnnounceContainer", Role.CHANGE, Work.QUICK, _announce_container, for_programs=True),
)
