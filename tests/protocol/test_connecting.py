"""Tests of what is common to those who call the daemon."""

from __future__ import annotations

import _socket
import json
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from ipsecctl.client import Client
from ipsecd.errors import LimitExceeded
from ipsecd.protocol.connecting import connected
from ipsecd.protocol.errors import to_wire
from ipsecd_domain.fetcher.daemon import Daemon


def _refuse_and_close(path: Path) -> threading.Thread:
    """Accept connections at `path`, and close each with a reason before it asked anything."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    reply = to_wire(LimitExceeded("you have 3 connections", "close one"))

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            connection.sendall(json.dumps(reply).encode() + b"\0")
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.fixture
def refused_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A socket whose connections are refused and closed before the caller sends anything."""
    path = tmp_path / "socket"
    refusing = _refuse_and_close(path)

    def connected_too_late(path: str, timeout_s: float) -> _socket.socket:
        connection = connected(path, timeout_s)
        refusing.join()
        return connection

    for module in ("ipsecctl.client", "ipsecd_domain.fetcher.daemon"):
        monkeypatch.setattr(f"{module}.connected", connected_too_late)
    return path


@pytest.mark.parametrize("with_file", [False, True])
def test_ipsecctl_hears_why_it_is_refused(refused_connection: Path, with_file: bool) -> None:
    """The reason of a daemon that has closed already reaches the user, not 'no answer'."""
    descriptor = os.open("/dev/null", os.O_RDONLY) if with_file else None
    with pytest.raises(LimitExceeded, match="you have 3 connections"):
        Client(str(refused_connection)).call("Stats", {}, descriptor)
    if descriptor is not None:
        os.close(descriptor)


def test_the_fetcher_hears_why_it_is_refused(refused_connection: Path) -> None:
    """So does it reach the log of the fetcher."""
    with pytest.raises(LimitExceeded, match="you have 3 connections"):
        Daemon(str(refused_connection)).domain()


class _Ended(BaseException):
    """Somebody wants the process to end."""


def test_a_call_that_was_interrupted_leaves_its_reply_to_no_other(tmp_path: Path) -> None:
    """As by a signal: what the process asks before it ends gets its own reply."""
    path = tmp_path / "socket"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        for _ in range(2):
            connection, _address = listener.accept()
            # Whoever was interrupted closes before all is sent.
            with connection, suppress(ConnectionError):
                while frame := connection.recv(4096):
                    name = json.loads(frame.rstrip(b"\0"))["method"].rpartition(".")[2]
                    for continues in (True, False):
                        reply = {"parameters": {"of": name}, "continues": continues}
                        connection.sendall(json.dumps(reply).encode() + b"\0")

    def hear(_: object) -> None:
        raise _Ended

    thread = threading.Thread(target=serve)
    thread.start()
    client = Client(str(path))
    with pytest.raises(_Ended):
        client.call("Monitor", hear=hear)
    assert client.call("Stats", hear=lambda _: None) == {"of": "Stats"}
    client.close()
    thread.join()
    listener.close()
