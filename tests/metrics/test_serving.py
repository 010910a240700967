"""The exporter's web server: who is answered, and how many at a time."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ipsecd_metrics.serving import MOST_CLIENTS, Handler, Render, Server

NOBODY = 65534
PATIENCE_S = 60.0


def said(accept: str) -> tuple[bytes, str]:
    return f"answered {accept}".encode(), "text/plain"


@contextmanager
def serving(listen: str, render: Render = said) -> Iterator[Server]:
    server = Server(listen, render)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def get(sock: socket.socket, path: str = "/metrics", host: str = "localhost") -> tuple[int, bytes]:
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/*\r\n\r\n".encode())
    reply = http.client.HTTPResponse(sock)
    reply.begin()
    return reply.status, reply.read()


def connected(server: Server) -> socket.socket:
    sock = socket.socket(server.address_family)
    sock.settimeout(PATIENCE_S)
    sock.connect(server.server_address)
    return sock


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "a socket"])
def test_metrics_are_had_over_tcp_and_over_a_socket(listen: str, tmp_path: Path) -> None:
    """There is one path, and what was asked for decides about the form."""
    where = str(tmp_path / "s") if listen == "a socket" else listen
    with serving(where) as server:
        with connected(server) as sock:
            assert get(sock) == (200, b"answered text/*")
        with connected(server) as sock:
            assert get(sock, "/metrics?x=1")[0] == 200
        with connected(server) as sock:
            assert get(sock, "/../etc/passwd")[0] == 404
        with connected(server) as sock:
            sock.sendall(b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            assert sock.recv(64).startswith(b"HTTP/1.0 501")


def test_a_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    """Anything else at its path is not."""
    path = tmp_path / "s"
    for _ in range(2):
        with serving(str(path)) as server, connected(server) as sock:
            assert get(sock)[0] == 200
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
    path.unlink()
    path.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        Server(str(path), lambda _: (b"", ""))
    assert path.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_strangers_are_refused_on_a_socket(tmp_path: Path) -> None:
    """The kernel does not let them connect."""
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    with serving(str(tmp_path / "s")) as server:
        child = os.fork()
        if not child:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            try:
                connected(server)
            except PermissionError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_those_who_are_silent_make_room() -> None:
    """However many connect and say nothing, or not all: whoever asks is answered."""
    with serving("127.0.0.1:0") as server:
        silent = [connected(server) for _ in range(3 * MOST_CLIENTS)]
        for sock in silent[::2]:
            with suppress(ConnectionError):
                sock.sendall(b"GET /metrics HT")
        for _ in range(2 * MOST_CLIENTS):
            with connected(server) as sock:
                assert get(sock)[0] == 200
        # The longest silent have gone.
        assert not silent[0].recv(1)
        for sock in silent:
            sock.close()


def test_who_has_asked_makes_no_room() -> None:
    """Who comes then is told to come back, and none of the others is lost."""
    asked, goes_on = threading.Semaphore(0), threading.Event()

    def render(_: str) -> tuple[bytes, str]:
        asked.release()
        goes_on.wait(PATIENCE_S)
        return b"answered", "text/plain"

    with serving("127.0.0.1:0", render) as server:
        clients = [connected(server) for _ in range(MOST_CLIENTS)]
        for sock in clients:
            sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        for _ in clients:
            assert asked.acquire(timeout=PATIENCE_S)
        with connected(server) as sock:
            assert sock.recv(64).startswith(b"HTTP/1.1 503")
        goes_on.set()
        for sock in clients:
            assert sock.recv(64).startswith(b"HTTP/1.0 200")
            sock.close()


@pytest.mark.parametrize(
    ("listen", "host", "status"),
    [
        ("127.0.0.1:0", "127.0.0.1:9633", 200),
        ("127.0.0.1:0", "LOCALHOST", 200),
        ("[::1]:0", "[::1]:9633", 200),
        ("[::]:0", "localhost:1", 200),
        ("127.0.0.1:0", f"{socket.gethostname()}:9633", 200),
        ("127.0.0.1:0", "evil.example:9633", 421),
        ("127.0.0.1:0", "127.0.0.1.evil.example", 421),
        ("127.0.0.1:0", "", 421),
        ("[::1]:0", "[::2]", 421),
        ("[::]:0", "evil.example", 421),
        ("0.0.0.0:0", "evil.example", 421),
        ("a socket", "evil.example", 200),
    ],
)
def test_a_page_of_others_gets_nothing_from_the_loopback(
    listen: str, host: str, status: int, tmp_path: Path
) -> None:
    """A name of theirs that points here is not the loopback's; a proxy has the socket its own."""
    where = str(tmp_path / "s") if listen == "a socket" else listen
    with serving(where) as server, connected(server) as sock:
        assert get(sock, host=host)[0] == status


def test_a_sign_now_and_then_is_no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client has its time once, and not anew with each byte: few would keep all others out."""
    monkeypatch.setattr(Handler, "timeout", 0.5)
    with serving("127.0.0.1:0") as server, connected(server) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        sock.settimeout(0.05)
        ended, until = False, time.monotonic() + 10
        while not ended and time.monotonic() < until:
            try:
                sock.sendall(b"y")
                ended = not sock.recv(64)
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
        assert ended
