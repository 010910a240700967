"""What is open on a host, as the kernel tells it, and what becomes of a kernel that does not."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest

from ipsecd.host import open_connections
from ipsecd.host.conntrack import Conntrack
from ipsecd.host.open_connections import OpenConnections


def failing(code: int) -> Callable[..., list[bytes]]:
    def fail(*_: object) -> list[bytes]:
        raise OSError(code, "no")

    return fail


def test_what_a_host_says_to_itself_is_no_connection() -> None:
    """Nothing filters it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0],
    ):
        port = client.getsockname()[1]
        ports = [(each.way.source_port, each.way.destination_port) for each in OpenConnections()]
        assert not [pair for pair in ports if port in pair]


def test_a_kernel_without_connection_tracking_has_no_entries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no error, as nothing is tracked; whatever else goes wrong is."""
    monkeypatch.setattr(Conntrack, "_dump", failing(errno.EINVAL))
    assert [*open_connections._entries()] == []
    monkeypatch.setattr(Conntrack, "_dump", failing(errno.EAGAIN))
    with pytest.raises(OSError, match="no"):
        [*open_connections._entries()]


def test_a_kernel_without_netfilter(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no socket to ask by."""

    def absent() -> Conntrack:
        raise OSError(errno.EPROTONOSUPPORT, "no netfilter")

    monkeypatch.setattr(open_connections, "Conntrack", absent)
    assert [*open_connections._entries()] == []
