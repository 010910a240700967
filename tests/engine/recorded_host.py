"""A host in memory with a flight recorder, whose clocks and addresses the test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import explain as explain_module
from ipsecd.engine import Engine
from ipsecd.engine.recorder.journal import Time
from ipsecd.engine.recorder.minutes import Counts
from ipsecd.engine.recorder.snapshots import Surroundings
from ipsecd.host.interfaces import HostState, Interface
from ipsecd.language.moments import format_moment
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import InterfaceType
from ipsecd.model.packets import Host as HostAddresses
from ipsecd.sources.files import Disk
from tests.engine.changing_host import Host

SECOND = 1_000_000_000
NOON = 1_795_867_200 * SECOND
"""2026-11-28T12:00:00Z, in nanoseconds since the epoch."""


class Clocks:
    """The wall clock, and that of the boot; each look takes a microsecond."""

    begin = NOON

    def __init__(self) -> None:
        self.at, self.boottime = self.begin, 3600 * SECOND

    def __call__(self) -> Time:
        self.tick(1000)
        return Time(self.at, self.boottime)

    def tick(self, nanoseconds: int) -> None:
        self.at += nanoseconds
        self.boottime += nanoseconds

    def set(self, at: int) -> None:
        self.at = at


def around(*own: int, links: tuple[str, ...] = ("eth0",)) -> Surroundings:
    """A host with these IPv4 addresses and links."""
    types: dict[str, InterfaceType | None] = dict.fromkeys(links, InterfaceType.LAN)
    addresses = HostAddresses(frozenset((Family.IPV4, each) for each in own))
    return Surroundings(addresses, {"lo": None, **types})


ME, OTHER_ME = 0x0A090001, 0x0A090002


class RecordedHost(Host):
    """A host whose recorder writes when the test says so."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch, disk: Disk | None = None) -> None:
        self.clocks = Clocks()
        self.around = around(ME)
        self.patch = patch
        patch.setattr(explain_module, "read_host", self._read_host)
        super().__init__(path, disk)
        self.recording()

    def _read_host(self) -> HostState:
        interfaces = tuple(
            Interface(name, number, kind, True, ())
            for number, (name, kind) in enumerate(self.around.types.items())
        )
        return HostState(interfaces, self.around.host)

    def made(self) -> Engine:
        engine = super().made()
        engine.recorder._clocks = self.clocks
        return engine

    def recording(self) -> None:
        """Have the recorder record what is in force, and write it."""
        recorder = self.engine.recorder
        backend = self.engine.backend
        recorder.start(self.engine.state, self.around, lambda: backend.name, self.counted)
        self.write()
        recorder.written = self.write

    def counted(self) -> Counts | None:
        """What rules have counted."""
        return {}

    def write(self) -> None:
        while self.engine.recorder.work():
            pass

    def move(self, surroundings: Surroundings) -> None:
        self.around = surroundings
        self.engine.recorder.moved(surroundings)

    def killed(self) -> Engine:
        self.clocks.tick(SECOND)
        engine = super().killed()
        self.recording()
        return engine

    @property
    def now(self) -> int:
        """A moment after all that has happened, and before all that will."""
        self.clocks.tick(10_000)
        at = self.clocks.at
        self.clocks.tick(10_000)
        return at

    def explain(self, packet: str) -> dict[str, Any]:
        explanation: dict[str, Any] = self.call("Explain", packet=packet)["explanation"]
        return explanation

    def explain_at(self, at: int, packet: str) -> dict[str, Any]:
        return self.call("ExplainAt", at=format_moment(at), packet=packet)
