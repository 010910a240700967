"""Services that call back, as those of NFS do: the policies of docs/nfs.md, tried."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, HERE6, HOST, OUTSIDE, PEER4, PEER6, Daemon, delivered
from tests.netns.sockets import entered, listener

pytestmark = pytest.mark.netns

TEXT = (Path(__file__).parents[2] / "docs/nfs.md").read_text()
CLIENT, SERVER = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
NFS, CALL_BACK, RPCBIND, LOCKS, STATUS, MOUNT = 2049, 4048, 111, 32768, 32765, 20048
ADDRESSES = ((HERE4, PEER4), (HERE6, PEER6))
SHORT_S, LONG_S = 1.5, 20.0 * site.PATIENCE
PLACES = tuple(site.namespace_file(where) or "" for where in (HOST, OUTSIDE))


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        yield running


def without(policy: str, *rules: str) -> str:
    """A policy without these rules, and without what is expected of it."""
    policy = policy.partition("expect:")[0]
    for rule in rules:
        policy, count = re.subn(rf"  - rule: {rule}\n(    .*\n)*", "", policy)
        assert count == 1
    return policy


def of_peer(policy: str, peer: str) -> str:
    """A policy for this peer in the place of the one in the text."""
    return policy.replace("192.0.2.10", f"[{peer}]" if ":" in peer else peer)


def opened(place: str, address: str, port: int, seconds: float) -> socket.socket | None:
    """A new connection, None if it is not answered in time."""
    with entered(place):
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.settimeout(seconds)
    try:
        sock.connect((address, port))
    except OSError:
        sock.close()
        return None
    return sock


def is_called_back(here: str, peer: str, seconds: float) -> bool:
    """Whether a service of the peer that is asked, and answers, can call back."""
    here_place, peer_place = PLACES
    with (
        closing(listener(peer_place, peer, NFS, tcp=True)) as service,
        closing(listener(here_place, here, CALL_BACK, tcp=True)) as waiting,
    ):
        asking = opened(here_place, peer, NFS, LONG_S)
        assert asking
        service.setblocking(True)
        answering, _ = service.accept()
        with asking, answering:
            asking.send(CALL_BACK.to_bytes(2, "big"))
            port = int.from_bytes(answering.recv(2), "big")
            back = opened(peer_place, here, port, seconds)
            if back:
                waiting.setblocking(True)
                waiting.accept()[0].close()
                back.close()
            # As NFSv4.1 does it: over the connection that the client has opened.
            answering.send(b"call")
            assert asking.recv(4) == b"call"
            return back is not None


@pytest.mark.parametrize(("here", "peer"), ADDRESSES)
def test_a_service_calls_back_only_where_that_is_permitted(
    daemon: Daemon, here: str, peer: str
) -> None:
    """Over the connection that was opened from here it always does."""
    daemon.put(without(of_peer(CLIENT, peer), "Call-backs of NFSv4.0"))
    assert not is_called_back(here, peer, SHORT_S)
    assert delivered(here, RPCBIND) == 5
    daemon.put(of_peer(CLIENT, peer))
    assert is_called_back(here, peer, LONG_S)
    daemon.put(CLIENT)
    assert not is_called_back(here, peer, SHORT_S)
    assert [delivered(here, port) for port in (RPCBIND, LOCKS, STATUS)] == [0, 0, 0]
    daemon.put(of_peer(CLIENT, peer))
    assert [delivered(here, port) for port in (RPCBIND, LOCKS, STATUS)] == [5, 5, 5]
    assert delivered(here, NFS) == 0


def test_a_server_is_reached_by_its_clients(daemon: Daemon) -> None:
    """By NFSv4 alone at one port, by NFSv3 at several; others reach nothing."""
    server = SERVER.replace("192.0.2.0/24", "192.168.1.0/24")
    daemon.put(without(server, "NFSv3"))
    here_place, peer_place = PLACES
    with closing(listener(here_place, HERE4, NFS, tcp=True)):
        connection = opened(peer_place, HERE4, NFS, LONG_S)
        assert connection
        connection.close()
        assert [delivered(HERE4, port) for port in (RPCBIND, MOUNT)] == [0, 0]
        daemon.put(server)
        assert [delivered(HERE4, port) for port in (RPCBIND, MOUNT)] == [5, 5]
        daemon.put(SERVER)
        assert opened(peer_place, HERE4, NFS, SHORT_S) is None
        assert [delivered(HERE4, port) for port in (RPCBIND, MOUNT)] == [0, 0]
