"""Tests of connections over real sockets: broken clients, slow ones, and too many of them."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.config import Limits
from ipsecd.progress import Tell
from ipsecd.protocol.frames import MAX_FRAME_BYTES, encode_frame
from ipsecd.protocol.messages import Call
from ipsecd.service.access import Peer
from ipsecd.service.connections import Connection, ConnectionLimits, Followed, UnsentBytes
from ipsecd.service.descriptors import Descriptors
from tests.descriptors import open_descriptors
from tests.service.harness import (
    NOBODY,
    PATIENCE_S,
    VIEW_GID,
    Client,
    FakeEngine,
    Running,
    running,
    wait_until,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

ASK_AS = """
import os, socket, sys
os.setgroups([int(g) for g in sys.argv[3].split(",") if g])
os.setgid(65534); os.setuid(int(sys.argv[2]))
s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1])
try:
    for m in sys.argv[4:]:
        s.sendall(b'{"method":"io.ipsecd.control.' + m.encode() + b'"}\\0')
        reply = b""
        while not reply.endswith(b"\\0"):
            piece = s.recv(65536)
            if not piece: raise ConnectionResetError
            reply += piece
        print(reply[:-1].decode())
except (ConnectionResetError, BrokenPipeError):
    print("closed")
"""


def ask_as(path: Path, uid: int, groups: str, *methods: str) -> list[str]:
    """What `uid` is told when it calls `methods`, one after the other; "closed" at the end."""
    command = [sys.executable, "-I", "-c", ASK_AS, str(path), str(uid), groups, *methods]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize(
    "junk",
    [
        b"not json\0",
        b"\0",
        b"[]\0",
        b'{"method":5}\0',
        b'{"method":"x","parameters":[]}\0',
        b'{"method":"x","method":"y"}\0',
        b'{"method":"x","parameters":{"a":NaN}}\0',
        b'{"method":"\xff"}\0',
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\0",
        b"[" * 1_000_000 + b"\0",
        b"x" * (MAX_FRAME_BYTES + 1),
    ],
    ids=lambda junk: junk[:24].decode("latin-1"),
)
def test_broken_frames_get_one_error_and_the_end(junk: bytes) -> None:
    """Whatever is not a call gets a clear error and a closed connection; others go on."""
    with running() as service, service.client() as good, service.client() as bad:
        sending = threading.Thread(target=_send_quietly, args=(bad, junk))
        sending.start()
        reply = bad.receive()
        assert reply is not None
        assert reply["error"] == "io.ipsecd.control.InvalidInput"
        assert reply["parameters"]["message"]
        assert bad.receive() is None
        sending.join()
        assert "error" not in good.call("Stats")
        assert [method for method, _, _ in service.engine.calls] == ["Stats"]


def test_an_endless_frame_takes_no_memory() -> None:
    """A client that never ends its frame is cut off at the permitted size."""
    with running() as service, service.client() as client:
        sent = _pieces_taken(client, [b"x" * 65536] * 1600) * 65536
        # What lies in the kernel's buffers was sent too, and read by nobody.
        assert sent < 3 * MAX_FRAME_BYTES
        with service.client() as second:
            second.call("Stats")


def test_a_client_that_reads_nothing_is_cut_off_and_delays_nobody() -> None:
    """Replies that nobody takes are not collected: reading stops, and so does the connection."""
    big = {"rules": [], "unparsable": 0, "padding": "x" * 500_000}
    delayed = True
    for write_timeout_s in (1.0, 8.0, 40.0):
        engine = FakeEngine()
        engine.hooks["Stats"] = lambda _: big
        with (
            running(engine=engine, write_timeout_s=write_timeout_s) as service,
            service.client() as slow,
        ):
            slow.sock.sendall(slow.request("Stats") * 50)
            with service.client() as quick:
                for _ in range(20):
                    quick.call("ListExemptions")
            delayed = _is_cut_off(slow)
            assert sum(method == "Stats" for method, _, _ in engine.calls) <= 2
            wait_until(lambda client=slow: _is_cut_off(client), "cut off")  # type: ignore[misc]
            taken = 0
            while piece := _receive_quietly(slow):
                taken += len(piece)
            assert taken < 1_000_000
        if not delayed:
            break
    assert not delayed


def test_a_client_that_trickles_is_cut_off() -> None:
    """The idle timeout runs from reply to whole call: a byte now and then does not extend it."""
    with running(Limits(idle_timeout_s=0.5)) as service, service.client() as client:
        begun = time.monotonic()
        trickle = [bytes([byte]) for byte in client.request("Stats") * 100]
        assert _pieces_taken(client, trickle, pause_s=0.05) < len(trickle)
        assert 0.4 < time.monotonic() - begun < PATIENCE_S
        assert service.engine.calls == []


def test_idle_connections_are_closed() -> None:
    """Who says nothing is disconnected without a word; who calls in time stays."""
    with (
        running(Limits(idle_timeout_s=3.0)) as service,
        service.client() as idle,
        service.client() as busy,
    ):
        for _ in range(8):
            time.sleep(0.5)
            busy.call("Stats")
        assert idle.receive() is None


def test_one_user_cannot_have_all_connections() -> None:
    """One connection too many is told so and closed; when one goes, there is room again."""
    with running(Limits(connections_per_user=3)) as service:
        clients = [service.client() for _ in range(3)]
        for client in clients:
            client.call("Stats")
        with service.client() as late:
            reply = late.receive()
            assert reply is not None
            assert reply["error"] == "io.ipsecd.control.LimitExceeded"
            assert late.receive() is None
        clients[0].sock.close()
        wait_until(lambda: _answers(service.client()), "room for another connection")
        for client in clients:
            client.sock.close()


@as_root
def test_strangers_do_not_take_roots_place() -> None:
    """When all connections are taken, root still gets in."""
    with (
        running(Limits(connections=2)) as service,
        service.client() as first,
        service.client() as two,
    ):
        first.call("Stats")
        two.call("Stats")
        assert ask_as(service.path, NOBODY, str(VIEW_GID), "Stats") == ["closed"]
        with service.client() as three:
            assert "parameters" in three.call("Stats")


def test_connections_leave_nothing_behind() -> None:
    """Hundreds of connections, ended in every way, leave no descriptor and no task."""
    with running(Limits(idle_timeout_s=5)) as service:
        with service.client() as client:
            client.call("Stats")
        before = open_descriptors()
        for n in range(300):
            with service.client() as client:
                if n % 3 == 0:
                    client.call("Stats")
                elif n % 3 == 1:
                    client.sock.sendall(b"junk\0")
                else:
                    client.sock.sendall(b'{"method":')
        wait_until(lambda: open_descriptors() <= before, "all descriptors closed")


def _answers(client: Client) -> bool:
    with client:
        client.send("Stats")
        reply = client.receive()
    return reply is not None and "error" not in reply


def _send_quietly(client: Client, data: bytes) -> None:
    try:
        client.sock.sendall(data)
    except OSError:
        return


def _receive_quietly(client: Client) -> bytes:
    try:
        return client.sock.recv(1 << 20)
    except ConnectionResetError:
        return b""


def test_a_socket_that_is_closed_at_once_harms_nobody() -> None:
    """Clients that connect and vanish, or shut one side, do not disturb the next one."""
    with running() as service:
        for _ in range(50):
            service.client().sock.close()
        with service.client() as half:
            half.send("Stats")
            half.sock.shutdown(socket.SHUT_WR)
            assert half.receive() is not None
            assert half.receive() is None


def test_single_bytes_make_a_call() -> None:
    """A call that comes in single bytes, in time, is answered like any other."""
    with running() as service, service.client() as client:
        for byte in client.request("Stats"):
            client.sock.send(bytes([byte]))
        assert client.receive() == {"parameters": {"rules": [], "unparsable": 0, "lists": None}}


def test_calls_before_the_broken_one_are_answered() -> None:
    """What was right is answered, then comes one error, and what follows is not carried out."""
    with running() as service, service.client() as client:
        client.sock.sendall(client.request("Stats") + b"junk\0" + client.request("FlushDynamic"))
        first, second, third = (client.receive() for _ in range(3))
        assert first is not None
        assert "error" not in first
        assert second is not None
        assert second["error"] == "io.ipsecd.control.InvalidInput"
        assert third is None
        assert [method for method, _, _ in service.engine.calls] == ["Stats"]


@settings(max_examples=150, deadline=None)
@given(data=st.lists(st.binary(max_size=200), max_size=4))
def test_any_bytes_leave_the_service_standing(standing: Running, data: list[bytes]) -> None:
    """Whatever a client sends before it goes, the next one is answered."""
    with standing.client() as client:
        for piece in data:
            _send_quietly(client, piece)
    with standing.client() as second:
        assert "error" not in second.call("Stats")


def test_a_slow_reader_gets_all_of_a_large_reply() -> None:
    """A reply far larger than the socket's buffer arrives whole at a client that takes its time."""
    engine = FakeEngine()
    engine.hooks["Stats"] = lambda _: {"padding": "x" * 3_000_000}
    with running(engine=engine) as service, service.client() as client:
        client.send("Stats")
        taken = 0
        while taken < 1_000_000:
            time.sleep(0.005)
            taken += len(client.sock.recv(65536))
        while taken < 3_000_000:
            taken += len(client.sock.recv(1 << 20))


