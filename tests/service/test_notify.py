"""Tests of what is said to the service manager."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd.service.notify import Notifier
from tests.service.harness import PATIENCE_S


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, Notifier]]:
    """A service manager's socket, at a path or in the abstract namespace."""
    with (
        tempfile.TemporaryDirectory(prefix="ipsecd-") as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
    ):
        if request.param == "path":
            address = str(Path(directory) / "notify")
            sock.bind(address)
        else:
            address = f"@ipsecd-test-{secrets.token_hex(8)}"
            sock.bind("\0" + address[1:])
        sock.settimeout(PATIENCE_S)
        yield sock, Notifier({"NOTIFY_SOCKET": address})


def test_everything_is_said_as_systemd_reads_it(manager: tuple[socket.socket, Notifier]) -> None:
    """Each state is one datagram of KEY=value lines."""
    sock, notifier = manager
    notifier.ready("serving")
    assert sock.recv(4096) == b"READY=1\nSTATUS=serving"
    notifier.stopping("bye")
    assert sock.recv(4096) == b"STOPPING=1\nSTATUS=bye"
    notifier.status("two\nlines")
    assert sock.recv(4096) == b"STATUS=two lines"
    notifier.watchdog()
    assert sock.recv(4096) == b"WATCHDOG=1"


def test_a_reload_says_when_it_began(manager: tuple[socket.socket, Notifier]) -> None:
    """RELOADING comes with the monotonic clock in microseconds."""
    sock, notifier = manager
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    lines = dict(line.split("=") for line in sock.recv(4096).decode().splitlines())
    assert lines["RELOADING"] == "1"
    assert before <= int(lines["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000


@pytest.mark.parametrize("address", ["", "/nonexistent/socket", "@ipsecd-nobody-listens"])
def test_nobody_listening_is_no_error(address: str) -> None:
    """Without a manager, or with one that is gone, the daemon goes on."""
    Notifier({"NOTIFY_SOCKET": address} if address else {}).ready("serving")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_interval(environment: dict[str, str], seconds: float | None) -> None:
    """The interval is in microseconds and meant for one process."""
    assert Notifier(environment).watchdog_s == seconds
