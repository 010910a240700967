"""Large sets are loaded before any rule uses them, and between two parts others get their turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic
from typing import TypeVar

import pytest

from ipsecd.backend.base import Observation
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.early import LARGE
from ipsecd.backend.nftables.reading import TableReader
from ipsecd.backend.nftables.wire import Message
from ipsecd.compiler.classifier import Classifier, pack
from ipsecd.compiler.rows import Row, rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import BackendFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from ipsecd.progress import Phase, Progress
from tests.counts import counts_of
from tests.netns import site
from tests.netns.site import run
from tests.netns.test_lists import blocking, hosts

pytestmark = pytest.mark.netns

T = TypeVar("T")

PARTS_WITH_A_SET = 4
"""After so many parts of a preparation the set is there, and not yet full."""


@pytest.fixture
def backend() -> Iterator[NftablesBackend]:
    site.needs_isolation()
    nftables = NftablesBackend()
    nftables.apply(Classifier(), Volatile())
    yield nftables
    nftables.remove()
    nftables.close()


def many(count: int, rules: int, start: int = 10 << 24) -> Classifier:
    """A policy of so many addresses, in so many rules."""
    first = InForce(Origin("static", "P", "R"), parse_filter("10.0.0.0=0"), Action.BLOCK)
    (row,) = rows_of([first])
    entries = {
        (start + number).to_bytes(4, "big"): Origin("static", "P", f"rule {number % rules}")
        for number in range(count)
    }
    return Classifier((pack(row.table, entries),))


def at_once(work: Callable[[], T]) -> T:
    return work()


def policy_sets() -> set[str]:
    listed = json.loads(run("nft", "-j", "list", "table", "inet", "ipsecd"))["nftables"]
    return {
        name
        for item in listed
        if "set" in item or "map" in item
        if (name := (item.get("set") or item["map"])["name"]).startswith("policy_")
    }


@pytest.mark.parametrize("rules", [1, 50])
def test_what_was_prepared_is_what_is_applied(backend: NftablesBackend, rules: int) -> None:
    """In several short transactions, after none of which anything is drift or in force."""
    wanted = many(3 * LARGE, rules)
    observations = []

    def noted(work: Callable[[], T]) -> T:
        result = work()
        observations.append(backend.observe())
        return result

    backend.prepare(wanted, noted)
    assert len(observations) > 3
    assert set(observations) == {Observation(Classifier().digest)}
    prepared = policy_sets()
    assert len(prepared) == 1
    backend.apply(wanted, Volatile())
    assert backend.observe() == Observation(wanted.digest)
    assert policy_sets() == prepared
    assert len(list(backend._reader.elements(prepared.pop()))) == 3 * LARGE
    assert len(counts_of(backend)) == rules


def test_a_list_is_loaded_without_reading_the_table_again_and_again(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read back to see drift does not change with the entries of a list."""
    reads: list[str] = []
    fingerprint = TableReader.fingerprint

    def noted(self: TableReader) -> str:
        reads.append(fingerprint(self))
        return reads[-1]

    def looking(work: Callable[[], T]) -> T:
        result = work()
        assert fingerprint(backend._reader) == backend._fingerprint
        return result

    monkeypatch.setattr(TableReader, "fingerprint", noted)
    wanted = blocking({"drop": hosts(10 << 24, 20 * LARGE)}, "@drop=0")
    backend.prepare(wanted, looking)
    assert len(reads) == 1
    backend.apply(wanted, Volatile())
    assert backend.observe() == Observation(wanted.digest)


@pytest.mark.parametrize("rules", [1, 50])
def test_how_much_is_loaded_is_told(backend: NftablesBackend, rules: int) -> None:
    """It rises from part to part and ends with all of what has to be loaded, over all sets."""
    (larger,), (smaller,) = many(3 * LARGE, rules).tables, many(2 * LARGE, rules, 11 << 24).tables
    told: list[Progress] = []
    backend.prepare(Classifier((larger, smaller)), at_once, told.append)
    shares = [progress.done for progress in told]
    assert len(set(shares)) > 3
    assert shares == sorted(shares)
    assert shares[-1] == 5 * LARGE
    assert {(progress.phase, progress.total) for progress in told} == {(Phase.LOADING, 5 * LARGE)}


def test_bans_and_repairs_between_the_parts_keep_what_is_prepared(
    backend: NftablesBackend,
) -> None:
    """A ban is in force at once; the state before it, applied anew, deletes nothing of it."""
    wanted = many(3 * LARGE, 1)
    volatile = Volatile()
    ban = InForce(Origin("dynamic", "", "d"), parse_filter("*=0:9:UDP"), Action.BLOCK)
    before = backend._classifier
    assert before is not None
    parts = 0
    observations = []

    def interrupted(work: Callable[[], T]) -> T:
        nonlocal parts
        parts += 1
        result = work()
        if parts == PARTS_WITH_A_SET:
            backend.change(volatile.change(add=rows_of([ban])), volatile)
            observations.append(backend.observe())
            backend.apply(before, volatile)
        return result

    backend.prepare(wanted, interrupted)
    prepared = policy_sets()
    backend.apply(wanted, volatile)
    assert policy_sets() == prepared
    assert backend.observe() == Observation(wanted.digest)
    assert len(list(backend._reader.elements(prepared.pop()))) == 3 * LARGE
    assert set(observations) == {Observation(before.digest)}
    assert len(backend.volatile_counts()) == 2


