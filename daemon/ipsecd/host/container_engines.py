"""Owns following a container engine over its socket; must not know what is done with the news.

Podman and Docker answer the same requests. For each socket one thread first subscribes to the
engine's events and then asks for everything, so nothing is missed between the two. Every event that
can matter makes it ask for everything again. Each engine needs an exception. Podman answers
nothing about a container while that starts, so the event that tells of a new container is believed
by itself. Docker lists no address before a container runs, so the network that it joins is asked,
at once and before anything else: it knows the address before the container's first process does.
An engine that is absent, slow or gone delays nobody: the last news stay valid until there are newer
ones.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from ipsecd.language.addresses import ipv4_value, ipv6_value
from ipsecd.log import record
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory

API_VERSION = "1.40"
RETRY_S = 0.5
ANSWER_S = 10
REFRESH_S = 10.0
"""After so long without an event everything is asked for again."""
AGAIN_S = (0.02, 0.1, 0.5, 2.0)
"""The waits after an event, each followed by asking for everything again: Docker tells of some
events before they have happened."""

ABSENT, UNUSED, CONNECTED, UNREACHABLE = "absent", "unused", "connected", "unreachable"
_ENDED = frozenset({"exited", "dead"})
"""States in which a container can send nothing any more. In Podman's "stopping" its processes still
run until they have ended, and in "stopped" a pod or another container may still use the network."""
_EVENTS = frozenset(
    {
        *("create", "init", "start", "restart", "unpause", "connect", "disconnect", "rename"),
        *("die", "died", "stop", "kill", "cleanup", "remove", "destroy", "pause"),
    }
)

_NO_LABELS = frozenset({"image", "containerExitCode", "exitCode", "podId", "signal", "execID"})
"""The attributes of a container in an event that are not its labels."""

Publish = Callable[[str, Inventory | None, str, float], None]


class Follower:
    """One thread that follows one engine."""

    def __init__(self, path: Path, wanted: Callable[[], bool], publish: Publish) -> None:
        """`wanted` says whether anybody needs news; `publish` gets socket, news, state and time.

        The news are None when only the state has changed. The time, in monotonic seconds, is when
        the engine was asked for the news: what happened since may not be among them.
        """
        self._path = path
        self._wanted = wanted
        self._publish = publish
        self._end = threading.Event()
        self._state = ""
        self._lock = threading.Lock()
        self._inventory = Inventory()
        self._asked_at = -inf
        self._created: dict[str, Container] = {}
        self._changed_networks: set[str] = set()
        self._members: dict[str, NetworkMembers] = {}
        self._thread = threading.Thread(target=self._work, name=f"follow {path}", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no longer; does not wait for an engine that does not answer."""
        self._end.set()

    def _work(self) -> None:
        while not self._end.is_set():
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - the daemon ends, and takes no more news
                record(logging.DEBUG, "container-news-lost", reason=str(error))
            self._end.wait(RETRY_S)

    def _look(self) -> None:
        if not self._path.exists():
            self._tell(ABSENT)
        elif not self._wanted():
            # Nobody follows from here on, so what was published must not be believed later.
            followed = self._state not in {"", ABSENT, UNUSED}
            self._tell(UNUSED, Inventory() if followed else None)
        else:
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 - the library raises of every kind
                self._tell(f"{UNREACHABLE}: {error}"[:300])

    def _follow(self) -> None:
        """Publish everything whenever something may have changed; ends when the engine does."""
        # It takes a tenth of a second to import, and most hosts have no filter that needs it.
        try:
            import docker  # noqa: PLC0415
        except ImportError:
            self._tell(f"{UNREACHABLE}: install python3-docker")
            return
        url = f"unix://{self._path}"
        client = docker.APIClient(base_url=url, version=API_VERSION, timeout=ANSWER_S)
        # Whoever joins a network must not wait until the answers about everything have come.
        quick_client = docker.APIClient(base_url=url, version=API_VERSION, timeout=ANSWER_S)
        try:
            changed = threading.Event()
            over = threading.Event()
            events = client.events(decode=True, filters={"type": ["container", "network"]})
            arguments = (events, quick_client, changed, over)
            threading.Thread(target=self._listen, args=arguments, daemon=True).start()
            changed.set()
            again: Iterator[float] = iter(())
            while not self._end.is_set() and not over.is_set() and self._wanted():
                if changed.wait(next(again, REFRESH_S)):
                    changed.clear()
                    again = iter(AGAIN_S)
                if over.is_set():
                    break
                asked_at = time.monotonic()
                self._ask_changed_networks(client)
                inventory = read_inventory(client.containers(all=True), client.networks())
                with self._lock:
                    self._inventory, self._asked_at = inventory, asked_at
                    for container in inventory.containers:
                        self._created.pop(container.id, None)
                    self._members = {
                        network: members
                        for network, members in self._members.items()
                        if members.asked_at >= asked_at or members.is_ahead_of(inventory)
                    }
                    self._tell(CONNECTED, self._everything())
        finally:
            client.close()
            quick_client.close()
        if over.is_set():
            self._tell(f"{UNREACHABLE}: it ended the connection")

    def _ask_changed_networks(self, client: Any) -> None:
        """Ask the networks that a container has joined or left, or joins before it is listed."""
        with self._lock:
            networks, self._changed_networks = self._changed_networks | self._members.keys(), set()
        for network in networks:
            self._ask_network(client, network)

    def _ask_network(self, client: Any, network: str) -> None:
        """Take what the engine says of the members of a network, unless a later answer is there."""
        members = NetworkMembers("", {}, time.monotonic())
        # A network that is gone has no members; any other failure repeats in the next request.
        with suppress(OSError):
            members = read_network(client.inspect_network(network), members.asked_at)
        with self._lock:
            present = self._members.get(network)
            if present is None or present.asked_at <= members.asked_at:
                self._members[network] = members

    def _everything(self) -> Inventory:
        """The containers that were listed and those that were created since, with all addresses."""
        listed = self._inventory.containers
        listed_ids = {container.id for container in listed}
        created = self._created.values()
        new = tuple(container for container in created if container.id not in listed_ids)
        everything = replace(self._inventory, containers=listed + new)
        return with_members(everything, self._members.values())

    def _listen(
        self, events: Any, client: Any, changed: threading.Event, over: threading.Event
    ) -> None:
        """Set `changed` for every event that can matter, and both when no more events will come."""
        try:
            for event in events:
                action = str(event.get("Action") or event.get("status") or "").partition(":")[0]
                if event.get("Type") == "network" and action in {"connect", "disconnect"}:
                    network = str((event.get("Actor") or {}).get("ID"))
                    with self._lock:
                        self._changed_networks.add(network)
                    if action == "connect":
                        self._ask_network(client, network)
                        with self._lock:
                            self._tell_before_all_is_listed()
                if event.get("Type") != "network" and action in {"create", "remove", "destroy"}:
                    self._follow_container(event, action)
                if action in _EVENTS or event.get("Type") == "network":
                    changed.set()
        except Exception as error:  # noqa: BLE001 - a broken stream ends in many ways
            record(logging.DEBUG, "container-events-ended", reason=str(error))
        over.set()
        changed.set()

    def _follow_container(self, event: Mapping[str, Any], action: str) -> None:
        """Publish a container that an event says was created, or forget one that was removed."""
        container = read_event(event)
        with self._lock:
            if action == "create":
                self._created[container.id] = container
                self._tell_before_all_is_listed()
            else:
                self._created.pop(container.id, None)

    def _tell_before_all_is_listed(self) -> None:
        """Publish what an event has brought, beside what was listed last.

        Before the first list nothing is published: it would take from every other container the
        addresses that an earlier run of the daemon has left for it.
        """
        if self._asked_at != -inf:
            self._tell(CONNECTED, self._everything())

    def _tell(self, state: str, inventory: Inventory | None = None) -> None:
        if state == self._state and inventory is None:
            return
        if state != self._state and not state.startswith((UNUSED, ABSENT)):
            record(logging.INFO, "container-engine", socket=self._path, state=state)
        self._publish(str(self._path), inventory, state, self._asked_at)
        self._state = state


