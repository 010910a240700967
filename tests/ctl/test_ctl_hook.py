"""What the hook of container engines finds out before a container starts."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ipsecctl import hook
from ipsecctl.client import Client

ONE, OTHER, CONTAINER = 101, 102, 103


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands in for /proc."""
    monkeypatch.setattr(hook, "PROCESSES", tmp_path)
    return tmp_path


def make(processes: Path, process: int, namespace: str) -> None:
    """A process in a network namespace."""
    file = processes / "namespaces" / namespace
    file.parent.mkdir(exist_ok=True)
    file.touch()
    (processes / f"{process}/ns").mkdir(parents=True)
    (processes / f"{process}/ns/net").symlink_to(file)


def test_others_in_a_network_namespace_are_seen(processes: Path) -> None:
    """Processes that end meanwhile, and are nobody's, are passed over."""
    make(processes, ONE, "host")
    make(processes, CONTAINER, "own")
    (processes / "104").mkdir()
    assert hook.sharing(processes / f"{CONTAINER}") == set()
    make(processes, OTHER, "own")
    assert hook.sharing(processes / f"{CONTAINER}") == {OTHER}


def announced(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the hook announces of the container."""
    announcements: list[dict[str, Any]] = []

    def call(_: Client, method: str, parameters: dict[str, Any]) -> None:
        announcements.append({"method": method, **parameters})

    monkeypatch.setattr(Client, "call", call)
    monkeypatch.setattr(hook, "ipv4", lambda _: ["10.88.0.2"])
    monkeypatch.setattr(hook, "ipv6", lambda _: [])
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"id": "abc", "pid": CONTAINER})))
    assert hook.main() == 0
    return announcements


@pytest.mark.parametrize("shared", [False, True])
def test_a_container_is_announced(
    processes: Path, monkeypatch: pytest.MonkeyPatch, *, shared: bool
) -> None:
    """The announcement has its addresses, and says whether others share them."""
    make(processes, os.getpid(), "host")
    make(processes, CONTAINER, "own")
    if shared:
        make(processes, OTHER, "own")
    (announcement,) = announced(monkeypatch)
    assert announcement == {
        "method": "AnnounceContainer",
        "id": "abc",
        "addresses": ["10.88.0.2"],
        "shared": shared,
    }


def test_the_addresses_of_this_host_are_nobodys(
    processes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container in the network of the host is not announced: to block it would block the host."""
    make(processes, os.getpid(), "host")
    make(processes, CONTAINER, "host")
    assert announced(monkeypatch) == []
