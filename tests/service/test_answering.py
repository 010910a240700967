"""The daemon answers while it works: a change of policies keeps nothing else waiting.

No test here measures time: the backend works for as long as the test wants.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.base import Backend, Line
from ipsecd.backend.memory import MemoryBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import NOTHING_DYNAMIC, Volatile
from ipsecd.config import Config, Directories
from ipsecd.control import Control
from ipsecd.engine import Engine, enforcement
from ipsecd.engine.lists import LONG
from ipsecd.errors import BackendFailed, IpsecdError
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.lists import listed
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import Action
from ipsecd.progress import Tell, silent
from ipsecd.service.calls import Calls
from ipsecd.service.engine_lines import EngineLines
from tests.service.harness import PATIENCE_S

WEB = "a" * 64
OLD, NEW, ME = 0x0A580002, 0x0A580003, 0x0A090001
DOCUMENT = b"""\
policy: P
rules: [{rule: R, action: block, filters: ["*=0:1:UDP", "container:web=*:53:UDP"]}]
"""
BAN = {"filters": ["*=0:2:UDP"], "action": "block", "name": "ban", "ttl_s": None, "interface": None}


class SlowBackend(MemoryBackend):
    """Prepares until it is allowed to go on, once it is told to be slow."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.threads: set[str] = set()
        self.discarded = 0
        self.refuses = self.refuses_early = False

    def prepare(
        self,
        classifier: Classifier,
        run: Line,
        tell: Tell = silent,
        *,
        dynamic: Volatile = NOTHING_DYNAMIC,
    ) -> None:
        del classifier, run, tell, dynamic
        self.begun.set()
        assert self.may_go_on.wait(PATIENCE_S)
        if self.refuses_early:
            raise BackendFailed("no memory", "free some")

    def discard(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.discarded += 1

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        self.threads.add(threading.current_thread().name)
        if self.refuses:
            raise BackendFailed("no memory", "free some")
        super().apply(classifier, volatile)

    def blocks(self, port: int, source: int = 0xCB007107, destination: int = ME) -> bool:
        packet = Packet(Point.ARRIVING, Family.IPV4, source, destination, 17, 4000, port)
        host = Host(frozenset({(Family.IPV4, ME)}))
        return self.judge(packet, host).action is Action.BLOCK


class Daemon:
    """An engine over a slow backend, with its lines of work, which calls are made of."""

    def __init__(self, path: Path) -> None:
        self.backend = SlowBackend()
        directories = Directories(path / "etc", path / "lib", path / "run")
        self.engine = Engine(Config(), directories, lambda: self.backend)
        self.lines = EngineLines(Control(self.engine))
        self.calls = Calls(self.lines)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        document = DOCUMENT if method == "ApplyPolicy" else None
        called = self.calls.carry_out(method, parameters, "test", document)
        return await asyncio.wait_for(called, PATIENCE_S)

    def apply(self) -> asyncio.Task[dict[str, Any]]:
        return asyncio.create_task(self.call("ApplyPolicy", assign=True, dry_run=False))


def scenario(path: Path, story: Callable[[Daemon], Awaitable[None]]) -> None:
    """Tell a story that begins while a policy is being put in force."""

    async def told() -> None:
        daemon = Daemon(path)
        await daemon.lines.run(daemon.engine.start)
        try:
            await story(daemon)
        finally:
            daemon.backend.may_go_on.set()
            daemon.calls.shut_down()
            await daemon.lines.end_changes()
            await daemon.lines.run(daemon.engine.close)
            daemon.lines.shut_down()

    asyncio.run(told())


def test_everything_else_is_answered_while_a_policy_is_loaded(tmp_path: Path) -> None:
    """Bans, status, reads, containers and the watchdog; and what was banned stays so after it."""

    async def story(daemon: Daemon) -> None:
        change = daemon.apply()
        await asyncio.to_thread(daemon.backend.begun.wait, PATIENCE_S)
        await daemon.call("AddDynamic", **BAN)
        assert daemon.backend.blocks(2)
        status = (await daemon.call("Status"))["status"]
        assert status["dynamic_rules"] == 1
        assert status["assigned"] is None
        for method in ("ListFilters", "ListDynamic", "ListPolicies", "Stats"):
            await daemon.call(method)
        await daemon.call("RemoveDynamic", selector="ban")
        await daemon.call("AddDynamic", **{**BAN, "filters": ["*=0:3:UDP"]})
        await daemon.lines.run(daemon.lines.engine.ping)
        assert not change.done()
        assert not daemon.backend.blocks(1)
        daemon.backend.may_go_on.set()
        await change
        assert [port for port in (1, 2, 3) if daemon.backend.blocks(port)] == [1, 3]
        assert daemon.backend.threads == {"engine"}

    scenario(tmp_path, story)


def test_what_containers_have_meanwhile_counts_when_the_policy_is_in_force(tmp_path: Path) -> None:
    """News that come while a policy is loaded are no older for it."""

    async def story(daemon: Daemon) -> None:
        def inventory(address: int) -> Inventory:
            networks = {"front": (Network(Family.IPV4, address, 32),)}
            return Inventory((Container(WEB, "web", networks=networks),))

        news = daemon.engine.set_container_engine
        await daemon.lines.run(news, "podman", inventory(OLD), "connected", 0.0)
        change = daemon.apply()
        await asyncio.to_thread(daemon.backend.begun.wait, PATIENCE_S)
        await daemon.lines.run(news, "podman", inventory(NEW), "connected", 1.0)
        daemon.backend.may_go_on.set()
        await change
        assert daemon.backend.blocks(53, NEW, 0x08080808)
        assert not daemon.backend.blocks(53, OLD, 0x08080808)

    scenario(tmp_path, story)


def test_changes_of_policies_come_one_after_the_other(tmp_path: Path) -> None:
    """The second has what the first one stored before it."""

    async def story(daemon: Daemon) -> None:
        first = daemon.apply()
        await asyncio.to_thread(daemon.backend.begun.wait, PATIENCE_S)
        second = asyncio.create_task(daemon.call("DeletePolicy", name="P", unassign=True))
        await daemon.call("Status")
        assert not second.done()
        daemon.backend.may_go_on.set()
        await asyncio.gather(first, second)
        assert not daemon.backend.blocks(1)
        assert not daemon.engine.loaded.policies

    scenario(tmp_path, story)


@pytest.mark.parametrize("early", [False, True])
def test_what_was_prepared_for_a_refused_change_is_discarded(tmp_path: Path, early: bool) -> None:
    """And the ban that came meanwhile is in force."""

    async def story(daemon: Daemon) -> None:
        change = daemon.apply()
        await asyncio.to_thread(daemon.backend.begun.wait, PATIENCE_S)
        await daemon.call("AddDynamic", **BAN)
        daemon.backend.refuses, daemon.backend.refuses_early = not early, early
        daemon.backend.may_go_on.set()
        with pytest.raises(BackendFailed):
            await change
        assert daemon.backend.discarded == 1
        assert daemon.backend.threads == {"engine"}
        assert daemon.backend.blocks(2)
        assert not daemon.engine.loaded.policies
        assert [rule.name for rule in daemon.engine.dynamic] == ["ban"]

    scenario(tmp_path, story)


def test_a_change_that_is_under_way_ends_before_the_engine_does(tmp_path: Path) -> None:
    """Nothing speaks to the kernel once the engine is closed."""

    async def story(daemon: Daemon) -> None:
        change = daemon.apply()
        await asyncio.to_thread(daemon.backend.begun.wait, PATIENCE_S)
        ended = asyncio.create_task(daemon.lines.end_changes())
        await daemon.call("Status")
        assert not ended.done()
        daemon.backend.may_go_on.set()
        await ended
        await change
        assert daemon.backend.blocks(1)

    scenario(tmp_path, story)


def test_work_that_comes_too_late_is_cancelled(tmp_path: Path) -> None:
    """Who asks a line that has ended is told at once, and waits for nothing."""

    async def story(daemon: Daemon) -> None:
        await daemon.lines.end_changes()
        with pytest.raises(asyncio.CancelledError):
            await daemon.call("CreatePolicy", name="P", description=None)
        await daemon.call("Status")

    scenario(tmp_path, story)


def test_everything_else_is_answered_while_another_backend_is_made_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the exchange itself is the engine's work, and it has the rules of that moment."""
    begun, may_go_on = threading.Event(), threading.Event()
    held: list[Volatile] = []

    def make_ready(*_: object) -> None:
        begun.set()
        assert may_go_on.wait(PATIENCE_S)

    def exchange(
        backend: Backend, _name: str, _: Path, state: tuple[Classifier, Volatile], _ready: None
    ) -> Backend:
        assert threading.current_thread().name == "engine"
        held.append(state[1])
        return backend

    monkeypatch.setattr(enforcement, "make_ready", make_ready)
    monkeypatch.setattr(enforcement, "exchange_backend", exchange)

    async def story(daemon: Daemon) -> None:
        change = asyncio.create_task(daemon.call("SetBackend", name="xdp"))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        await daemon.call("AddDynamic", **BAN)
        assert daemon.backend.blocks(2)
        assert (await daemon.call("Status"))["status"]["dynamic_rules"] == 1
        assert not change.done()
        may_go_on.set()
        await change
        assert [bool(volatile.tables) for volatile in held] == [True]

    scenario(tmp_path, story)


LISTED = 0x0A000001
LONG_LIST = {"drop": listed(Network(Family.IPV4, LISTED + n, 32) for n in range(LONG))}
FIRST_TO_NAME_IT: list[tuple[str, dict[str, Any]]] = [
    ("AddDynamic", {**BAN, "filters": ["@drop=0"], "name": "listed"}),
    ("AddDynamicRules", {"filters": ["@drop=0"], "action": "block", "name": "listed"}),
    (
        "ChangeDynamicRules",
        {
            "put": [
                {"name": "listed", "filters": ["@drop=0"], "action": "block", "ttl_s": None},
                {"name": "wrong", "filters": ["@"], "action": "block", "ttl_s": None},
            ],
            "remove": [],
        },
    ),
]


async def with_long_list(daemon: Daemon) -> None:
    """Have a list that nothing names; from now on the backend is slow."""
    await daemon.lines.change(daemon.engine.list_changes.change, LONG_LIST)
    assert not daemon.backend.begun.is_set()


@pytest.mark.parametrize(("method", "parameters"), FIRST_TO_NAME_IT)
def test_a_ban_does_not_wait_for_a_long_list_that_a_rule_is_the_first_to_name(
    tmp_path: Path, method: str, parameters: dict[str, Any]
) -> None:
    """The list is loaded in the line of changes, and then the rule comes to be in force."""

    async def story(daemon: Daemon) -> None:
        await with_long_list(daemon)
        first = asyncio.create_task(daemon.call(method, **parameters))
        await asyncio.to_thread(daemon.backend.begun.wait, PATIENCE_S)
        await daemon.call("AddDynamic", **BAN)
        assert daemon.backend.blocks(2)
        assert not daemon.backend.blocks(3, LISTED)
        assert not first.done()
        daemon.backend.may_go_on.set()
        await first
        assert daemon.backend.blocks(3, LISTED)
        assert daemon.backend.discarded == 0
        assert daemon.backend.threads == {"engine"}
        # Now the kernel has it, and whoever names it next waits for nothing.
        daemon.backend.begun.clear()
        await daemon.call("AddDynamic", **{**BAN, "filters": ["@drop=0:7:TCP"], "name": "second"})
        assert not daemon.backend.begun.is_set()

    scenario(tmp_path, story)


@pytest.mark.parametrize("refused", ["by the backend", "by name", "and left out"])
def test_a_list_that_was_loaded_for_a_rule_that_is_refused_is_given_back(
    tmp_path: Path, refused: str
) -> None:
    """Whether the kernel refuses it, or what was done meanwhile is in its way."""

    async def story(daemon: Daemon) -> None:
        await with_long_list(daemon)
        method, parameters = FIRST_TO_NAME_IT[2 if refused == "and left out" else 1]
        first = asyncio.create_task(daemon.call(method, **parameters))
        await asyncio.to_thread(daemon.backend.begun.wait, PATIENCE_S)
        daemon.backend.refuses_early = refused == "by the backend"
        if refused == "by name":
            await daemon.call("AddDynamic", **{**BAN, "name": "listed"})
        elif refused == "and left out":
            await daemon.lines.run(daemon.engine.stop)
        daemon.backend.may_go_on.set()
        with pytest.raises(IpsecdError):
            await first
        assert daemon.backend.discarded == 1
        assert not daemon.backend.blocks(3, LISTED)

    scenario(tmp_path, story)