def read_event(event: Mapping[str, Any]) -> Container:
    """The container that an event is about; its labels stand among its attributes. Pure."""
    actor = event.get("Actor") or {}
    attributes = dict(actor.get("Attributes") or {})
    name = str(attributes.pop("name", ""))
    labels = {key: str(value) for key, value in attributes.items() if key not in _NO_LABELS}
    return Container(str(actor.get("ID") or event.get("id")), name, frozenset(labels.items()))


@dataclass(frozen=True)
class NetworkMembers:
    """The members of one network, as the engine lists them: addresses by container identifier.

    `asked_at` is when it was asked, in monotonic seconds.
    """

    network: str
    addresses: Mapping[str, tuple[Network, ...]]
    asked_at: float

    def is_ahead_of(self, inventory: Inventory) -> bool:
        """Whether it has addresses that the list of containers does not have yet."""
        return any(self.news_of(container) for container in inventory.containers)

    def news_of(self, container: Container) -> tuple[Network, ...]:
        """The addresses of a container in this network, () if the container has all of them."""
        addresses = self.addresses.get(container.id, ())
        return addresses if set(addresses) - set(container.networks.get(self.network, ())) else ()


def read_network(answer: Mapping[str, Any], asked_at: float) -> NetworkMembers:
    """What the engine's answer to ``/networks/ID`` says; pure."""
    addresses = {}
    for container, entry in (answer.get("Containers") or {}).items():
        texts = (str(entry.get(name) or "") for name in ("IPv4Address", "IPv6Address"))
        hosts = (_network(text.partition("/")[0]) for text in texts)
        addresses[container] = tuple(host for host in hosts if host is not None)
    return NetworkMembers(str(answer.get("Name", "")), addresses, asked_at)


