"""Owns following a container engine over its socket; must not know what is done with the news.

Podman and Docker answer the same requests. One thread for each socket subscribes to the engine's
events first and asks for everything after, so nothing is missed between the two; every event that
can matter makes it ask again, and what it asks is always the whole. Two engines, two exceptions:
Podman answers nothing about a container while it starts, so of one that was made just now the
event itself is believed. Docker lists no address before a container runs, so the networks that it
joins are asked, which know the address before its first process does. An engine that is absent,
slow or gone delays nobody: what was known stays until there is something newer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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
"""How long news are believed to come by themselves, before everything is asked for again."""
AGAIN_S = (0.02, 0.1, 0.5, 2.0)
"""When everything is asked for again after an event: Docker tells of some before they happen."""

ABSENT, UNUSED, CONNECTED, UNREACHABLE = "absent", "unused", "connected", "unreachable"
_ENDED = frozenset({"exited", "dead"})
"""States in which nothing can be sent any more. In Podman's "stopping" the processes run, for as
long as they take to end, and in "stopped" a pod or another container may still use the network."""
_EVENTS = frozenset(
    {
        *("create", "init", "start", "restart", "unpause", "connect", "disconnect", "rename"),
        *("die", "died", "stop", "kill", "cleanup", "remove", "destroy", "pause"),
    }
)

_NO_LABELS = frozenset({"image", "containerExitCode", "exitCode", "podId", "signal", "execID"})
"""What else events have among the attributes of a container."""

Publish = Callable[[str, Inventory | None, str, float], None]


class Follower:
    """One thread that follows one engine."""

    def __init__(self, path: Path, wanted: Callable[[], bool], publish: Publish) -> None:
        """`wanted` says whether anybody needs to know; `publish` gets socket, news, state and time.

        The news are None when only the state has changed. The time, in monotonic seconds, is when
        the engine was asked for the news: what happened since may not be among them.
        """
        self._path = path
        self._wanted = wanted
        self._publish = publish
        self._end = threading.Event()
        self._state = ""
        self._lock = threading.Lock()
        self._listed = Inventory()
        self._asked_at = -inf
        self._made: dict[str, Container] = {}
        self._joined: set[str] = set()
        self._attached: dict[str, Attached] = {}
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
            # Nobody follows from here on, so what is known now must not be believed later.
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
        client = docker.APIClient(
            base_url=f"unix://{self._path}", version=API_VERSION, timeout=ANSWER_S
        )
        try:
            changed = threading.Event()
            over = threading.Event()
            events = client.events(decode=True, filters={"type": ["container", "network"]})
            arguments = (events, changed, over)
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
                self._ask_joined(client)
                listed = client.containers(all=True)
                inventory = read_inventory(listed, client.networks(), self._attached.values())
                self._attached = {
                    key: one for key, one in self._attached.items() if one.is_ahead_of(listed)
                }
                with self._lock:
                    self._listed, self._asked_at = inventory, asked_at
                    for one in inventory.containers:
                        self._made.pop(one.id, None)
                    self._tell(CONNECTED, self._everything())
        finally:
            client.close()
        if over.is_set():
            self._tell(f"{UNREACHABLE}: it ended the connection")

    def _ask_joined(self, client: Any) -> None:
        """Ask the networks that a container has joined or left, and those of one about to start."""
        with self._lock:
            asked, self._joined = self._joined | self._attached.keys(), set()
        for network in asked:
            self._attached.pop(network, None)
            # A network that is gone has nobody; any other trouble shows in what is asked next.
            with suppress(OSError):
                self._attached[network] = read_network(client.inspect_network(network))

    def _everything(self) -> Inventory:
        """What was listed, and what was made since."""
        known = {one.id for one in self._listed.containers}
        made = tuple(one for one in self._made.values() if one.id not in known)
        return replace(self._listed, containers=self._listed.containers + made)

    def _listen(self, events: Any, changed: threading.Event, over: threading.Event) -> None:
        """Set `changed` for every event that can matter, and both when there will be no more."""
        try:
            for event in events:
                action = str(event.get("Action") or event.get("status") or "").partition(":")[0]
                if event.get("Type") == "network" and action in {"connect", "disconnect"}:
                    with self._lock:
                        self._joined.add(str((event.get("Actor") or {}).get("ID")))
                if event.get("Type") != "network" and action in {"create", "remove", "destroy"}:
                    self._note(event, action)
                if action in _EVENTS or event.get("Type") == "network":
                    changed.set()
        except Exception as error:  # noqa: BLE001 - a broken stream ends in many ways
            record(logging.DEBUG, "container-events-ended", reason=str(error))
        over.set()
        changed.set()

    def _note(self, event: Mapping[str, Any], action: str) -> None:
        """Know a container by the event that tells of it, or forget it."""
        one = read_event(event)
        with self._lock:
            if action == "create":
                self._made[one.id] = one
                self._tell(CONNECTED, self._everything())
            else:
                self._made.pop(one.id, None)

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
class Attached:
    """Who is in a network, as the network knows it: addresses by the container's identifier."""

    network: str
    addresses: Mapping[str, tuple[Network, ...]]

    def is_ahead_of(self, listed: Iterable[Mapping[str, Any]]) -> bool:
        """Whether it knows addresses that the list of containers does not have yet."""
        return any(self.news_of(one) for one in listed)

    def news_of(self, one: Mapping[str, Any]) -> tuple[Network, ...]:
        """The addresses of a listed container, if the list has not all of them."""
        known = self.addresses.get(one["Id"], ())
        if not known:
            return ()
        listed = _listed_addresses(one).get(self.network, ())
        return known if set(known) - set(listed) else ()


