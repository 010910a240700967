"""Runs a change again and again, with a crash or an error at each of its effects in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ipsecd.backend.memory import MemoryBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, StoreFailed
from ipsecd.sources.files import Disk

State = TypeVar("State")


class Crash(BaseException):
    """The end of the process; nothing catches it."""


class Fate:
    """Lets the n-th effect fail: before it, or (crash only) after it."""

    def __init__(self) -> None:
        self.at = 0
        self.after = False
        self.error: BaseException | None = None
        self.count = 0

    def set(self, at: int, error: BaseException, *, after: bool = False) -> None:
        self.at, self.error, self.after, self.count = at, error, after, 0

    def meets(self, effect: Callable[[], Any]) -> Any:
        self.count += 1
        if self.count == self.at and self.error is not None and not self.after:
            raise self.error
        result = effect()
        if self.count == self.at and self.error is not None:
            raise self.error
        return result


class FatefulDisk(Disk):
    def __init__(self, fate: Fate) -> None:
        self.fate = fate

    def write(self, path: Path, content: bytes, like: Path | None = None) -> None:
        self.fate.meets(lambda: super(FatefulDisk, self).write(path, content, like))

    def write_for_this_boot(self, path: Path, content: bytes) -> None:
        self.fate.meets(lambda: super(FatefulDisk, self).write_for_this_boot(path, content))

    def append_durably(self, path: Path, content: bytes) -> None:
        self.fate.meets(lambda: super(FatefulDisk, self).append_durably(path, content))

    def link(self, path: Path, target: str) -> None:
        self.fate.meets(lambda: super(FatefulDisk, self).link(path, target))

    def keep(self, path: Path, name: Path) -> None:
        self.fate.meets(lambda: super(FatefulDisk, self).keep(path, name))

    def rename(self, old: Path, new: Path) -> None:
        self.fate.meets(lambda: super(FatefulDisk, self).rename(old, new))

    def unlink(self, path: Path) -> None:
        self.fate.meets(lambda: super(FatefulDisk, self).unlink(path))

    def sync_directory(self, path: Path) -> None:
        self.fate.meets(lambda: super(FatefulDisk, self).sync_directory(path))


class FatefulBackend(MemoryBackend):
    """As in a kernel, each call is one effect: it happens as a whole or not at all."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self.fate = fate

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        # Memory has the entries by a change to itself, which is no effect of its own.
        memory = MemoryBackend()
        self._meet(lambda: memory.apply(classifier, volatile))
        self._classifier, self._live = memory._classifier, memory._live

    def change(self, delta: Delta, volatile: Volatile) -> None:
        self._meet(lambda: super(FatefulBackend, self).change(delta, volatile))

    def _meet(self, effect: Callable[[], None]) -> None:
        try:
            self.fate.meets(effect)
        except OSError as error:
            raise BackendFailed(str(error), "the old rules are in force") from error


@dataclass(frozen=True)
class Trial(Generic[State]):
    """A change, how it is prepared in a directory, and what is looked at before and after it."""

    prepare: Callable[[Path], tuple[Engine, Fate]]
    change: Callable[[Engine], object]
    state_of: Callable[[Engine], State]
    restarted: Callable[[Path], State]
    before: State
    done: State

    def crash_at_every_effect(self, tmp_path: Path, *, after: bool) -> tuple[int, set[bool]]:
        """How many rounds it took, and whether the change was found done in any, and not in any."""
        found_done = set()
        number = 0
        while True:
            number += 1
            path = tmp_path / str(number)
            engine, fate = self.prepare(path)
            fate.set(number, Crash(), after=after)
            try:
                self.change(engine)
            except Crash:
                state = self.restarted(path)
                assert state in (self.before, self.done), number
                found_done.add(state == self.done)
                continue
            assert self.restarted(path) == self.done
            return number, found_done

    def fail_at_every_effect(self, tmp_path: Path, code: int) -> None:
        """Each error is told, and leaves what was before, in memory, on disk and in force."""
        number = 0
        while True:
            number += 1
            path = tmp_path / str(number)
            engine, fate = self.prepare(path)
            fate.set(number, OSError(code, "no", str(path)))
            try:
                self.change(engine)
            except (StoreFailed, BackendFailed) as error:
                assert error.hint  # noqa: PT017 - the last round raises nothing
                assert self.state_of(engine) == self.before
                assert self.restarted(path) == self.before
                continue
            assert self.state_of(engine) == self.done
            assert self.restarted(path) == self.done
            if fate.count < number:
                return