def with_members(inventory: Inventory, memberships: Collection[NetworkMembers]) -> Inventory:
    """The inventory with what networks know of its containers and their list does not; pure."""

    def newer(container: Container) -> Container:
        news = {members.network: members.news_of(container) for members in memberships}
        added = {network: addresses for network, addresses in news.items() if addresses}
        return replace(container, networks={**container.networks, **added})

    if not memberships:
        return inventory
    return replace(inventory, containers=tuple(map(newer, inventory.containers)))


def read_inventory(containers: list[dict[str, Any]], networks: list[dict[str, Any]]) -> Inventory:
    """What the engine's answers to ``/containers/json`` and ``/networks`` say; pure.

    A container that does not run is in the inventory too, without addresses: if it starts, its hook
    tells of them before the engine does. One that is ending keeps the listed addresses until it has
    ended.
    """
    read_containers = []
    for listed in containers:
        state = str(listed.get("State", "")).lower()
        by_network = {} if state in _ENDED else _listed_addresses(listed)
        names = listed.get("Names") or [listed["Id"]]
        read_containers.append(
            Container(
                listed["Id"],
                names[0].removeprefix("/"),
                frozenset((listed.get("Labels") or {}).items()),
                {name: addresses for name, addresses in by_network.items() if addresses},
            )
        )
    read_containers.sort(key=lambda container: container.id)
    subnets = {
        network["Name"]: tuple(
            subnet
            for part in (network.get("IPAM") or {}).get("Config") or ()
            if (subnet := _network(part.get("Subnet", ""))) is not None
        )
        for network in networks
    }
    not_empty = {name: parts for name, parts in subnets.items() if parts}
    return Inventory(tuple(read_containers), not_empty)


def _listed_addresses(container: Mapping[str, Any]) -> dict[str, tuple[Network, ...]]:
    """The addresses of a container in each network, as the list of containers has them."""
    settings = (container.get("NetworkSettings") or {}).get("Networks") or {}
    return {name: _addresses(entry or {}) for name, entry in settings.items()}


def _addresses(entry: Mapping[str, Any]) -> tuple[Network, ...]:
    texts = (entry.get("IPAddress"), entry.get("GlobalIPv6Address"))
    return tuple(host for text in texts if text and (host := _network(text)) is not None)


def _network(text: str) -> Network | None:
    """An address or a subnet; None for what is neither."""
    host, slash, length = text.partition("/")
    for family, value in ((Family.IPV4, ipv4_value(host)), (Family.IPV6, ipv6_value(host))):
        if value is not None:
            bits = int(length) if slash and length.isdecimal() else family.bits
            if bits > family.bits:
                return None
            return Network(family, value >> (family.bits - bits) << (family.bits - bits), bits)
    return None