def read_network(answer: Mapping[str, Any]) -> Attached:
    """What the engine's answer to ``/networks/ID`` says; pure."""
    found = {}
    for container, entry in (answer.get("Containers") or {}).items():
        texts = (str(entry.get(name) or "") for name in ("IPv4Address", "IPv6Address"))
        hosts = (_network(text.partition("/")[0]) for text in texts)
        found[container] = tuple(host for host in hosts if host is not None)
    return Attached(str(answer.get("Name", "")), found)


def read_inventory(
    containers: list[dict[str, Any]],
    networks: list[dict[str, Any]],
    attached: Collection[Attached] = (),
) -> Inventory:
    """What the engine's answers to ``/containers/json`` and ``/networks`` say; pure.

    What networks say is `attached` to a container is newer than the list, where the two differ. A
    container that does not run is known too, without addresses: if it starts, its hook tells of
    them before the engine does. One that is ending keeps what is listed until it has ended.
    """
    found = []
    for one in containers:
        state = str(one.get("State", "")).lower()
        joined = {network.network: news for network in attached if (news := network.news_of(one))}
        addresses = joined if state in _ENDED else _listed_addresses(one) | joined
        names = one.get("Names") or [one["Id"]]
        found.append(
            Container(
                one["Id"],
                names[0].removeprefix("/"),
                frozenset((one.get("Labels") or {}).items()),
                {name: known for name, known in addresses.items() if known},
            )
        )
    found.sort(key=lambda one: one.id)
    subnets = {
        one["Name"]: tuple(
            network
            for part in (one.get("IPAM") or {}).get("Config") or ()
            if (network := _network(part.get("Subnet", ""))) is not None
        )
        for one in networks
    }
    return Inventory(tuple(found), {name: known for name, known in subnets.items() if known})


def _listed_addresses(one: Mapping[str, Any]) -> dict[str, tuple[Network, ...]]:
    """The addresses of a container in each network, as the list has them."""
    settings = (one.get("NetworkSettings") or {}).get("Networks") or {}
    return {name: _addresses(entry or {}) for name, entry in settings.items()}


def _addresses(entry: Mapping[str, Any]) -> tuple[Network, ...]:
    texts = (entry.get("IPAddress"), entry.get("GlobalIPv6Address"))
    return tuple(n for text in texts if text and (n := _network(text)) is not None)


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
