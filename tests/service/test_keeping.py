"""The socket that owns the table outlives the daemon with the service manager."""

from __future__ import annotations

import array
import os
import socket
from pathlib import Path

import pytest

from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from ipsecd.service import owner_socket
from ipsecd.service.notify import Notifier
from ipsecd.service.owner_socket import NAME, keep_owner, take_owner
from tests.netns.site import needs_isolation, run

POLICY = compile_filters(
    [InForce(Origin("static", "P", "R"), parse_filter("*=0:1434:UDP"), Action.BLOCK)]
)


def passed(monkeypatch: pytest.MonkeyPatch, descriptor: int, *names: str) -> dict[str, str]:
    """The environment of a process that got descriptors of these names, the last `descriptor`."""
    monkeypatch.setattr(owner_socket, "FIRST_PASSED_FD", descriptor - len(names) + 1)
    return {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(names)),
        "LISTEN_FDNAMES": ":".join(names),
    }


def test_the_service_manager_is_given_the_socket(tmp_path: Path) -> None:
    """It gets the descriptor, its name, and the word not to watch it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        keep_owner(notifier, manager, manager.fileno())
        keep_owner(notifier, None, manager.fileno())
        assert manager.recv(1000).decode().split("\n") == ["FDSTOREREMOVE=1", f"FDNAME={NAME}"]
        message, descriptors, _, _ = socket.recv_fds(manager, 1000, 2)
        assert message.decode().split("\n") == ["FDSTORE=1", f"FDNAME={NAME}", "FDPOLL=0"]
        assert len(descriptors) == 1
        assert os.path.sameopenfile(descriptors[0], manager.fileno())
        os.close(descriptors[0])


def test_a_socket_that_was_kept_is_taken_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener is told of what remains."""
    kept = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    environment = passed(monkeypatch, kept.detach(), "ipsecd.socket", NAME)
    owner = take_owner(environment)
    assert owner is not None
    owner.close()
    assert environment["LISTEN_FDS"] == "1"
    assert environment["LISTEN_FDNAMES"] == "ipsecd.socket"


@pytest.mark.parametrize("names", [("ipsecd.socket",), (NAME, "other"), ()])
def test_without_a_kept_socket_nothing_is_taken(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """Other descriptors are nobody's owner."""
    environment = passed(monkeypatch, 3, *names)
    before = dict(environment)
    assert take_owner(environment) is None
    assert environment == before


def test_what_is_no_netlink_socket_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither another socket nor a number that nothing is behind stops the daemon."""
    plain = socket.socket(socket.AF_UNIX)
    assert take_owner(passed(monkeypatch, plain.detach(), NAME)) is None
    assert take_owner(passed(monkeypatch, 100_000, NAME)) is None


@pytest.mark.netns
def test_nobody_flushes_the_table_of_a_kept_socket() -> None:
    """While it is held the table has an owner; the next daemon goes on with it."""
    needs_isolation()
    first = NftablesBackend()
    if first.owner_fd() < 0:
        first.close()
        pytest.skip("this kernel has no tables with owners")
    first.apply(POLICY, Volatile())
    held = os.dup(first.owner_fd())
    # An answer that nobody read, as a daemon leaves it that dies in the middle.
    first._socket._socket.send(array.array("I", [20, 0x0301000A, 7, 0, 0]).tobytes())
    first.close()
    run("nft", "flush", "ruleset")
    assert "ipsecd" in run("nft", "list", "tables")
    second = NftablesBackend(owner=socket.socket(fileno=held))
    try:
        assert second.observe().digest == POLICY.digest
        second.apply(POLICY, Volatile())
        assert second.observe().drift == ()
        run("nft", "flush", "ruleset")
        assert "ipsecd" in run("nft", "list", "tables")
    finally:
        second.remove()
        second.close()
    assert "ipsecd" not in run("nft", "list", "tables")
