"""A crash or an error at every effect of taking something from a domain: old or new, no third."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from ipsecd.backend.base import Backend
from ipsecd.config import Config, Directories
from ipsecd.config.domain import DomainSettings
from ipsecd.engine import Engine
from tests.engine.domain import digest_of, policy, publish, withdraw
from tests.engine.effects import Fate, FatefulBackend, FatefulDisk, Trial
from tests.engine.test_lists import entries

LOCAL, FIRST = policy("Local", "*=0:1:UDP"), policy("Fleet", "*=0:2:UDP")
SECOND = policy("Fleet", "*=0:2:UDP", "*=0:3:UDP")
LISTED = policy("Fleet", "*=0:2:UDP", "@drop=0", "@more=0:5:UDP")
ONE, OTHER = entries("203.0.113.7"), entries("203.0.113.8", "198.51.100.0/24")
LISTS = {"drop": ONE, "more": ONE}
CHANGES: dict[str, Callable[[Engine], object]] = {
    "override": lambda engine: publish(engine, FIRST),
    "addition": lambda engine: publish(engine, SECOND, 2),
    "newer metadata": lambda engine: publish(engine, FIRST, 2),
    "withdrawal": lambda engine: withdraw(engine, 2),
    "first lists": lambda engine: publish(engine, LISTED, 2, LISTS),
    "another list": lambda engine: publish(engine, LISTED, 3, LISTS | {"drop": OTHER}),
    "another policy and list": lambda engine: publish(
        engine, policy("Fleet", "0=@drop"), 3, {"drop": OTHER}
    ),
    "withdrawal of lists": lambda engine: withdraw(engine, 3),
}
WITH_LISTS = ("another list", "another policy and list", "withdrawal of lists")
State = tuple[str, str, int, bool, str, str, tuple[tuple[str, str], ...], tuple[str, ...]]


def engine_in(path: Path, fate: Fate) -> Engine:
    def backend() -> Backend:
        return FatefulBackend(fate)

    directories = Directories(path / "etc", path / "lib", path / "run")
    config = Config(domain=DomainSettings("file:///srv/fleet", host="web1"))
    engine = Engine(config, directories, backend, FatefulDisk(fate))
    engine.start()
    return engine


def prepared(path: Path, name: str) -> tuple[Engine, Fate]:
    """With a local policy, and all that comes before the change."""
    fate = Fate()
    engine = engine_in(path, fate)
    engine.change(put=[LOCAL], assign="Local")
    if name == "override":
        publish(engine, FIRST)
        withdraw(engine, 1)
    else:
        publish(engine, FIRST)
    if name in WITH_LISTS:
        publish(engine, LISTED, 2, LISTS)
    return engine, fate


def state_of(engine: Engine) -> State:
    """What was taken, and what is in force."""
    taken = engine.domain
    digest = engine.backend.observe().digest or ""
    stored = taken.stored.text if taken.stored else ""
    lists = tuple(sorted((name, carried.digest) for name, carried in taken.lists.items()))
    in_force = tuple(sorted(f"{name} {digest_of(each)}" for name, each in engine.lists.items()))
    what = (engine.loaded_from, stored, taken.version, taken.withdrawn)
    return (*what, taken.digest, digest, lists, in_force)


def before_and_after(tmp_path: Path, name: str) -> tuple[State, State]:
    engine, _ = prepared(tmp_path / "model", name)
    before = state_of(engine)
    CHANGES[name](engine)
    return before, state_of(engine)


def trial_of(tmp_path: Path, name: str) -> Trial[State]:
    before, done = before_and_after(tmp_path, name)
    return Trial(
        lambda path: prepared(path, name),
        CHANGES[name],
        state_of,
        lambda path: state_of(engine_in(path, Fate())),
        before,
        done,
    )


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_leaves_the_old_state_or_the_new(tmp_path: Path, name: str, after: bool) -> None:
    """Whichever effect the daemon dies before or after, the next one finds old or new."""
    trial = trial_of(tmp_path, name)
    assert trial.before != trial.done
    number, changed = trial.crash_at_every_effect(tmp_path, after=after)
    assert number > 3
    assert changed == {False, True}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_once_leaves_the_old_state(tmp_path: Path, name: str, code: int) -> None:
    """An error is told, and all is as it was: in memory, on disk and in force."""
    trial_of(tmp_path, name).fail_at_every_effect(tmp_path, code)
