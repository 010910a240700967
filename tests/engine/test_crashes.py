"""A crash or an error at every effect of the stores and the backend: old state or new, no third."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.base import Backend
from ipsecd.backend.memory import MemoryBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.config import Config, Directories
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, IpsecdError, StoreFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.sources import static
from ipsecd.sources import steps as steps_module
from ipsecd.sources.files import Disk


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

    def write(self, path: Path, content: bytes) -> None:
        self.fate.meets(lambda: super(FatefulDisk, self).write(path, content))

    def write_for_this_boot(self, path: Path, content: bytes) -> None:
        self.fate.meets(lambda: super(FatefulDisk, self).write_for_this_boot(path, content))

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


def policy(name: str, *texts: str) -> Policy:
    filters = tuple(parse_filter(text) for text in texts)
    return Policy(name, (Rule("R", filters, Action.BLOCK),))


A, A2, B = policy("A", "*=0:1:UDP"), policy("A", "*=0:2:UDP"), policy("B", "0=*:3:TCP")
CHANGES: dict[str, Callable[[Engine], object]] = {
    "create and assign": lambda engine: engine.change(put=[B], assign="B"),
    "replace the assigned": lambda engine: engine.change(put=[A2]),
    "delete and unassign": lambda engine: engine.change(delete=["A"], assign=None),
    "replace, create, assign": lambda engine: engine.change(put=[A2, B], assign="B"),
    "unassign": lambda engine: engine.change(assign=None),
}
State = tuple[tuple[tuple[str, Policy], ...], str | None, str]


def engine_in(path: Path, fate: Fate) -> Engine:
    def backend() -> Backend:
        return FatefulBackend(fate)

    directories = Directories(path / "etc", path / "lib", path / "run")
    return Engine(Config(), directories, backend, FatefulDisk(fate))


def state_of(engine: Engine) -> State:
    """What is stored, what is assigned, and what is in force."""
    stored = tuple((n, s.policy) for n, s in sorted(engine.loaded.policies.items()))
    return stored, engine.loaded.assigned, engine.backend.observe().digest or ""


def fresh(path: Path) -> State:
    """The state that a new daemon finds."""
    engine = engine_in(path, Fate())
    engine.start()
    engine.close()
    assert not list(path.rglob("*.tmp"))
    assert not (path / "etc/.journal").exists()
    return state_of(engine_in_again(path))


def engine_in_again(path: Path) -> Engine:
    engine = engine_in(path, Fate())
    engine.start()
    return engine


def prepared(path: Path) -> tuple[Engine, Fate]:
    fate = Fate()
    engine = engine_in(path, fate)
    engine.start()
    engine.change(put=[A], assign="A")
    return engine, fate


def before_and_after(tmp_path: Path, change: Callable[[Engine], object]) -> tuple[State, State]:
    engine, _ = prepared(tmp_path / "model")
    before = state_of(engine)
    change(engine)
    return before, state_of(engine)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_leaves_the_old_state_or_the_new(tmp_path: Path, name: str, after: bool) -> None:
    """Whichever effect the process dies before or after, the next one finds old or new."""
    before, done = before_and_after(tmp_path, CHANGES[name])
    assert before != done
    changed = set()
    number = 0
    while True:
        number += 1
        path = tmp_path / str(number)
        engine, fate = prepared(path)
        fate.set(number, Crash(), after=after)
        try:
            CHANGES[name](engine)
        except Crash:
            restarted = fresh(path)
            assert restarted in (before, done), number
            changed.add(restarted == done)
            continue
        assert fresh(path) == done
        break
    assert number > 5
    assert changed == {False, True}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_once_leaves_the_old_state(tmp_path: Path, name: str, code: int) -> None:
    """An error from the disk is told, and all is as it was: in memory, on disk and in force."""
    before, done = before_and_after(tmp_path, CHANGES[name])
    number = 0
    while True:
        number += 1
        path = tmp_path / str(number)
        engine, fate = prepared(path)
        fate.set(number, OSError(code, "no", str(path)))
        try:
            CHANGES[name](engine)
        except (StoreFailed, BackendFailed) as error:
            assert error.hint  # noqa: PT017 - the last round raises nothing
            assert state_of(engine) == before
            assert fresh(path) == before
            continue
        assert state_of(engine) == done
        assert fresh(path) == done
        if fate.count < number:
            break


@pytest.mark.parametrize("name", CHANGES)
def test_a_kernel_that_refuses_leaves_the_old_state(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel does not take is not on disk either."""
    before, _ = before_and_after(tmp_path, CHANGES[name])
    engine, _ = prepared(tmp_path / "one")

    def refuse(*_: object) -> None:
        raise BackendFailed("no", "try again")

    with monkeypatch.context() as patch:
        patch.setattr(engine.backend, "apply", refuse)
        with pytest.raises(BackendFailed):
            CHANGES[name](engine)
    assert state_of(engine) == before
    assert fresh(tmp_path / "one") == before


def test_without_the_journal_the_crash_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps carried out without a journal leave third states, and the test above finds them."""

    def unsafe(disk: Disk, directory: Path, steps: list[steps_module.Step]) -> None:
        for step in steps:
            steps_module._prepare(disk, directory / step.path, step)
            steps_module._put(disk, directory, [step])

    monkeypatch.setattr(static, "carry_out", unsafe)
    with pytest.raises((AssertionError, IpsecdError)):
        test_a_crash_leaves_the_old_state_or_the_new(tmp_path, "create and assign", after=True)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("is_link", [False, True])
def test_a_crash_while_a_broken_file_is_replaced_loses_nothing(
    tmp_path: Path, is_link: bool, after: bool
) -> None:
    """The file holds the broken bytes or the new policy, and the broken bytes are always there."""
    outcomes = set()
    number = 0
    while True:
        number += 1
        path = tmp_path / str(number)
        engine, fate = prepared(path)
        file = real = path / "etc/policies/a.yaml"
        if is_link:
            real = path / "elsewhere.yaml"
            file.rename(real)
            file.symlink_to(real)
        real.write_text("nonsense")
        fate.set(number, Crash(), after=after)
        try:
            engine.change(put=[A2], repair=True)
        except Crash:
            pass
        else:
            break
        again = engine_in_again(path)
        kept = [copy.read_text() for copy in real.parent.glob(f"{real.name}.broken-*")]
        replaced = real.read_text() != "nonsense"
        outcomes.add(replaced)
        assert again.loaded_from == ("policy" if replaced else "last-good")
        assert bool(again.failures) != replaced
        assert not replaced or kept == ["nonsense"]
        assert file.is_symlink() == is_link
        assert not list(path.rglob("*.tmp"))
    assert number > 5
    assert outcomes == {False, True}
