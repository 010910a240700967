"""A host that nothing gets into unasked: real connections, in and out, on both backends."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import (
    HERE4,
    HERE6,
    OUTSIDE,
    PEER4,
    PEER6,
    Daemon,
    Flood,
    delivered,
    eventually,
    python,
    rename,
    run,
    serving,
)

pytestmark = pytest.mark.netns

ECHO, OPEN, CLOSED = 7001, 22, 23
SHORT_S = 1.5
"""How long to wait for an answer that must not come."""
LONG_S = 20.0 * site.PATIENCE
ADDRESSES = ((HERE4, PEER4), (HERE6, PEER6))

POLICY = """policy: {name}
rules:
  - rule: Nothing gets in unasked
    action: block
    when: opening
    filters: ["*=0"]
  - rule: SSH
    action: permit
    filters: ["*=0:22:TCP"]
{more}"""
SLAMMER = """  - rule: Slammer
    action: block
    filters: ["*=0:1434:UDP"]
"""
PLAIN = f"policy: Plain\nrules:\n{SLAMMER}"

ECHOES = """
import select, socket, sys
port = int(sys.argv[1])
waiting = []
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        sock = socket.socket(family, kind)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        waiting.append(sock)
listeners = set(waiting)
print("ready", flush=True)
while True:
    for sock in select.select(waiting, [], [])[0]:
        if sock.type == socket.SOCK_DGRAM:
            data, sender = sock.recvfrom(65535)
            sock.sendto(data, sender)
        elif sock in listeners:
            waiting.append(sock.accept()[0])
        else:
            data = sock.recv(65535)
            if data:
                sock.sendall(data)
            else:
                waiting.remove(sock)
                sock.close()
