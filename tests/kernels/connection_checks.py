"""What happens when the kernel's table of connections is full, under a flood that fills it.

Runs in guests only, so its name is no test's: the size of the table is that of a whole machine.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ipsecd.host.connections import read_connection_table
from tests.moments.flood import Counter, in_namespace
from tests.netns import site
from tests.netns.site import HERE4, HOST, PEER, PEER4, Daemon, eventually, run
from tests.netns.sockets import listener
from tests.netns.test_opening import connected, echoes, is_answered

POLICY = """policy: Host
rules:
  - rule: Nothing gets in unasked
    action: block
    when: opening
    filters: ["*=0"]
  - rule: Services
    action: permit
    filters: ["*=0:22:TCP", "*=0:5000:UDP"]
"""
PERMITTED, CLOSED, SSH = 5000, 5001, 22
LIMIT = 60
ENTRY_S = 20
"""How long an entry of the flood lasts: longer than the flood takes to fill the table."""
FLOODERS = IPv4Address("10.64.0.0")
AT_ONCE, PAUSE_S = 20, 0.02
SETTINGS = "net.netfilter.nf_conntrack_"
SILENT_S = 3.0
IP_PKTINFO = 8


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        running.put(POLICY)
        yield running


@contextmanager
def settings(**values: int) -> Iterator[None]:
    """Values for the table of connections, and afterwards those of before."""
    before = {name: run("sysctl", "-n", SETTINGS + name).strip() for name in values}
    run("sysctl", "-q", *(f"{SETTINGS}{name}={value}" for name, value in values.items()))
    try:
        yield
    finally:
        run("sysctl", "-q", *(f"{SETTINGS}{name}={value}" for name, value in before.items()))


@contextmanager
def flood() -> Iterator[Callable[[], int]]:
    """Datagrams from the peer, each from another source, to a permitted and to a closed port.

    The function tells how many have been sent to each.
    """
    run("ip", "-n", PEER, "route", "add", "local", f"{FLOODERS}/16", "dev", "lo")
    over = threading.Event()
    with in_namespace(PEER):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("", 4000))

    sent = 0

    def send() -> None:
        nonlocal sent
        while not over.wait(PAUSE_S):
            for number in range(sent, sent + AT_ONCE):
                # struct in_pktinfo (ip(7)): the source is the second of the three.
                source = struct.pack("=i4s4x", 0, (FLOODERS + number % 65000 + 1).packed)
                given = [(socket.IPPROTO_IP, IP_PKTINFO, source)]
                for port in (PERMITTED, CLOSED):
                    sock.sendmsg([b"datagram"], given, 0, (HERE4, port))
            sent += AT_ONCE

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield lambda: sent
    finally:
        over.set()
        thread.join()
        sock.close()


def dropped() -> int:
    """How many packets have found no room in the table so far."""
    table = read_connection_table()
    assert table
    return table.dropped


def is_full() -> bool:
    table = read_connection_table()
    return table is not None and table.is_full


def is_open(seconds: float) -> bool:
    """Whether a new connection from the peer to the SSH port is answered in time."""
    with in_namespace(PEER):
        sock = socket.socket()
    with sock:
        sock.settimeout(seconds)
        try:
            sock.connect((HERE4, SSH))
        except OSError:
            return False
        return True


def gets_out(seconds: float) -> bool:
    """Whether this host can open a new connection."""
    try:
        socket.create_connection((PEER4, 7001), seconds).close()
    except OSError:
        return False
    return True


def test_a_full_table_lets_nothing_through_unjudged(daemon: Daemon) -> None:
    """What cannot be known is dropped and told; open connections go on, and later all is well."""
    ssh = listener(site.namespace_file(HOST) or "", "", SSH, tcp=True)
    with (
        closing(Counter(PERMITTED)) as permitted,
        closing(Counter(CLOSED)) as closed,
        ssh,
        echoes(),
        connected(PEER4) as out,
    ):
        with settings(udp_timeout=ENTRY_S, max=LIMIT):
            assert is_answered(out)
            assert is_open(site.LONGEST_S)
            assert "connections is full" not in daemon.ctl("status")
            earlier = dropped()
            with flood() as sent:
                assert eventually(lambda: is_full() and dropped() > earlier)
                before = sent()
                # An entry of the flood that has ended may make room for one of them.
                assert eventually(lambda: not is_open(SILENT_S))
                assert eventually(lambda: not gets_out(SILENT_S))
                assert is_answered(out)
                told = daemon.ctl("status")
                assert f"table of connections is full, with {LIMIT} of them" in told, told
                assert eventually(lambda: sent() > before + LIMIT)
                # What was permitted and had an entry came through, and nothing else did.
                assert 0 < permitted.value() < sent()
            assert closed.value() == 0
            assert is_answered(out)
            assert eventually(lambda: is_open(SILENT_S), 2 * ENTRY_S)
            assert eventually(lambda: gets_out(SILENT_S), 2 * ENTRY_S)
        told = daemon.ctl("status")
        assert "table of connections has been full" in told, told
