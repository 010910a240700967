"""Tests of the daemon as a process: how it starts, what it does by itself, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipsecd.config import Config, Directories
from ipsecd.service.lifecycle import Daemon
from tests.service.harness import PATIENCE_S, Client, FakeEngine, wait_until

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the daemon's own uid counts if it is 0")


class LoneDaemon:
    """A daemon process, its service manager's socket, and what both have heard."""

    def __init__(self, directory: Path, *wishes: str, watchdog_s: float | None = None) -> None:
        self.runtime = directory / "run"
        self.path = self.runtime / "ipsecd.sock"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = directory / f"notify-{time.monotonic_ns()}"
        self._notify.bind(str(address))
        self._notify.settimeout(PATIENCE_S)
        environment = {**os.environ, "NOTIFY_SOCKET": str(address), "PYTHONPATH": str(ROOT)}
        if watchdog_s is not None:
            environment["WATCHDOG_USEC"] = str(int(watchdog_s * 1_000_000))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.service.lone_daemon", str(self.runtime), *wishes],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def heard(self) -> dict[str, str]:
        """The next thing that the service manager is told."""
        lines = self._notify.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def wait_ready(self) -> None:
        while "READY" not in self.heard():
            pass

    def word(self) -> str:
        """The next word of the engine's story."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self, number: signal.Signals) -> tuple[int, list[str], str]:
        """Send a signal; the exit code, the rest of the story, and the log."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, list[str], str]:
        story, log = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, story.split(), log

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._notify.close()


@contextlib.contextmanager
def daemon(*wishes: str, watchdog_s: float | None = None) -> Iterator[LoneDaemon]:
    with tempfile.TemporaryDirectory(prefix="ipsecd-") as name:
        lone = LoneDaemon(Path(name), *wishes, watchdog_s=watchdog_s)
        try:
            yield lone
        finally:
            lone.close()


def test_readiness_comes_after_enforcement_and_with_the_socket() -> None:
    """When the service manager hears READY, the policy is enforced and clients get in."""
    with daemon() as lone:
        assert "READY" not in lone.heard()
        lone.wait_ready()
        assert lone.word() == "start"
        with Client(lone.path):
            pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_on_purpose_withdraws(number: signal.Signals) -> None:
    """SIGTERM and SIGINT stop: the engine is told so, then closed; the socket is gone."""
    with daemon() as lone:
        lone.wait_ready()
        code, story, log = lone.end(number)
        assert (code, story) == (0, ["start", "stop", "close"]), log
        assert lone.heard()["STOPPING"] == "1"
        assert not lone.path.exists()


def test_a_hand_over_leaves_everything_in_force() -> None:
    """SIGUSR1 ends the daemon without withdrawing, for the next one to adopt."""
    with daemon() as lone:
        lone.wait_ready()
        code, story, log = lone.end(signal.SIGUSR1)
        assert (code, story) == (0, ["start", "close"]), log


def test_a_restart_on_purpose_forgets_dynamic_rules() -> None:
    """SIGUSR2 ends the daemon without withdrawing the policy; the engine is told before it ends."""
    with daemon() as lone:
        lone.wait_ready()
        code, story, log = lone.end(signal.SIGUSR2)
        assert (code, story) == (0, ["start", "restart", "close"]), log


def test_a_failed_start_is_told_and_closed() -> None:
    """When the policy cannot be enforced there is no readiness, no socket, and exit code 1."""
    with daemon("failing-start") as lone:
        code, story, log = lone.wait()
        assert code == 1, log
        assert story[0] == "close"
        assert "the kernel has no nftables" in " ".join(story)
        assert not lone.path.exists()


def test_a_second_daemon_does_not_touch_the_first() -> None:
    """Of two in one runtime directory the second ends before its engine has done anything."""
    with daemon() as first:
        first.wait_ready()
        second = LoneDaemon(first.runtime.parent)
        code, story, _ = second.wait()
        second.close()
        assert code == 1
        assert "start" not in story
        assert "another ipsecd runs" in " ".join(story)
        with Client(first.path):
            pass


def test_a_killed_daemon_is_followed() -> None:
    """What a kill leaves behind, lock and socket, does not keep the next daemon from starting."""
    with daemon() as first:
        first.wait_ready()
        first.process.kill()
        first.wait()
        assert first.path.exists()
        second = LoneDaemon(first.runtime.parent)
        second.wait_ready()
        with Client(second.path):
            pass
        second.close()


@pytest.mark.parametrize("wish", ["", "refused-reload"])
def test_sighup_reloads(wish: str) -> None:
    """The policy files are read again; readiness is said again whatever comes of it."""
    with daemon(*filter(None, [wish])) as lone:
        lone.wait_ready()
        for _ in range(2):
            lone.process.send_signal(signal.SIGHUP)
            assert lone.heard()["RELOADING"] == "1"
            heard = lone.heard()
            assert heard["READY"] == "1"
            assert ("broken.yaml is broken" in heard["STATUS"]) is bool(wish)
        _, story, log = lone.end(signal.SIGTERM)
        assert story == ["start", "reload", "reload", "stop", "close"]
        assert ("reload-refused" in log) is bool(wish)


@as_root
def test_names_are_looked_up_again_and_again() -> None:
    """If the settings want it; nobody has to ask."""
    with daemon("names") as lone:
        lone.wait_ready()
        assert [lone.word() for _ in range(4)] == ["start", "refresh", "refresh", "refresh"]
    with daemon() as lone:
        lone.wait_ready()
        _, story, _ = lone.end(signal.SIGTERM)
        assert story == ["start", "stop", "close"]