"""
CONNECT = """
import socket, sys
address, port, source, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sock = socket.socket(family, socket.SOCK_STREAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.settimeout(seconds)
sock.bind(("", source))
try:
    sock.connect((address, port))
    print("open")
except ConnectionRefusedError:
    print("refused")
except OSError:
    print("silent")
"""


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        yield running


def echoes() -> AbstractContextManager[object]:
    """A peer that sends back what it gets, by TCP and by UDP."""
    return serving(OUTSIDE, ECHOES, str(ECHO))


def connected(address: str) -> socket.socket:
    """A connection from this host to the echoes."""
    return socket.create_connection((address, ECHO), LONG_S)


def is_answered(sock: socket.socket, seconds: float = LONG_S, size: int = 5) -> bool:
    """Whether what is sent comes back in time."""
    sock.settimeout(seconds)
    try:
        sock.send(b"x" * size)
        return len(sock.recv(65535)) == size
    except OSError:
        return False


def datagrams(address: str) -> socket.socket:
    """A socket that sends datagrams to the echoes."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((address, ECHO))
    return sock


def from_outside(address: str, port: int, source: int = 0, seconds: float = LONG_S) -> str:
    """What the peer finds at a port of this host: open, refused or silent."""
    words = python(OUTSIDE, CONNECT, address, str(port), str(source), str(seconds))
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def chains() -> dict[str, int]:
    """The base chains of the table, with how many rules each has."""
    listed = run("nft", "list", "table", "inet", "ipsecd")
    names = [part.split()[0] for part in listed.split("\tchain ")[1:] if "hook" in part]
    return {
        name: run("nft", "list", "chain", "inet", "ipsecd", name).count("\n") - 5 for name in names
    }


@pytest.mark.parametrize(("here", "peer"), ADDRESSES)
def test_nothing_gets_in_unasked_and_everything_gets_out(
    daemon: Daemon, here: str, peer: str
) -> None:
    """Only the port that is permitted is open, from every source port; answers come through."""
    daemon.put(POLICY.format(name="Host", more=""))
    assert from_outside(here, OPEN) == "refused"
    for source in (0, 20, 53, 443):
        assert from_outside(here, CLOSED, source, SHORT_S) == "silent"
    assert delivered(here, 9999) == 0
    with echoes(), connected(peer) as stream, datagrams(peer) as packets:
        assert is_answered(stream)
        assert is_answered(packets)
        # An answer in fragments.
        assert is_answered(packets, size=5000)
    run("ping", "-c", "1", "-W", str(int(LONG_S)), peer)
    waited = str(int(SHORT_S))
    assert "100% packet loss" in run(*OUTSIDE, "ping", "-c", "1", "-W", waited, here, check=False)


@pytest.mark.parametrize(("here", "peer"), ADDRESSES)
def test_an_error_about_a_connection_is_an_answer(daemon: Daemon, here: str, peer: str) -> None:
    """A port of the peer that nobody listens at is told by ICMP, which is related."""
    daemon.put(POLICY.format(name="Host", more=""))
    assert here
    with datagrams(peer) as packets:
        packets.settimeout(LONG_S)
        packets.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            packets.recv(10)


def test_a_rule_for_every_packet_cuts_open_connections(daemon: Daemon) -> None:
    """A ban acts on connections that are open; one of what opens connections does not."""
    daemon.put(POLICY.format(name="Host", more=""))
    with echoes(), connected(PEER4) as stream:
        assert is_answered(stream)
        daemon.ctl("block", f"{PEER4}=0", "--opening", "--name", "ban")
        assert is_answered(stream)
        assert "opening" in daemon.ctl("show", "dynamic")
        daemon.ctl("block", f"{PEER4}=0", "--name", "ban", "--replace")
        assert not is_answered(stream, SHORT_S)
        daemon.ctl("unblock", "ban")
        stream.settimeout(LONG_S)
        assert len(stream.recv(10)) == 5


def test_a_connection_from_before_goes_on(daemon: Daemon) -> None:
    """It is known from its next packet out on."""
    with echoes(), connected(PEER4) as stream, connected(PEER6) as stream6:
        assert is_answered(stream)
        assert is_answered(stream6)
        daemon.put(POLICY.format(name="Host", more=""))
        assert is_answered(stream)
        assert is_answered(stream6)


def test_a_connection_lives_through_all_that_happens_to_the_daemon(daemon: Daemon) -> None:
    """Replaced policies, a crash, a hand-over: what is open goes on, what is closed stays so."""
    daemon.put(POLICY.format(name="A", more=""))
    with echoes(), connected(PEER4) as stream, datagrams(PEER4) as packets:
        for number in range(3):
            daemon.put(POLICY.format(name="AB"[number % 2], more=SLAMMER))
            assert is_answered(stream)
            assert is_answered(packets)
        for end in (signal.SIGKILL, signal.SIGUSR1):
            daemon.end(end)
            assert is_answered(stream)
            assert from_outside(HERE4, CLOSED, seconds=SHORT_S) == "silent"
            daemon.start()
            assert is_answered(stream)
            assert is_answered(packets)
            assert from_outside(HERE4, CLOSED, seconds=SHORT_S) == "silent"


def test_the_ranking_stands_behind_connection_tracking_only_while_it_has_to(
    daemon: Daemon,
) -> None:
    """Policies and dynamic rules that do not ask for connections leave it where it was."""
    daemon.put(PLAIN)
    before = chains()
    assert set(before) == {"arriving", "delivered", "sending", "leaving"}
    assert before["arriving"] > 0
    daemon.put(POLICY.format(name="Host", more=SLAMMER))
    assert chains()["arriving"] == 0
    assert chains()["arriving_tracked"] > 0
    assert "sending_tracked" not in chains()
    daemon.put(PLAIN)
    assert chains() == before
    daemon.ctl("block", "0=*:9:UDP", "--opening", "--name", "x")
    assert chains()["sending_tracked"] > 0
    assert "arriving_tracked" not in chains()
    daemon.ctl("unblock", "x")
    assert chains() == before
    assert "in step" in daemon.ctl("status")


def test_nothing_gets_through_while_the_ranking_moves(daemon: Daemon) -> None:
    """To and fro under a flood, by policies and by dynamic rules: no packet is missed."""
    daemon.put(PLAIN)
    with Flood() as flood:
        for number in range(12):
            daemon.put(POLICY.format(name="Host", more=SLAMMER if number % 2 else ""))
            daemon.put(PLAIN)
            daemon.ctl("block", "*=0:9:UDP", "--opening", "--name", "x", "--replace")
            daemon.ctl("unblock", "x")
        assert flood.received() == 0


def test_rules_for_an_interface_by_its_name(daemon: Daemon) -> None:
    """Also by the beginning of its name, and from its next packet on when the name changes."""
    daemon.ctl("block", "udp/1434", "--interface", "wire0")
    daemon.ctl("block", "udp/1435", "--interface", "wi*")
    daemon.ctl("block", "udp/1436", "--interface", "other0")
    assert [delivered(HERE4, port) for port in (1434, 1435, 1436)] == [0, 0, 5]
    rename("wire0", "other0")
    try:
        # The link is up again, and its neighbours are not yet known.
        assert eventually(
            lambda: [delivered(HERE4, port) for port in (1434, 1435, 1436)] == [5, 5, 0]
        )
    finally:
        rename("other0", "wire0")
    assert delivered(HERE4, 1434) == 0
