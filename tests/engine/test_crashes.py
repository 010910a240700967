"""A crash or an error at every effect of the stores and the backend: old state or new, no third."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from ipsecd.backend.base import Backend
from ipsecd.config import Config, Directories
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, IpsecdError
from ipsecd.language.documents import format_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.sources import static
from ipsecd.sources import steps as steps_module
from ipsecd.sources.files import Disk
from ipsecd.sources.planning import Written
from tests.engine.effects import Crash, Fate, FatefulBackend, FatefulDisk, Trial


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
    "try as audits": lambda engine: engine.change(put=[A.with_audit(audit=True)], assign="A"),
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


def trial_of(tmp_path: Path, name: str) -> Trial[State]:
    before, done = before_and_after(tmp_path, CHANGES[name])
    return Trial(prepared, CHANGES[name], state_of, fresh, before, done)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_leaves_the_old_state_or_the_new(tmp_path: Path, name: str, after: bool) -> None:
    """Whichever effect the process dies before or after, the next one finds old or new."""
    trial = trial_of(tmp_path, name)
    assert trial.before != trial.done
    number, changed = trial.crash_at_every_effect(tmp_path, after=after)
    assert number > 5
    assert changed == {False, True}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_once_leaves_the_old_state(tmp_path: Path, name: str, code: int) -> None:
    """An error from the disk is told, and all is as it was: in memory, on disk and in force."""
    trial_of(tmp_path, name).fail_at_every_effect(tmp_path, code)


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
            engine.change(written=[Written(A2, format_policy(A2))])
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
