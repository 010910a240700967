"""Tests of progress on the socket: who asks for more hears of it, and nobody waits for that."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import Any

import pytest

from ipsecd.control import METHODS
from ipsecd.errors import Refused
from ipsecd.progress import Phase, Progress, Tell
from ipsecd.protocol.description import CONTROL, load_interface
from ipsecd.protocol.frames import encode_frame
from ipsecd.protocol.interface import Named, Nullable
from ipsecd.protocol.messages import Call, reply_of
from ipsecd.service import connections
from ipsecd.service.access import Peer
from ipsecd.service.connections import Connection, ConnectionLimits, UnsentBytes
from ipsecd.service.descriptors import Descriptors
from tests.service.harness import OUTCOME, PATIENCE_S, FakeEngine, running, wait_until

APPLY: dict[str, Any] = {"document": "policy: P\n", "assign": True, "dry_run": False}
MORE = {"more": True}
LOADING = Progress(Phase.LOADING, 120_000, 200_000)


class BusyEngine(FakeEngine):
    """Tells that it loads, and goes on when it may."""

    def __init__(self, method: str = "ApplyPolicy") -> None:
        super().__init__()
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.refuses = False
        self.hooks[method] = self._work

    def _work(self, _parameters: dict[str, Any]) -> dict[str, Any]:
        self.tell(LOADING)
        self.begun.set()
        assert self.may_go_on.wait(PATIENCE_S)
        if self.refuses:
            raise Refused("there is no room", "make some")
        return OUTCOME


def test_who_asks_for_more_hears_how_far_it_is() -> None:
    """Once for what has not changed since, as the interface has it; then comes the last reply."""
    engine = BusyEngine()
    with running(engine=engine) as service, service.client() as client:
        client.send("ApplyPolicy", flags=MORE, **APPLY)
        told = client.receive()
        engine.tell(Progress(Phase.SWITCHING))
        then = client.receive()
        engine.may_go_on.set()
        last = client.receive()
    assert told is not None
    assert told["continues"] is True
    assert told["parameters"] == {
        "progress": {"phase": "loading into the kernel", "done": 120_000, "total": 200_000}
    }
    load_interface(CONTROL).check_reply("ApplyPolicy", told["parameters"])
    progress = {"phase": "switching", "done": 0, "total": 0}
    assert then == {"parameters": {"progress": progress}, "continues": True}
    assert last == {"parameters": OUTCOME}


def test_a_refusal_comes_after_progress() -> None:
    """An error is the last reply too, and the connection goes on."""
    engine = BusyEngine("Reload")
    engine.refuses = True
    with running(engine=engine) as service, service.client() as client:
        client.send("Reload", flags=MORE, resolve=False)
        told = client.receive()
        engine.may_go_on.set()
        refusal = client.receive()
        assert "error" not in client.call("Stats")
    assert told is not None
    assert told["continues"] is True
    assert refusal is not None
    assert refusal["error"] == f"{CONTROL}.Refused"


@pytest.mark.parametrize("flags", [None, {"more": False}])
def test_who_does_not_ask_gets_one_reply(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, Any] | None
) -> None:
    """However long it takes: the reply is what it always was."""
    monkeypatch.setattr(connections, "PROGRESS_PAUSE_S", 0.01)
    engine = BusyEngine()
    with running(engine=engine) as service, service.client() as client:
        client.send("ApplyPolicy", flags=flags, **APPLY)
        assert engine.begun.wait(PATIENCE_S)
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.receive()
        client.sock.settimeout(PATIENCE_S)
        engine.may_go_on.set()
        assert client.receive() == {"parameters": OUTCOME}


def test_a_method_without_progress_replies_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it declares to reply has no place for it, whatever the engine tells."""
    monkeypatch.setattr(connections, "PROGRESS_PAUSE_S", 0.01)
    engine = BusyEngine("AssignPolicy")
    with running(engine=engine) as service, service.client() as client:
        client.send("AssignPolicy", flags=MORE, name="P")
        assert engine.begun.wait(PATIENCE_S)
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.receive()
        client.sock.settimeout(PATIENCE_S)
        engine.may_go_on.set()
        assert client.receive() == {"parameters": OUTCOME}


def test_what_is_done_at_once_has_no_progress() -> None:
    """A change that takes no time is one reply, and no line flickers anywhere."""
    engine = BusyEngine()
    engine.may_go_on.set()
    with running(engine=engine) as service, service.client() as client:
        assert client.call("ApplyPolicy", flags=MORE, **APPLY) == {"parameters": OUTCOME}


