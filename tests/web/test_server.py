"""Whatever comes in, in whatever pieces and numbers, others are served meanwhile."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from ipsecctl.web.asking import Daemon, NotTold
from ipsecctl.web.listening import listen
from ipsecctl.web.live import Live
from ipsecctl.web.samples import Samples
from ipsecctl.web.server import Bounds, Server
from ipsecctl.web.site import Site
from ipsecd.errors import IpsecdError
from tests.ctl.fake_daemon import EXPLANATION
from tests.web.serving import Serving, serving
from tests.web.stand_in import StandIn

SHORT = Bounds(connections=5, streams=1, request_s=0.3, answer_s=5.0, beat_s=0.1)


class Ran:
    """A server with small bounds, in a thread."""

    def __init__(self, daemon: StandIn, path: Path, bounds: Bounds = SHORT) -> None:
        self._bounds = bounds
        self.path = str(path)
        self._listener = listen(self.path)
        self._loop = asyncio.new_event_loop()
        self._daemon = daemon
        self._thread = threading.Thread(target=self._run)
        self._task: asyncio.Task[None] | None = None
        self._begun = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._task is not None
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._listener.close()

    def _run(self) -> None:
        async def serve() -> None:
            asked = Daemon(str(self._daemon.path))
            live = Live(asked)
            server = Server(self._listener, Site(asked, Samples(), live), self._bounds)
            self._task = asyncio.current_task()
            self._begun.set()
            try:
                await server.serve()
            finally:
                await live.close()

        try:
            self._loop.run_until_complete(serve())
        except asyncio.CancelledError:
            self._loop.close()

    def connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(30)
        made.connect(self.path)
        return made

    def say(self, data: bytes) -> bytes:
        with self.connect() as connection:
            with suppress(ConnectionError):
                connection.sendall(data)
            return rest(connection)


def rest(connection: socket.socket) -> bytes:
    received = b""
    with suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def ask(page: str) -> bytes:
    return f"GET /{page} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_a_slow_request_ends_and_delays_nobody(daemon: StandIn, directory: Path) -> None:
    """A byte now and then does not keep a connection for ever."""
    with Ran(daemon, directory / "s") as ran, ran.connect() as slow:
        slow.sendall(b"GET / HT")
        assert b" 200 " in ran.say(ask("overview"))
        slow.sendall(b"TP/1.1\r\nHo")
        assert rest(slow).startswith(b"HTTP/1.1 408 ")


def test_a_long_request_is_refused(daemon: StandIn, directory: Path) -> None:
    """Before it has ended, and whatever is in it."""
    with Ran(daemon, directory / "s") as ran:
        assert ran.say(b"GET /" + b"a" * 40_000).startswith(b"HTTP/1.1 431 ")
        assert ran.say(ask("overview?q=" + "a" * 9000)).startswith(b"HTTP/1.1 200 ")
        assert ran.say(b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert ran.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_one_request_a_connection(daemon: StandIn, directory: Path) -> None:
    """What comes after it is not read, so that nothing hides behind it."""
    with Ran(daemon, directory / "s") as ran:
        answer = ran.say(ask("style.css") + ask("overview"))
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in answer


def test_connections_are_bounded(daemon: StandIn, directory: Path) -> None:
    """More than may come are ended at once, and when others have gone there is room again."""
    many = replace(SHORT, streams=SHORT.connections)
    with Ran(daemon, directory / "s", many) as ran:
        with ExitStack() as stack:
            for _ in range(many.connections):
                stream = stack.enter_context(ran.connect())
                stream.sendall(ask("drops.events"))
                assert stream.recv(100).startswith(b"HTTP/1.1 200 ")
            assert ran.say(ask("overview")) == b""
        deadline = time.monotonic() + 30
        while b" 200 " not in ran.say(ask("overview")):
            assert time.monotonic() < deadline


def test_who_says_nothing_keeps_nobody_out(daemon: StandIn, directory: Path) -> None:
    """However many connect and are silent: the first of them make room for who asks."""
    patient = replace(SHORT, request_s=60.0)
    with Ran(daemon, directory / "s", patient) as ran, ExitStack() as stack:
        silent = [stack.enter_context(ran.connect()) for _ in range(3 * patient.connections)]
        for each in silent[::2]:
            with suppress(ConnectionError):
                each.sendall(b"GET / HT")
        for _ in range(3):
            assert b" 200 " in ran.say(ask("overview"))
        assert rest(silent[0]) == b""
        silent[-1].sendall(ask("overview"))
        assert b"HTTP/1.1 " in rest(silent[-1])


def test_streams_are_bounded_and_end_with_who_reads_them(daemon: StandIn, directory: Path) -> None:
    """One too many is told so; when the first has gone, there is room."""
    with Ran(daemon, directory / "s") as ran:
        with ran.connect() as first:
            first.sendall(ask("drops.events"))
            assert first.recv(100).startswith(b"HTTP/1.1 200 ")
            assert ran.say(ask("drops.events")).startswith(b"HTTP/1.1 503 ")
            received = b""
            while b": still here" not in received:
                received += first.recv(1 << 16)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with ran.connect() as second:
                second.sendall(ask("drops.events"))
                if second.recv(100).startswith(b"HTTP/1.1 200 "):
                    return
        pytest.fail("there is no room for another stream")


def test_a_daemon_that_is_away_is_said_and_comes_back(
    daemon: StandIn, directory: Path, site: Serving
) -> None:
    """The page goes on without it, says what is known, and shows it again."""
    assert site.get("overview").status == 200
    away = directory / "away"
    daemon.path.rename(away)
    daemon.hang_up()
    deadline = time.monotonic() + 30
    while (answer := site.get("overview")).status == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer.status == 503
    assert "what is enforced stays so without it" in answer.body
    away.rename(daemon.path)
    while (answer := site.get("overview")).status == 503 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer.status == 200


def test_a_daemon_that_hangs_up_is_said(daemon: StandIn, site: Serving) -> None:
    """One that takes a connection and ends it without a word, as for who may not ask."""
    daemon.silent = True
    answer = site.get("policies")
    assert answer.status == 503
    assert "without an answer" in answer.body


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to(
    daemon: StandIn, directory: Path, number: signal.Signals
) -> None:
    """At once, also while somebody watches, with exit code 0, and its socket goes too."""
    path = directory / "web.sock"
    with serving(daemon.path, "--listen", str(path)) as served, served.connect() as watching:
        watching.sendall(ask("drops.events"))
        assert watching.recv(100)
        served.process.send_signal(number)
        assert served.process.wait(20) == 0
    assert not path.exists()


def test_questions_that_many_ask_are_asked_once(daemon: StandIn) -> None:
    """However many look at once, and a second later too; other questions are others."""

    async def story() -> list[str]:
        asked = Daemon(str(daemon.path))
        await asyncio.gather(*(asked.ask("Stats") for _ in range(50)))
        await asked.ask("Stats")
        await asked.ask("GetPolicy", name="a")
        await asked.ask("GetPolicy", name="b")
        return [name for name, _ in daemon.calls]

    assert asyncio.run(story()) == ["Stats", "GetPolicy", "GetPolicy"]


def test_one_who_leaves_takes_no_answer_from_others(daemon: StandIn) -> None:
    """A browser that stops loading ends no question that another one waits for."""

    async def story() -> dict[str, object]:
        asked = Daemon(str(daemon.path))
        first = asyncio.create_task(asked.ask("Explain", packet="x"))
        await asyncio.sleep(0)
        second = asyncio.create_task(asked.ask("Explain", packet="x"))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(story()) == {"explanation": EXPLANATION}


def test_what_is_asked_is_only_for_looking(daemon: StandIn) -> None:
    """A method that changes something is not sent; one that is not known is told as that."""

    async def story() -> None:
        asked = Daemon(str(daemon.path))
        with pytest.raises(ValueError, match="not for looking"):
            await asked.ask("FlushDynamic")
        with pytest.raises(NotTold):
            await asked.ask("Drops", since="1h")
        daemon.replies["Status"] = IpsecdError("it is <broken>", "mend it")
        with pytest.raises(IpsecdError, match="it is <broken>"):
            await asked.ask("Status")

    asyncio.run(story())
    assert "FlushDynamic" not in {name for name, _ in daemon.calls}