@as_root
def test_dynamic_rules_end_in_time() -> None:
    """The engine is asked to expire when the next rule ends, also when that moves closer."""
    with daemon("slow-expiry") as lone:
        lone.wait_ready()
        with Client(lone.path) as client:
            begun = time.monotonic()
            for ttl_s in (60, 0.3):
                client.call("AddDynamic", filters=["0+*"], action="block", ttl_s=ttl_s)
        assert lone.word() == "start"
        assert lone.word() == "expire"
        assert 0.25 < time.monotonic() - begun < PATIENCE_S


def test_the_duties_hear_of_many_changes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that come while they are about to hear of one; and of the next one anew."""
    due: list[Callable[[], None]] = []

    async def change() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_later", lambda _, call: due.append(call))
        running = Daemon(FakeEngine(), Config(), Directories(tmp_path, tmp_path, tmp_path))
        for number in (1, 2):
            running._changed.clear()
            for _ in range(100):
                running._tell_of_change()
            assert len(due) == number
            assert not running._changed.is_set()
            due[-1]()
            assert running._changed.is_set()
        running._engine_lines.shut_down()

    asyncio.run(change())


@as_root
def test_entries_of_lists_end_in_time() -> None:
    """The same for entries of lists, by the wall clock."""
    with daemon("slow-expiry") as lone:
        lone.wait_ready()
        with Client(lone.path) as client:
            begun = time.monotonic()
            for ttl_s in (60, 0.3):
                client.call(
                    "AddToList", name="bans", addresses=["192.0.2.7"], ttl_s=ttl_s, accept=False
                )
        assert lone.word() == "start"
        assert lone.word() == "expire lists"
        assert 0.25 < time.monotonic() - begun < PATIENCE_S


@as_root
def test_the_history_is_written_once_it_is_due() -> None:
    """A call begins a row, and the engine is told when to write it, each time anew."""
    with daemon("history") as lone:
        lone.wait_ready()
        assert lone.word() == "start"
        with Client(lone.path) as client:
            for _ in range(2):
                client.call("FlushDynamic")
                assert lone.word() == "write history"


@as_root
def test_counts_are_kept_soon_after_a_change_that_ends_counters() -> None:
    """It is asked after every call, and the minute that is waited for otherwise is not over."""
    with daemon("counts") as lone:
        lone.wait_ready()
        assert lone.word() == "start"
        with Client(lone.path) as client:
            for _ in range(2):
                client.call("FlushDynamic")
                assert lone.word() == "keep counts"


@as_root
def test_a_feed_that_is_due_is_fetched() -> None:
    """Without a fetcher that fails and is told; with one, the engine gets what it fetched."""
    with daemon("due-feed") as lone:
        lone.wait_ready()
        assert lone.word() == "start"
        assert lone.word().startswith("drop: ipsecd-domain, which fetches feeds, does not run")
        with Client(lone.path) as waiting, Client(lone.path) as client:
            waiting.sock.sendall(waiting.request("AwaitFeeds", {"more": True}))
            reply = waiting.receive()
            assert reply
            client.call(
                "AnswerFeed",
                number=reply["parameters"]["number"],
                problem="",
                hint="",
                unchanged=False,
                etag="",
                modified="",
                document="192.0.2.7",
            )
            assert lone.word() == "update drop b'192.0.2.7'"


@as_root
def test_news_from_the_kernel_are_looked_at() -> None:
    """Every time the engine's descriptor is readable, the engine reads it."""
    with daemon() as lone:
        lone.wait_ready()
        assert lone.word() == "start"
        with Client(lone.path) as client:
            for _ in range(3):
                client.call("FlushDynamic")
                assert lone.word() == "watch"


def test_the_watchdog_is_fed() -> None:
    """While loop and engine answer, the service manager hears of it in half of its time."""
    with daemon(watchdog_s=4.0) as lone:
        lone.wait_ready()
        begun = time.monotonic()
        for _ in range(2):
            assert lone.heard() == {"WATCHDOG": "1"}
        # Half of its time, twice, and what a busy machine adds to it.
        assert time.monotonic() - begun < 2 * 4.0


def test_the_watchdog_starves_with_the_engine() -> None:
    """An engine that does not answer is not covered up for."""
    with daemon("deaf-engine", watchdog_s=0.2) as lone:
        lone.wait_ready()
        lone._notify.settimeout(1)
        with pytest.raises(TimeoutError):
            lone.heard()


def test_the_log_tells_of_start_and_end() -> None:
    """Both are events on standard error."""
    with daemon() as lone:
        lone.wait_ready()
        _, _, log = lone.end(signal.SIGTERM)
        lines = log.splitlines()
        assert any(line.startswith("ready version=") for line in lines)
        assert "ending why=stop" in lines


def test_open_connections_do_not_hold_up_the_end() -> None:
    """Clients that wait, in the middle of a call or between two, are disconnected."""
    with daemon() as lone:
        lone.wait_ready()
        with Client(lone.path) as idle, Client(lone.path) as half:
            half.sock.sendall(b'{"method":')
            begun = time.monotonic()
            code, _, log = lone.end(signal.SIGTERM)
            assert code == 0, log
            assert time.monotonic() - begun < PATIENCE_S
            assert idle.receive() is None
        wait_until(lambda: not lone.path.exists(), "the socket is gone")
