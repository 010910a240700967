"""A daemon in this process over memory, and its client, for tests of what commands come to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipsecctl.client import Client
from ipsecd.control import Control, explain
from ipsecd.engine.caller import DAEMON
from ipsecd.host.interfaces import HostState
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Host
from ipsecd.service.descriptors import read_document
from tests.engine.site import Site

ME = 0x0A090002
HOST = HostState((), Host(frozenset({(Family.IPV4, ME)})))
"""A host that has 10.9.0.2."""


def on_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have packets judged as on that host, whatever this one is."""
    monkeypatch.setattr(explain, "read_host", lambda: HOST)


class DirectDaemon(Client):
    """Calls the methods of a daemon in this process, and counts them."""

    def __init__(self, directory: Path) -> None:
        super().__init__("")
        self.site = Site(directory)
        self.calls: list[str] = []
        self._control = Control(self.site.engine)

    def call(
        self,
        method: str,
        parameters: dict[str, Any] | None = None,
        descriptor: int | None = None,
        hear: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        del hear
        self.calls.append(method)
        given = parameters or {}
        if descriptor is not None:
            given = {**given, **json.loads(read_document(descriptor))}
        if method == "AddDynamicRules":
            given = self._control.with_filters_read(given, None)
        return self._control.call(method, given, "uid 0", {}, None, caller=DAEMON)

    def decides(self, packet: str) -> str:
        """What is decided about a packet of a host that has 10.9.0.2."""
        return str(self.call("Explain", {"packet": packet})["explanation"]["decision"])

    def state(self) -> Any:
        """All that a script can change."""
        return self.call("GetWorkspace")
