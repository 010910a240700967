"""Tests of the runtime directory: one daemon in it, and a socket that always leads somewhere."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd.errors import Refused, StoreFailed
from ipsecd.protocol.connecting import connected, send_frame
from ipsecd.service.listener import RuntimeLock, open_listener, passed_socket


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """A directory whose name is short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="ipsecd-") as name:
        yield Path(name)


def can_connect(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_everybody_may_connect(runtime_dir: Path) -> None:
    """The socket's mode lets everybody in; peer credentials decide what they may do."""
    listener = open_listener(runtime_dir, {})
    path = runtime_dir / "ipsecd.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert can_connect(path)
    assert not listener.sock.getblocking()
    listener.close()
    assert list(runtime_dir.iterdir()) == []


def test_a_stale_socket_is_replaced(runtime_dir: Path) -> None:
    """What a killed daemon left behind is in nobody's way, its half-made socket included."""
    path = runtime_dir / "ipsecd.sock"
    for name in (path, runtime_dir / "ipsecd.sock.new"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(name))
    assert not can_connect(path)
    listener = open_listener(runtime_dir, {})
    assert can_connect(path)
    listener.close()


def test_what_is_no_socket_is_left_alone(runtime_dir: Path) -> None:
    """A file in the socket's place is somebody's file."""
    path = runtime_dir / "ipsecd.sock"
    path.write_text("notes")
    with pytest.raises(Refused, match="is in the way"):
        open_listener(runtime_dir, {})
    assert path.read_text() == "notes"


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """The kernel's limit is told, not its error."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    with pytest.raises(Refused, match="too long for a socket"):
        open_listener(long, {})


def test_a_second_daemon_is_refused(runtime_dir: Path) -> None:
    """The lock is held by one, and free again when that one ends."""
    lock = RuntimeLock(runtime_dir)
    with pytest.raises(Refused, match="another ipsecd runs"):
        RuntimeLock(runtime_dir)
    lock.close()
    RuntimeLock(runtime_dir).close()


def test_the_lock_ends_with_its_process(runtime_dir: Path) -> None:
    """A killed daemon does not lock its successor out."""
    program = (
        "import os, pathlib, signal, sys\n"
        "from ipsecd.service.listener import RuntimeLock\n"
        "lock = RuntimeLock(pathlib.Path(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(runtime_dir)], check=False)
    assert killed.returncode == -9
    RuntimeLock(runtime_dir).close()


def test_the_runtime_directory_is_made(runtime_dir: Path) -> None:
    """Where there is none yet it is created; below a missing one it is not."""
    RuntimeLock(runtime_dir / "made").close()
    with pytest.raises(StoreFailed, match="cannot be used: No such file"):
        RuntimeLock(runtime_dir / "missing" / "made")


ACTIVATED = """
import os, pathlib, socket, sys
from ipsecd.errors import IpsecdError
from ipsecd.service.listener import open_listener
kind, count, pid = sys.argv[2:5]
style = socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM
sock = socket.socket(socket.AF_UNIX, style)
sock.bind(sys.argv[1])
if kind == "stream":
    sock.listen()
if kind == "file":
    sock = open(os.devnull)
os.dup2(sock.fileno(), 3)
os.environ |= {"LISTEN_FDS": count, "LISTEN_PID": pid.replace("self", str(os.getpid()))}
try:
    listener = open_listener(pathlib.Path(sys.argv[1]).parent, os.environ)
except IpsecdError as error:
    sys.exit(error.message)
assert "LISTEN_FDS" not in os.environ
print(listener.sock.fileno(), listener.sock.getblocking(), os.get_inheritable(3))
listener.close()
print(os.path.exists(sys.argv[1]))
"""


NOT_STARTING = """
import os, socket, sys
from ipsecd.__main__ import main
from ipsecd.service.owner_socket import NAME
os.environ |= {"LISTEN_FDS": sys.argv[2], "LISTEN_PID": str(os.getpid())}
owner = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
if sys.argv[2] == "2":
    os.environ["LISTEN_FDNAMES"] = f"ipsecd.socket:{NAME}"
    os.dup2(owner.fileno(), 4)
os.dup2(int(sys.argv[1]), 3)
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize("passed", ["1", "2"])
def test_who_waits_for_a_daemon_that_cannot_start_is_told_why(
    runtime_dir: Path, passed: str
) -> None:
    """By the key, the line and what to do, also if no call has come yet.

    So it is where the service manager keeps the socket that owns the table, too.
    """
    settings = runtime_dir / "ipsecd.yaml"
    settings.write_text("domain:\n  source: http://\n")
    waiting = socket.socket(socket.AF_UNIX)
    path = str(runtime_dir / "passed.sock")
    waiting.bind(path)
    waiting.listen()
    asking, silent = connected(path, 10), connected(path, 10)
    send_frame(asking, b'{"method": "io.ipsecd.control.Status"}\0', None)
    given = [str(waiting.fileno()), passed, "--config", str(settings)]
    command = [sys.executable, "-c", NOT_STARTING, *given]
    done = subprocess.run(
        command, pass_fds=[waiting.fileno()], capture_output=True, text=True, check=False
    )
    said = f"{settings}:2: domain.source: 'http://' is no place for policies"
    assert done.returncode == 1
    assert said in done.stderr
    for connection in (asking, silent):
        reply = json.loads(connection.recv(1 << 16).removesuffix(b"\0"))
        assert reply["error"] == "io.ipsecd.control.Refused"
        assert reply["parameters"]["message"] == f"the daemon does not start: {said}"
        assert "write https://HOST/PATH" in reply["parameters"]["hint"]


def activate(runtime_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = str(runtime_dir / "passed.sock")
    return subprocess.run(
        [sys.executable, "-c", ACTIVATED, path, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_passed_socket_is_taken(runtime_dir: Path) -> None:
    """The service manager's socket is used instead of an own one, and stays its own to remove."""
    done = activate(runtime_dir, "stream", "1", "self")
    assert done.stdout.splitlines() == ["3 False False", "True"], done.stderr


def test_a_socket_for_another_process_is_not_taken(runtime_dir: Path) -> None:
    """LISTEN_PID says for whom it is; anybody else opens a socket as usual."""
    done = activate(runtime_dir, "stream", "1", "1")
    assert done.returncode == 0, done.stderr
    assert not done.stdout.startswith("3 ")


@pytest.mark.parametrize(
    ("kind", "count", "reason"),
    [
        ("stream", "2", "passed 2 sockets"),
        ("datagram", "1", "of another kind"),
        ("deaf", "1", "of another kind"),
        ("file", "1", "no socket"),
    ],
)
def test_wrong_sockets_are_refused(runtime_dir: Path, kind: str, count: str, reason: str) -> None:
    """Something that cannot be accepted from is refused with what to configure."""
    done = activate(runtime_dir, kind, count, "self")
    assert done.returncode == 1
    assert reason in done.stderr


def test_nothing_passed_is_nothing() -> None:
    """Without the variables, or with none passed, there is no socket."""
    assert passed_socket({}) is None
    assert passed_socket({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) is None
