"""A crash or an error at every effect of a change of all parts: all of it is there, or nothing."""

from __future__ import annotations

import errno
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.base import Backend
from ipsecd.config import Config, Directories
from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.engine.caller import Caller, ChangeOptions
from ipsecd.language.filters import parse_filter
from ipsecd.language.list_entries import format_list
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.sources.backups import ListParts
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.effects import Crash, Fate, FatefulBackend, FatefulDisk, Trial
from tests.engine.test_together import NOBODY, document, put
from tests.engine.test_together import rule as asked

State = tuple[object, ...]
SHARED, OTHER_SHARED = (f"filter-lists: [{{filter-list: {name}}}]\n" for name in ("One", "Two"))


class LastFate(Fate):
    """After a crash there are no more effects, whatever would undo the change."""

    def meets(self, effect: Callable[[], Any]) -> Any:
        if self.at and self.count >= self.at and isinstance(self.error, Crash):
            raise self.error
        return super().meets(effect)


class RuntimeDisk(FatefulDisk):
    """Also the file of dynamic rules is written with effects."""

    def append(self, path: Path, content: bytes) -> None:
        self.fate.meets(lambda: super(RuntimeDisk, self).append(path, content))


def policy(name: str, port: int) -> Policy:
    filters = (parse_filter(f"*=0:{port}:UDP"),)
    return Policy(name, (Rule("R", filters, Action.BLOCK, filter_list="One"),))


def rule(name: str, port: int) -> DynamicRule:
    return DynamicRule(name, (parse_filter(f"*=0:{port}:UDP"),), Action.BLOCK, deadline=inf)


def everything(engine: Engine) -> object:
    """Two policies, the shared filters, the assigned link, a rule that comes and one that goes."""
    beside = engine.rules_beside([rule("new", 7), rule("kept", 8)], ("old",))
    put = [policy("A", 2), policy("B", 3)]
    return engine.change(put=put, assign="B", shared=OTHER_SHARED, beside=beside)


def nothing_assigned(engine: Engine) -> object:
    """The assigned policy goes, and a rule comes in its place."""
    beside = engine.rules_beside([rule("instead", 1)], ())
    return engine.change(delete=["A"], assign=None, shared="", beside=beside)


def a_list_in_the_place_of_filters(engine: Engine) -> object:
    """A policy names a list that is made with it, one that had entries goes, another has others."""
    parts = {
        "new": ListParts(b"192.0.2.1\n"),
        "changed": ListParts(b"192.0.2.3\n"),
        "gone": ListParts(),
    }
    put = [Policy("A", (Rule("R", (parse_filter("@new=0"),), Action.BLOCK, filter_list="One"),))]
    lists = engine.restoring.lists(parts, tuple(parts))
    return engine.change(put=put, shared=OTHER_SHARED, lists=lists)


CHANGES: dict[str, Callable[[Engine], object]] = {
    "everything": everything,
    "a rule in the place of a policy": nothing_assigned,
    "a list in the place of filters": a_list_in_the_place_of_filters,
}


def engine_in(path: Path, fate: Fate, disk: type[FatefulDisk] = RuntimeDisk) -> Engine:
    def backend() -> Backend:
        return FatefulBackend(fate)

    directories = Directories(path / "etc", path / "lib", path / "run")
    return Engine(Config(), directories, backend, disk(fate))


def state_of(engine: Engine) -> State:
    loaded = engine.loaded
    rules = sorted((each.name, each.filters) for each in engine.dynamic)
    digest = engine.backend.observe().digest
    lists = {name: [*format_list(each)] for name, each in engine.lists.items()}
    of_files = {name: [*format_list(each.addresses)] for name, each in engine.moment.lists.items()}
    assert lists == of_files
    files = loaded.texts, loaded.assigned, sorted(lists.items())
    return *files, rules, digest, sorted(engine.volatile.entries())


def restarted(path: Path) -> State:
    """What the next daemon finds, and the one after it."""
    states = []
    for _ in range(2):
        engine = engine_in(path, Fate())
        engine.start()
        states.append(state_of(engine))
        engine.close()
    assert not (path / "etc/.journal").exists()
    assert states[0] == states[1]
    return states[0]


def prepared(path: Path) -> tuple[Engine, Fate]:
    return _prepared(path, RuntimeDisk)


def prepared_with_room(path: Path) -> tuple[Engine, Fate]:
    """The file of dynamic rules can always be written: else rules are in force, and not kept."""
    return _prepared(path, FatefulDisk)


def _prepared(path: Path, disk: type[FatefulDisk]) -> tuple[Engine, Fate]:
    fate = LastFate()
    engine = engine_in(path, fate, disk)
    engine.start()
    beside = engine.rules_beside([rule("old", 5), rule("kept", 6)], ())
    texts = {name: f"192.0.2.{number}\n" for number, name in enumerate(("gone", "changed", "kept"))}
    lists = engine.restoring.lists({name: ListParts(t.encode()) for name, t in texts.items()})
    put = [policy("A", 1)]
    engine.change(put=put, assign="A", shared=SHARED, beside=beside, lists=lists)
    return engine, fate


def trial_of(
    tmp_path: Path, name: str, prepare: Callable[[Path], tuple[Engine, Fate]] = prepared
) -> Trial[State]:
    engine, _ = prepare(tmp_path / "model")
    before = state_of(engine)
    CHANGES[name](engine)
    return Trial(prepare, CHANGES[name], state_of, restarted, before, state_of(engine))


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_leaves_all_of_the_old_or_of_the_new(
    tmp_path: Path, name: str, after: bool
) -> None:
    """Whichever effect the process dies before or after; rules are as policies are."""
    trial = trial_of(tmp_path, name)
    number, changed = trial.crash_at_every_effect(tmp_path, after=after)
    assert number > 10
    assert changed == {False, True}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fails_leaves_all_as_it_was(tmp_path: Path, name: str, code: int) -> None:
    """In memory, on disk and in force."""
    trial_of(tmp_path, name, prepared_with_room).fail_at_every_effect(tmp_path, code)


@pytest.mark.parametrize("after", [False, True])
def test_what_nobody_confirms_is_put_back_after_any_crash(tmp_path: Path, after: bool) -> None:
    """Policies, shared filters and rules, whichever of them were changed already."""
    before = None
    for number in range(1, 200):
        path = tmp_path / str(number)
        engine, fate = prepared(path)
        before = before or state_of(engine)
        fate.set(number, Crash(), after=after)
        try:
            changed(engine)
        except Crash:
            again = engine_in(path, Fate())
            again.start()
            if again.confirmation.change:
                again.confirmation.put_back("it is not wanted")
            assert state_of(again)[:5] == before[:5], number
            continue
        break
    assert number > 10


def changed(engine: Engine) -> None:
    """A change as of a client that wants to confirm it."""
    given = {
        **NOBODY,
        "put": put(document("A", 2), document("B", 3)),
        "assign": "B",
        "shared_filters": OTHER_SHARED,
        "put_rules": [asked("new", 7), asked("kept", 8)],
        "remove_rules": ["old"],
        "lists": [
            {"name": "new", "add": ["192.0.2.9"], "remove": [], "create": True, "delete": None},
            {"name": "gone", "add": [], "remove": [], "create": None, "delete": True},
            {
                "name": "changed",
                "add": ["192.0.2.8"],
                "remove": ["192.0.2.1"],
                "create": None,
                "delete": None,
            },
        ],
    }
    caller = Caller(0, 1, "root", ChangeOptions(confirm_s=60.0))
    Control(engine).call("ChangeTogether", given, "root", {}, None, caller=caller)
