"""A host that nothing gets into unasked, among real services: its own, others', a container's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.neighbours import (
    BOX,
    DNS,
    FAR4,
    FAR6,
    GROUPS,
    MDNS,
    NTP,
    PAGE_BYTES,
    PUBLISHED,
    SSDP,
    TFTP,
    WEB,
    ask,
    box,
    far_host,
    fetched,
    logged_in,
    servers,
    sshd,
    untracked,
    web,
)
from tests.netns.scans import LIBRARIES, POLICY, program
from tests.netns.site import HERE4, HERE6, HOST, OUTSIDE, PEER4, PEER6, Daemon, inside, run

pytestmark = pytest.mark.netns

SHORT_S = 1.5 * site.PATIENCE
"""How long to wait for an answer that must not come."""
LONG_S = 20.0 * site.PATIENCE


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        running.put(POLICY.format(name="Host", more=""))
        yield running


def pings(address: str, seconds: float = LONG_S, where: site.Namespace = HOST) -> bool:
    waited = str(max(1, int(seconds)))
    return " 0% packet loss" in run(*where, "ping", "-c", "1", "-W", waited, address, check=False)


@pytest.mark.usefixtures("daemon")
def test_what_this_host_asks_for_comes(tmp_path: Path) -> None:
    """The web, DNS by UDP and TCP, NTP from its own port, and pings; the peer gets none of it."""
    with servers(), web(OUTSIDE, tmp_path / "web", WEB), web(HOST, tmp_path / "web", WEB):
        for here, peer in ((HERE4, PEER4), (HERE6, PEER6)):
            assert fetched(peer, WEB, LONG_S) == PAGE_BYTES
            assert ask(peer, DNS, LONG_S)
            assert ask(peer, DNS, LONG_S, kind="tcp")
            assert ask(peer, NTP, LONG_S, source=NTP)
            assert pings(peer)
            assert fetched(here, WEB, SHORT_S, OUTSIDE) == 0
            assert not pings(here, SHORT_S, OUTSIDE)


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("far", [FAR4, FAR6])
def test_the_way_to_others_is_told(far: str) -> None:
    """By errors of ICMP that are related to datagrams, pings and SYNs of this host."""
    trace = ("env", f"LD_LIBRARY_PATH={LIBRARIES}", program("traceroute.db"))
    how = ("-n", "-q", "1", "-m", "3", "-w", str(LONG_S))
    with far_host():
        # The peer may not know its neighbour yet, and says so.
        assert site.eventually(lambda: pings(far, 1), LONG_S)
        for probes in ((), ("-I",), ("-T", "-p", "443")):
            shown = run(*trace, *how, *probes, far).splitlines()[1:]
            assert [line.split()[1] for line in shown] == [PEER4 if far == FAR4 else PEER6, far]


@pytest.mark.usefixtures("daemon")
def test_ssh_in_and_out(tmp_path: Path) -> None:
    """Sessions of a real client with a real server, each way."""
    path = program("sshd")
    with sshd(HOST, path, tmp_path / "ssh", HERE4):
        for address in (HERE4, HERE6):
            assert logged_in(OUTSIDE, tmp_path / "ssh", address) == "in"
    with sshd(OUTSIDE, path, tmp_path / "ssh", PEER4):
        for address in (PEER4, PEER6):
            assert logged_in(HOST, tmp_path / "ssh", address) == "in"


def test_what_connection_tracking_does_not_relate_needs_a_permit(daemon: Daemon) -> None:
    """Answers from another port or another address than was asked open a connection."""
    mdns, ssdp, mdns6 = GROUPS
    questions = {
        (PEER4, TFTP): f"{PEER4}=0:32768-60999:UDP",
        (PEER6, TFTP): f"[{PEER6}]=0:32768-60999:UDP",
        (mdns, MDNS): f"192.168.1.0/24:{MDNS}=0:32768-60999:UDP",
        (ssdp, SSDP): f"192.168.1.0/24:{SSDP}=0:32768-60999:UDP",
        (mdns6, MDNS): f"[fe80::/10]:{MDNS}=0:32768-60999:UDP",
    }
    with servers():
        assert not [where for where in questions if ask(*where, SHORT_S)]
        daemon.ctl("permit", *questions.values())
        assert [where for where in questions if not ask(*where, LONG_S)] == []


def test_what_others_exclude_from_connection_tracking_opens(daemon: Daemon) -> None:
    """The host does not know the connections of such packets, until they are permitted."""
    with servers(), untracked(f"udp sport {DNS}"):
        for peer in (PEER4, PEER6):
            assert not ask(peer, DNS, SHORT_S)
            assert ask(peer, DNS, LONG_S, kind="tcp")
        daemon.ctl("permit", f"*:{DNS}=0:32768-60999:UDP")
        for peer in (PEER4, PEER6):
            assert ask(peer, DNS, LONG_S)


def test_a_container_gets_out_and_its_port_is_one_of_this_host(
    daemon: Daemon, tmp_path: Path
) -> None:
    """Its own traffic goes and is answered; what it publishes is closed until it is permitted."""
    inner = inside(BOX)
    with (
        servers(),
        box(),
        web(OUTSIDE, tmp_path / "web", WEB),
        web(inner, tmp_path / "web", WEB),
    ):
        for here, peer in ((HERE4, PEER4), (HERE6, PEER6)):
            assert fetched(peer, WEB, LONG_S, inner) == PAGE_BYTES
            assert ask(peer, DNS, LONG_S, where=inner)
            assert pings(peer, where=inner)
            assert fetched(here, PUBLISHED, SHORT_S, OUTSIDE) == 0
        daemon.ctl("permit", f"tcp/{PUBLISHED}")
        for here in (HERE4, HERE6):
            assert fetched(here, PUBLISHED, LONG_S, OUTSIDE) == PAGE_BYTES
