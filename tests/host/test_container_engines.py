"""What the follower of a container engine says of its news."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any, Self

import pytest

from ipsecd.host.container_engines import CONNECTED, Follower
from ipsecd.model.addresses import Family, Network, Selector, SelectorKind
from ipsecd.model.inventory import Inventory
from tests.netns.site import eventually

docker = pytest.importorskip("docker")


WEB, NEW = "a" * 64, "b" * 64
NETWORK = "c" * 64
ENTRY = {"IPv4Address": "10.90.0.9/24", "IPv6Address": ""}


class SlowEngine:
    """Lists containers only when it may, says when it was asked, and tells the events put to it."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.may_list = threading.Event()
        self.is_asked = threading.Event()
        self.happened: Queue[dict[str, Any] | None] = Queue()

    def events(self, **_: Any) -> Iterator[dict[str, Any]]:
        while event := self.happened.get():
            yield event

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        self.asked.append(time.monotonic())
        self.is_asked.set()
        assert self.may_list.wait(10)
        return [{"Id": WEB, "Names": ["/web"], "State": "running"}]

    def networks(self) -> list[dict[str, Any]]:
        return []

    def inspect_network(self, network: str) -> dict[str, Any]:
        assert network == NETWORK
        return {"Name": "front", "Containers": {NEW: ENTRY}}

    def close(self) -> None:
        self.happened.put(None)


class News:
    """What a follower of the engine has told of containers, and when that was asked for."""

    def __init__(self, engine: SlowEngine, directory: Path) -> None:
        self.told: Queue[tuple[Inventory, float]] = Queue()
        (directory / "socket").touch()
        self.follower = Follower(directory / "socket", lambda: True, self.publish)
        self.engine = engine

    def publish(self, _: str, news: Inventory | None, state: str, at: float) -> None:
        if news is not None and state == CONNECTED:
            self.told.put((news, at))

    def __enter__(self) -> Self:
        self.follower.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.follower.stop()
        self.engine.close()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> SlowEngine:
    """The engine that followers find."""
    slow = SlowEngine()
    monkeypatch.setattr(docker, "APIClient", lambda **_: slow)
    return slow


def test_news_say_when_the_engine_was_asked(tmp_path: Path, engine: SlowEngine) -> None:
    """Not when it answered: what was announced between the two may not be among them."""
    before = time.monotonic()
    with News(engine, tmp_path) as news:
        assert engine.is_asked.wait(10)
        engine.may_list.set()
        _, asked_at = news.told.get(timeout=10)
    assert before <= asked_at <= engine.asked[0]


def test_who_joins_a_network_does_not_wait_for_the_list(tmp_path: Path, engine: SlowEngine) -> None:
    """Docker starts its first process soon after: its address is told while the list is made."""
    engine.may_list.set()
    with News(engine, tmp_path) as news:
        news.told.get(timeout=10)
        engine.may_list.clear()
        created = {"Actor": {"ID": NEW, "Attributes": {"name": "new"}}, "Action": "create"}
        engine.happened.put({"Type": "container", **created})
        joined = {"Actor": {"ID": NETWORK}, "Action": "connect"}
        engine.happened.put({"Type": "network", **joined})
        names: set[str] = set()
        addresses: tuple[Network, ...] = ()
        while not addresses:
            inventory, _ = news.told.get(timeout=10)
            names = {container.name for container in inventory.containers}
            addresses = inventory.addresses(Selector(SelectorKind.CONTAINER, "new"))
        assert names == {"web", "new"}
        assert addresses == (Network(Family.IPV4, 0x0A5A0009, 32),)
        engine.may_list.set()
        # A list that does not have it yet takes nothing from it.
        inventory, _ = news.told.get(timeout=10)
        assert inventory.addresses(Selector(SelectorKind.CONTAINER, "new")) == addresses


def test_nothing_is_told_before_the_first_list(tmp_path: Path, engine: SlowEngine) -> None:
    """It would take from all others what they had when the daemon ended."""
    created = {"Actor": {"ID": NEW, "Attributes": {"name": "new"}}, "Action": "create"}
    joined = {"Actor": {"ID": NETWORK}, "Action": "connect"}
    engine.happened.put({"Type": "container", **created})
    engine.happened.put({"Type": "network", **joined})
    with News(engine, tmp_path) as news:
        assert engine.is_asked.wait(10)
        assert eventually(engine.happened.empty)
        engine.may_list.set()
        names: set[str] = set()
        while names != {"web", "new"}:
            inventory, _ = news.told.get(timeout=10)
            names = {container.name for container in inventory.containers}
            assert "web" in names
