"""What a caller says of his connection, and the sockets that there are."""

from __future__ import annotations

import socket

import pytest

from ipsecd.host.conntrack import Way
from ipsecd.host.paths import described
from ipsecd.host.sessions import Sessions, claimed_way
from ipsecd.host.sock_diag import SockDiag
from ipsecd.model.addresses import Family


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("192.0.2.7 50000 192.0.2.1 22", "192.0.2.7:50000 to 192.0.2.1:22"),
        ("2001:db8::7 50000 2001:db8::1 22", "[2001:db8::7]:50000 to [2001:db8::1]:22"),
        ("fe80::7%eth0 5 fe80::1%eth0 22", "[fe80::7]:5 to [fe80::1]:22"),
        ("::ffff:192.0.2.7 5 ::ffff:192.0.2.1 22", "192.0.2.7:5 to 192.0.2.1:22"),
    ],
)
def test_the_words_of_a_connection(text: str, way: str) -> None:
    """As sshd writes them, for every kind of address."""
    claimed = claimed_way(text)
    assert claimed is not None
    assert described(claimed) == way


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.7 50000 192.0.2.1",
        "192.0.2.7 50000 192.0.2.1 22 22",
        "192.0.2.7 -1 192.0.2.1 22",
        "192.0.2.7 ٣ 192.0.2.1 22",
        "192.0.2.7 70000 192.0.2.1 22",
        "192.0.2.7 5 2001:db8::1 22",
        "a 5 b 22",
        "192.0.2.7 0 192.0.2.1 22",
        f"192.0.2.7 {'9' * 10_000} 192.0.2.1 22",
        "\0 5 \ud800 22",
    ],
)
def test_other_words(text: str) -> None:
    """Whatever a caller says, there is no error, and no connection."""
    assert claimed_way(text) is None


def test_sockets_of_both_versions() -> None:
    """A client by IPv4 of a server that listens for both is one by IPv4; others are left out."""
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
        socket.create_connection(("127.0.0.1", server.getsockname()[1])) as client,
        server.accept()[0],
        SockDiag() as sockets,
    ):
        port = server.getsockname()[1]
        (found,) = sockets.connected(local_port=port)
        assert (found.family, found.local, found.local_port) == (Family.IPV4, 0x7F000001, port)
        assert found.remote_port == client.getsockname()[1]
        assert not [*sockets.connected(local_port=port, remote_port=1)]


def test_what_is_claimed_and_not_there() -> None:
    """It is no connection of this host."""
    way = Way(Family.IPV4, socket.IPPROTO_TCP, 0xC0000207, 50000, 0xC0000201, 22)
    with Sessions() as sessions:
        assert sessions.of_caller(way) is None