def test_replies_that_nobody_reads_have_a_common_limit() -> None:
    """All unread replies share one limit, a single one always fits, and room is given back."""
    unsent = UnsentBytes(100)
    assert unsent.take(500)
    assert not unsent.take(1)
    unsent.give_back(500)
    assert unsent.take(60)
    assert unsent.take(40)
    assert not unsent.take(1)
    unsent.give_back(40)
    assert unsent.take(40)


def test_a_reply_beyond_the_common_limit_is_refused() -> None:
    """A client whose reply finds no room is told so, and its connection goes on."""

    async def session() -> list[dict[str, Any]]:
        async def answer(_peer: Peer, call: Call, _held: Descriptors, _tell: Tell) -> bytes:
            return encode_frame(
                {"parameters": {"padding": "x" * (90 if call.name == "Big" else 1)}}
            )

        unsent = UnsentBytes(120)
        assert unsent.take(60)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.sendall(b'{"method":"a.Big"}\0{"method":"a.Small"}\0')
            theirs.shutdown(socket.SHUT_WR)
            peer = Peer(1, 0, frozenset())
            await Connection(ours, peer, ConnectionLimits(), unsent, answer).serve()
            frames = theirs.recv(65536).split(b"\0")[:-1]
        return [json.loads(frame) for frame in frames]

    refused, answered = asyncio.run(session())
    assert refused["error"] == "io.ipsecd.control.LimitExceeded"
    assert answered == {"parameters": {"padding": "x"}}