def test_what_was_prepared_and_is_not_wanted_goes(backend: NftablesBackend) -> None:
    """By a word, or with the next state that is another; counters too."""
    wanted = many(2 * LARGE, 3)
    backend.prepare(wanted, at_once)
    backend.discard()
    assert policy_sets() == set()
    assert set(backend._reader.counters()) == {"unparsable"}
    assert backend.observe().drift == ()
    backend.prepare(wanted, at_once)
    backend.apply(many(1, 1), Volatile())
    assert len(policy_sets()) == 1
    backend.apply(wanted, Volatile())
    assert backend.observe() == Observation(wanted.digest)


def test_an_unrelated_state_ends_a_preparation_that_is_under_way(backend: NftablesBackend) -> None:
    """As when containers change what is in force; what was wanted is then loaded as a whole."""
    wanted, unrelated = many(3 * LARGE, 1), many(3, 1, 11 << 24)
    parts = 0

    def interrupted(work: Callable[[], T]) -> T:
        nonlocal parts
        parts += 1
        if parts == PARTS_WITH_A_SET:
            backend.apply(unrelated, Volatile())
        return work()

    backend.prepare(wanted, interrupted)
    assert backend.observe() == Observation(unrelated.digest)
    assert len(policy_sets()) == 1
    backend.apply(wanted, Volatile())
    assert backend.observe() == Observation(wanted.digest)


def test_a_preparation_that_the_kernel_refuses_leaves_what_is_in_force(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was loaded of it goes, and the state can be tried again."""
    wanted = many(3 * LARGE, 1)
    commit, commits_left = backend._commit, 2

    def refuse(steps: list[object]) -> None:
        nonlocal commits_left
        commits_left -= 1
        if commits_left < 0:
            raise BackendFailed("no memory", "free some")
        commit(steps)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(backend, "_commit", refuse)
        with pytest.raises(BackendFailed):
            backend.prepare(wanted, at_once)
    backend.discard()
    assert policy_sets() == set()
    assert backend.observe() == Observation(Classifier().digest)
    backend.prepare(wanted, at_once)
    backend.apply(wanted, Volatile())
    assert backend.observe() == Observation(wanted.digest)


def bans(start: int, count: int) -> list[Row]:
    """The rows of a dynamic rule for each of so many addresses."""
    first = InForce(Origin("dynamic", "", "d"), parse_filter("10.0.0.0=0"), Action.BLOCK)
    (row,) = rows_of([first])
    return [
        Row(
            row.table,
            number.to_bytes(4, "big"),
            replace(first, origin=Origin("dynamic", "", f"d{number}")),
        )
        for number in range(start, start + count)
    ]


def elements_of_bans(backend: NftablesBackend) -> tuple[set[str], set[bytes]]:
    """The sets of dynamic rules in the kernel, and what they hold."""
    listed = json.loads(run("nft", "-j", "list", "table", "inet", "ipsecd"))["nftables"]
    sets = {item["set"]["name"] for item in listed if "set" in item}
    sets = {name for name in sets if name.startswith("dynamic_")}
    return sets, {key for name in sets for key, _ in backend._reader.elements(name)}


def test_dynamic_rules_that_change_with_a_policy_are_loaded_before_the_switch(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch itself carries only what has come, gone and been renewed since then."""
    volatile, start = Volatile(), 10 << 24
    rows = bans(start, 2 * LARGE)
    added = volatile.change(add=rows)
    backend.change(added, volatile)
    old_sets, _ = elements_of_bans(backend)
    planned = volatile.copy()
    planned.change(remove=[rows[0].filter_in_force.origin], add=bans(start + 2 * LARGE, 1))
    parts = 0

    def interrupted(work: Callable[[], T]) -> T:
        nonlocal parts
        parts += 1
        result = work()
        if parts == PARTS_WITH_A_SET:
            come = volatile.change(remove=[rows[1].filter_in_force.origin], add=bans(9 << 24, 1))
            backend.change(come, volatile)
            renewed = volatile.change(
                [rows[2].filter_in_force.origin], [rows[2]], monotonic() + 3600
            )
            backend.change(renewed, volatile)
        return result

    backend.prepare(many(1, 1), interrupted, dynamic=planned)
    assert backend.observe() == Observation(Classifier().digest)
    sets, _ = elements_of_bans(backend)
    assert len(sets) == 2
    volatile.change(remove=[rows[0].filter_in_force.origin], add=bans(start + 2 * LARGE, 1))
    commit, sizes = backend._commit, []

    def noted(steps: list[Message]) -> None:
        elements = [m.attributes for m in steps if m.kind in (nft.NEWSETELEM, nft.DELSETELEM)]
        sizes.append(sum(map(len, elements)))
        commit(steps)

    with monkeypatch.context() as patch:
        patch.setattr(backend, "_commit", noted)
        backend.apply(many(1, 1), volatile)
    assert 0 < max(sizes) < LARGE
    assert backend.observe() == Observation(many(1, 1).digest)
    left, held = elements_of_bans(backend)
    assert left == sets - old_sets
    assert held == {entry.key for entry in volatile.entries()}
    assert len(held) == 2 * LARGE
    assert start.to_bytes(4, "big") not in held
    assert "expires" in run("nft", "get", "element", "inet", "ipsecd", *left, "{ 10.0.0.2 }")


def test_dynamic_rules_that_were_loaded_and_are_not_wanted_go(backend: NftablesBackend) -> None:
    """They never were in force; those there were stay as they are."""
    volatile = Volatile()
    backend.change(volatile.change(add=bans(10 << 24, LARGE)), volatile)
    before = elements_of_bans(backend)
    planned = volatile.copy()
    planned.change(add=bans(11 << 24, 1))
    backend.prepare(many(1, 1), at_once, dynamic=planned)
    backend.discard()
    assert elements_of_bans(backend) == before
    backend.apply(many(1, 1), planned)
    assert len(elements_of_bans(backend)[1]) == LARGE + 1
