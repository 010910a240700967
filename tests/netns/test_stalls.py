"""Open connections while the host's policy changes and its daemon dies: how long they stall."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from tests.netns import site
from tests.netns.scans import POLICY
from tests.netns.site import HERE4, HOST, OUTSIDE, PEER4, PEER6, Daemon, listening, run, serving

pytestmark = pytest.mark.netns

ECHO, DOWNLOAD, WORM = 7001, 7002, 1434
MARGIN_S = 1.0 * site.PATIENCE
"""What one retransmission, after 0.2 s, may take besides on a busy machine."""
LEARNING_S = 3.0
"""How long that takes, by probes after a second and what the peer has waited by then."""
PLAIN = 'policy: Plain\nrules:\n  - {rule: Worm, action: block, filters: ["*=0:1434:UDP"]}\n'
SLAMMER = '  - {rule: Worm, action: block, filters: ["*=0:1434:UDP"]}\n'

SERVER = """
import socket, sys, threading, time
def echo(sock):
    while data := sock.recv(65535):
        sock.sendall(data)
def download(sock):
    while True:
        sock.sendall(bytes(16384))
        time.sleep(0.005)
def until_its_end(serve, sock):
    try:
        serve(sock)
    except OSError:
        sock.close()
def accept(listener, serve):
    while True:
        work = (serve, listener.accept()[0])
        threading.Thread(target=until_its_end, args=work, daemon=True).start()
def datagrams(sock):
    while True:
        data, sender = sock.recvfrom(65535)
        sock.sendto(data, sender)
echo_port, download_port = map(int, sys.argv[1:])
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    for port, serve in ((echo_port, echo), (download_port, download), (echo_port, None)):
        sock = socket.socket(family, socket.SOCK_STREAM if serve else socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if serve:
            sock.listen()
        work = (accept, (sock, serve)) if serve else (datagrams, (sock,))
        threading.Thread(target=work[0], args=work[1], daemon=True).start()
print("ready", flush=True)
time.sleep(10**6)
"""
FLOW = """
import json, select, socket, sys, time
kind, address, port, patience = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
sock.connect((address, port))
sock.settimeout(patience)
if kind == "download":
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        sock.setsockopt(socket.IPPROTO_TCP, option, 1)
print("ready", flush=True)
longest, lost, count, at = 0.0, 0, 0, 0.0
while True:
    begun = time.monotonic()
    try:
        if kind != "download":
            sock.send(b"%020d" % count)
            while int(sock.recv(20)) != count:
                pass
        elif not sock.recv(65536):
            raise ConnectionError
        count += 1
    except OSError:
        lost += 1
        time.sleep(0.1)
    if (taken := time.monotonic() - begun) > longest:
        longest, at = taken, begun
    if kind != "download":
        time.sleep(0.01)
    if select.select([sys.stdin], [], [], 0)[0]:
        if not sys.stdin.readline():
            break
        print(json.dumps([longest, at, lost, count]), flush=True)
        longest, lost, count, at = 0.0, 0, 0, 0.0
print(json.dumps([longest, at, lost, count]), flush=True)
"""
DRIP = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
while True:
    for _ in range(10):
        sock.sendto(b"worm", (sys.argv[1], int(sys.argv[2])))
    time.sleep(0.002)
"""


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        yield running


class Flow:
    """Something that goes on all the time, and the longest that it stood still."""

    def __init__(self, stack: ExitStack, kind: str, address: str) -> None:
        self.name = f"{kind} {address}"
        port = DOWNLOAD if kind == "download" else ECHO
        words = (kind, address, str(port), str(30 * site.PATIENCE))
        self._process = stack.enter_context(serving(HOST, FLOW, *words))

    def longest(self) -> tuple[float, float, int, int]:
        """Seconds of the longest stall and when it began, and how much was lost and not lost."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds, begun, lost, count = json.loads(self._process.stdout.readline())
        return float(seconds), float(begun), int(lost), int(count)


class Flows:
    """A connection, a download and datagrams, IPv4 and IPv6, with a server at the peer."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(serving(OUTSIDE, SERVER, str(ECHO), str(DOWNLOAD)))
            self._flows = [
                Flow(stack, kind, address)
                for address in (PEER4, PEER6)
                for kind in ("tcp", "udp", "download")
            ]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def stalls(self) -> dict[str, tuple[float, float, int, int]]:
        """What each has to tell since it was asked last."""
        return {flow.name: flow.longest() for flow in self._flows}


def retransmitted() -> int:
    """How many segments both ends of the open connections have sent again."""
    shown = "".join(
        run(*where, "ss", "-Htni", f"( sport = :{port} or dport = :{port} )")
        for where in (HOST, OUTSIDE)
        for port in (ECHO, DOWNLOAD)
    )
    return sum(map(int, re.findall(r"retrans:\d+/(\d+)", shown)))


def crash(daemon: Daemon, number: signal.Signals) -> None:
    daemon.end(number)
    daemon.start()


def exchange(daemon: Daemon, backend: str) -> None:
    daemon.ctl("backend", backend)
    assert daemon.ctl("backend") == f"{backend}\n"


def test_nothing_stalls_longer_than_one_retransmission(daemon: Daemon) -> None:
    """A policy is assigned, replaced and taken away, the daemon killed, the backend exchanged.

    Nothing leaks meanwhile.
    """
    daemon.put(PLAIN)
    (other,) = set(site.BACKENDS) - {daemon.backend}
    changes: dict[str, Callable[[], None]] = {
        "assigned": lambda: daemon.put(POLICY.format(name="A", more="")),
        "replaced": lambda: daemon.put(POLICY.format(name="B", more=SLAMMER)),
        "exchanged": lambda: exchange(daemon, other),
        "replaced then": lambda: daemon.put(POLICY.format(name="A", more="")),
        "exchanged back": lambda: exchange(daemon, daemon.backend),
        "killed": lambda: crash(daemon, signal.SIGKILL),
        "handed over": lambda: crash(daemon, signal.SIGUSR1),
        "taken away": lambda: daemon.put(PLAIN),
        "assigned again": lambda: daemon.put(POLICY.format(name="A", more="")),
    }
    with listening(HOST, HERE4, WORM) as heard, Flows() as flows, ExitStack() as stack:
        drip = stack.enter_context(serving(OUTSIDE, DRIP, HERE4, str(WORM)))
        time.sleep(2)
        usual = max(seconds for seconds, *_ in flows.stalls().values())
        for name, change in changes.items():
            before, begun = retransmitted(), time.monotonic()
            change()
            time.sleep(0.5)
            stalls = flows.stalls()
            again = retransmitted() - before
            for flow, (seconds, at, lost, count) in stalls.items():
                what = f"{name}: {flow} stalled {seconds:.3f} s, {at - begun:.3f} s after its begin"
                print(f"{what}; {count} came, {lost} lost, {again} sent again; usual {usual:.3f}")
                assert count > 0, what
                # What is under way when connections begin to be tracked may be lost, once. A
                # download is then known from when its receiver asks whether it still goes on.
                learns = name.startswith("assigned")
                assert lost <= ("udp" in flow and learns), what
                learning = LEARNING_S if "download" in flow and learns else 0
                assert seconds < 2 * usual + 0.2 + MARGIN_S + learning or lost, what
        drip.kill()
        assert heard() == 0
