"""An engine over memory, for tests of what it puts in force."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.memory import MemoryBackend
from ipsecd.config import Config, Directories, Limits
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import Action

ME = 0x0A090001
HOST = Host(frozenset({(Family.IPV4, ME)}))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """An engine over the memory backend; it gets the same backend whenever it makes one."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.clock = Clock()
        self.backend = MemoryBackend(self.clock)
        self.directories = Directories(path / "etc", path / "lib", path / "run")
        self.config = Config(limits=limits or Limits())
        self.engine = self.again()

    def again(self) -> Engine:
        self.engine = Engine(self.config, self.directories, lambda: self.backend, clock=self.clock)
        self.engine.start()
        return self.engine

    @staticmethod
    def packet(port: int, source: int, destination: int) -> Packet:
        return Packet(Point.ARRIVING, Family.IPV4, source, destination, 17, 4000, port)

    def blocks(self, port: int, source: int = 0xCB007107, destination: int = ME) -> bool:
        packet = self.packet(port, source, destination)
        return self.backend.judge(packet, HOST).action is Action.BLOCK


def meanwhile(monkeypatch: pytest.MonkeyPatch, site: Site, do: Callable[[], object]) -> None:
    """Have something done while the next change is prepared."""
    prepare = site.engine._enforcement.prepare

    def prepare_and_do(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(site.engine._enforcement, "prepare", prepare)
        prepare(*arguments, **options)
        do()

    monkeypatch.setattr(site.engine._enforcement, "prepare", prepare_and_do)


def fail_once(
    monkeypatch: pytest.MonkeyPatch, backend: MemoryBackend, verb: str
) -> Callable[[], bool]:
    """Have the next call of a method of `backend` fail; what is returned says whether it has."""
    original, has_failed = getattr(backend, verb), False

    def fail(*arguments: object, **options: object) -> None:
        nonlocal has_failed
        if not has_failed:
            has_failed = True
            raise BackendFailed("no room")
        original(*arguments, **options)

    monkeypatch.setattr(backend, verb, fail)
    return lambda: has_failed