def test_a_client_that_goes_keeps_nothing_from_being_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The change is carried out to its end, and others are answered meanwhile and after it."""
    monkeypatch.setattr(connections, "PROGRESS_PAUSE_S", 0.01)
    engine = BusyEngine()
    done = threading.Event()
    work = engine.hooks["ApplyPolicy"]

    def noted(parameters: dict[str, Any]) -> dict[str, Any]:
        reply = work(parameters)
        done.set()
        return reply

    engine.hooks["ApplyPolicy"] = noted
    with running(engine=engine) as service:
        with service.client() as gone:
            gone.send("ApplyPolicy", flags=MORE, **APPLY)
            assert gone.receive() is not None
        for n in range(20):
            engine.tell(Progress(Phase.LOADING, n, 20))
            with service.client() as second:
                assert "error" not in second.call("Stats")
        engine.may_go_on.set()
        assert done.wait(PATIENCE_S)
        with service.client() as second:
            assert "error" not in second.call("ApplyPolicy", flags=MORE, **APPLY)


def test_a_slow_client_gets_the_newest_and_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told while it reads nothing is not collected, and nobody waits for it."""
    monkeypatch.setattr(connections, "PROGRESS_PAUSE_S", 0.001)

    async def session() -> list[dict[str, Any]]:
        tell, may_end = asyncio.Queue[Tell](), asyncio.Event()

        async def answer(_peer: Peer, _call: Call, _held: Descriptors, heard: Tell) -> bytes:
            tell.put_nowait(heard)
            await may_end.wait()
            return encode_frame(reply_of({}))

        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            theirs.sendall(b'{"method":"a.Much","more":true}\0')
            theirs.shutdown(socket.SHUT_WR)
            filling = 0
            try:
                while True:
                    filling += ours.send(b" " * 4096)
            except BlockingIOError:
                pass
            serving = Connection(
                ours, Peer(1, 0, frozenset()), ConnectionLimits(), UnsentBytes(), answer
            ).serve()
            task = asyncio.create_task(serving)
            heard = await tell.get()
            for n in range(1, 101):
                heard(Progress(Phase.LOADING, n, 100))
                await asyncio.sleep(0.001)
            received = b""
            loop = asyncio.get_running_loop()
            while b"\0" not in received:
                received += await loop.sock_recv(theirs, 1 << 20)
            may_end.set()
            await task
            ours.close()
            while piece := await loop.sock_recv(theirs, 1 << 20):
                received += piece
        assert len(received) < filling + 1000
        return [json.loads(frame) for frame in received.split(b"\0")[:-1]]

    newest, last = asyncio.run(session())
    assert newest["parameters"]["progress"]["done"] == 100
    assert last == {"parameters": {}}


def test_a_frame_that_was_begun_is_ended_before_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply of which half was sent when the call ended is whole before the next one begins."""
    monkeypatch.setattr(connections, "PROGRESS_PAUSE_S", 0.001)

    class Narrow:
        """A socket that takes a few bytes of progress, and then nothing for a while."""

        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock
            self.begun, self.is_open = asyncio.Event(), False

        def fileno(self) -> int:
            return self._sock.fileno()

        def recvmsg(self, *sizes: int) -> tuple[bytes, list[Any], int, Any]:
            return self._sock.recvmsg(*sizes)

        def send(self, data: memoryview, flags: int) -> int:
            if not self.is_open and self.begun.is_set():
                raise BlockingIOError
            self.begun.set()
            return self._sock.send(data if self.is_open else data[:7], flags)

    async def session() -> bytes:
        async def answer(_peer: Peer, _call: Call, _held: Descriptors, heard: Tell) -> bytes:
            heard(LOADING)
            await narrow.begun.wait()
            await asyncio.sleep(0.01)
            narrow.is_open = True
            return encode_frame(reply_of({}))

        ours, theirs = socket.socketpair()
        with ours, theirs:
            narrow = Narrow(ours)
            ours.setblocking(False)
            theirs.sendall(b'{"method":"a.Much","more":true}\0')
            theirs.shutdown(socket.SHUT_WR)
            peer = Peer(1, 0, frozenset())
            await Connection(narrow, peer, ConnectionLimits(), UnsentBytes(), answer).serve()  # type: ignore[arg-type]
            return theirs.recv(65536)

    told, last, after = asyncio.run(session()).split(b"\0")
    assert json.loads(told)["parameters"]["progress"]["done"] == LOADING.done
    assert json.loads(last) == {"parameters": {}}
    assert after == b""


def test_the_records_and_the_interface_agree() -> None:
    """A method that tells its progress has a place for it in its reply, and no other has."""
    declared = {
        name
        for name, method in load_interface(CONTROL).methods.items()
        if method.reply.fields.get("progress") == Nullable(Named("Progress"))
    }
    assert declared == {name for name, method in METHODS.items() if method.tells_progress}
    assert declared == {"ApplyPolicy", "Reload", "Restore"}


def test_waiting_for_another_change_is_told() -> None:
    """Who comes second hears that it waits, and why."""
    engine = BusyEngine()
    with running(engine=engine) as service, service.client() as first, service.client() as second:
        first.send("ApplyPolicy", **APPLY)
        assert engine.begun.wait(PATIENCE_S)
        second.send("Reload", flags=MORE, resolve=False)
        told = second.receive()
        engine.may_go_on.set()
        last = second.receive()
    assert last is not None
    assert last["parameters"]["outcome"] == OUTCOME["outcome"]
    assert told is not None
    assert told["parameters"]["progress"]["phase"] == "waiting for another change"
    wait_until(lambda: len(engine.calls) == 2, "carried out")
