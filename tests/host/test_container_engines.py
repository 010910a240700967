"""What the follower of a container engine says of its news."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsecd.host.container_engines import CONNECTED, Follower
from ipsecd.model.inventory import Inventory

docker = pytest.importorskip("docker")


class SlowEngine:
    """Answers late, and says when it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.over = threading.Event()

    def events(self, **_: Any) -> Iterator[dict[str, Any]]:
        self.over.wait(10)
        yield from ()

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        self.asked.append(time.monotonic())
        time.sleep(0.05)
        return [{"Id": "a" * 64, "Names": ["/web"], "State": "running"}]

    def networks(self) -> list[dict[str, Any]]:
        return []

    def close(self) -> None:
        self.over.set()


def test_news_say_when_the_engine_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when it answered: what was announced between the two may not be among them."""
    engine = SlowEngine()
    monkeypatch.setattr(docker, "APIClient", lambda **_: engine)
    told: list[float] = []
    heard = threading.Event()

    def publish(_: str, news: Inventory | None, state: str, at: float) -> None:
        if news is not None and state == CONNECTED:
            told.append(at)
            heard.set()

    (tmp_path / "socket").touch()
    before = time.monotonic()
    follower = Follower(tmp_path / "socket", lambda: True, publish)
    follower.start()
    assert heard.wait(10)
    follower.stop()
    engine.close()
    assert before <= told[0] <= engine.asked[0]