@pytest.fixture(scope="module")
def standing() -> Iterator[Running]:
    with running() as service:
        yield service


def _is_cut_off(client: Client) -> bool:
    """Whether the service has closed the connection, whatever there is still to read."""
    waiting = select.poll()
    waiting.register(client.sock, select.POLLRDHUP)
    return bool(waiting.poll(0))


def _pieces_taken(client: Client, pieces: list[bytes], pause_s: float = 0.0) -> int:
    """How many of `pieces` could be sent before the service closed the connection."""
    for n, piece in enumerate(pieces):
        try:
            client.sock.sendall(piece)
        except OSError:
            return n
        time.sleep(pause_s)
    return len(pieces)


def test_a_connection_that_is_ended_ends_its_replies() -> None:
    """Also while the next is awaited, as when the daemon stops: that is no bug."""
    ended = []

    async def replies() -> AsyncGenerator[dict[str, Any], None]:
        try:
            await asyncio.Event().wait()
            yield {}
        finally:
            ended.append(True)

    async def answer(*_: object) -> bytes:
        raise AssertionError

    async def end_while_it_follows() -> BaseException | None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            peer = Peer(1, 0, frozenset())
            connection = Connection(
                ours,
                peer,
                ConnectionLimits(),
                UnsentBytes(),
                answer,
                lambda *_: Followed({}, replies()),
            )
            serving = asyncio.create_task(connection.serve())
            theirs.sendall(b'{"method":"x.y.Z","more":true}\0')
            await asyncio.sleep(0.1)
            serving.cancel()
            (outcome,) = await asyncio.gather(serving, return_exceptions=True)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return outcome

    assert isinstance(asyncio.run(end_while_it_follows()), asyncio.CancelledError)
    assert ended == [True]
