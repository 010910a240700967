"""Readings: what rules have matched can be kept, whatever their counters do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from ipsecd.backend.base import UNREADABLE, Count
from ipsecd.backend.nftables import counting
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.reading import TableReader
from ipsecd.engine.accounts import moved, read_anew, total
from ipsecd.errors import BackendFailed
from ipsecd.model.values import Origin
from ipsecd.sources.counters_file import KeptCount
from tests.conformance.stages import DATAGRAMS, KernelStage, Stage, audit, block
from tests.conformance.test_counts import POLICY, named

KEPT = POLICY[:3]
"""Of nested prefixes in several rules any may be credited, so these are few."""


class Keeper:
    """What is kept of a stage, as the engine keeps it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.rules: Mapping[Origin, KeptCount] = {}
        self.base = self.read()

    def read(self) -> Counter[Origin]:
        readings = self.stage.backend.readings(self.rules)
        self.rules = read_anew(self.rules, readings, (), 1.0)
        counted = {o: total(kept).packets for o, kept in self.rules.items() if o != UNREADABLE}
        return Counter({origin: packets for origin, packets in counted.items() if packets})

    def more(self) -> Counter[Origin]:
        """What rules have matched since this keeper began."""
        return self.read() - self.base


def passing(stage: Stage, expected: Counter[Origin]) -> None:
    expected += named(stage, *DATAGRAMS)
    stage.passes(*DATAGRAMS)


def test_a_rule_that_went_and_came_back_counts_on(stage: Stage) -> None:
    """Its last count is told when it goes, also what it counted after the last reading."""
    keeper, expected = Keeper(stage), Counter[Origin]()
    for number in range(3):
        stage.put(*KEPT)
        passing(stage, expected)
        if number:
            assert keeper.more() == expected
        passing(stage, expected)
        stage.put(block("*=0:1400-1499:UDP", "more"))
        if number == 1:
            assert keeper.more() == expected
    assert keeper.more() == expected


def test_what_passed_is_told_apart_from_what_was_dropped(stage: Stage) -> None:
    """A rule is tried, blocks, and is tried again; in a process after that, too, if there is one.

    What it counted after the last reading is told as what it was then.
    """
    keeper, expected = Keeper(stage), Counter[Origin]()
    filters = "*=0:1434:UDP", "10.9.0.0/24=0::UDP"
    passed, dropped = (
        [make(text, f"rule {number}") for number, text in enumerate(filters)]
        for make in (audit, block)
    )
    for rules in (passed, dropped) * 2:
        stage.put(*rules)
        passing(stage, expected)
        if rules is dropped:
            assert keeper.more() == expected
        passing(stage, expected)
    assert keeper.more() == expected
    if isinstance(stage, KernelStage):
        for before, after in ((dropped, passed), (passed, dropped)):
            stage.second_process()
            passing(stage, expected)
            stage.put(*before)
            stage.put(*after)
            passing(stage, expected)
            assert keeper.more() == expected
    assert expected.keys() >= {rule.origin for rule in (*passed, *dropped)}


def test_what_was_in_force_between_two_readings_is_told(stage: Stage) -> None:
    """Nobody knew that rule when the counters were read before it, and it has gone since."""
    keeper, expected = Keeper(stage), Counter[Origin]()
    stage.put(block("*=0:1400-1499:UDP", "more"))
    assert keeper.more() == expected
    stage.put(*KEPT)
    passing(stage, expected)
    stage.put(block("*=0:1500-1599:UDP", "others"))
    assert expected
    assert keeper.more() == expected


def test_a_counter_that_could_not_be_deleted_counts_no_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it holds is told as long as it is there, whether its rule is in force or not."""
    keeper, expected = Keeper(stage), Counter[Origin]()
    stage.put(*KEPT)
    passing(stage, expected)
    assert keeper.more() == expected

    def fail(_: NftablesBackend) -> None:
        raise BackendFailed("busy")

    with monkeypatch.context() as patch:
        patch.setattr(NftablesBackend, "_clean_up", fail)
        stage.put(block("*=0:1400-1499:UDP", "more"))
    assert keeper.more() == expected
    stage.put(block("*=0:1500-1599:UDP", "others"))
    assert keeper.more() == expected
    stage.put(*KEPT)
    passing(stage, expected)
    assert keeper.more() == expected


def test_what_was_withdrawn_is_told_once(stage: Stage) -> None:
    """A withdrawal ends all counters, and what is put in force then begins others."""
    keeper, expected = Keeper(stage), Counter[Origin]()
    stage.put(*KEPT)
    passing(stage, expected)
    assert keeper.more() == expected
    passing(stage, expected)
    stage.backend.remove()
    assert keeper.more() == expected
    assert keeper.more() == expected
    stage.put(*KEPT)
    passing(stage, expected)
    assert keeper.more() == expected


def test_the_next_process_counts_on(stage: Stage) -> None:
    """It continues the counters that it finds, also where it puts another policy in force."""
    if not isinstance(stage, KernelStage):
        pytest.skip("nothing outlives a process in its memory")
    keeper, expected = Keeper(stage), Counter[Origin]()
    stage.put(*KEPT)
    passing(stage, expected)
    assert keeper.more() == expected
    passing(stage, expected)
    stage.second_process()
    passing(stage, expected)
    stage.put(*KEPT)
    assert keeper.more() == expected
    passing(stage, expected)
    stage.second_process()
    stage.put(KEPT[0])
    assert keeper.more() == expected


def test_after_a_reboot_what_was_read_is_kept(stage: Stage) -> None:
    """Nothing that is in force then has counted before."""
    keeper, expected = Keeper(stage), Counter[Origin]()
    stage.put(*KEPT)
    passing(stage, expected)
    keeper.read()
    stage.backend.remove()
    stage.second_process()
    keeper.rules = moved(keeper.rules)
    stage.put(*KEPT)
    passing(stage, expected)
    assert keeper.more() == expected


def test_what_others_delete_counts_no_twice(stage: Stage) -> None:
    """A counter that holds less than before is another one."""
    keeper = Keeper(stage)
    stage.put(*KEPT)
    origin = KEPT[0].origin
    seen = {part: Count(100, 5000) for part in keeper.stage.backend.readings(()).now}
    keeper.rules = {origin: KeptCount(1.0, last=seen)}
    assert keeper.read()[origin] == 100 * len(seen)
    assert keeper.read()[origin] == 100 * len(seen)


def test_counters_are_read_beside_the_kernels_line(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many rules that takes longer than a ban should wait."""
    keeper, expected = Keeper(stage), Counter[Origin]()
    stage.put(*KEPT)
    passing(stage, expected)

    def fail(_: TableReader) -> list[bytes]:
        raise AssertionError("the line waits")

    monkeypatch.setattr(TableReader, "raw_counters", fail)
    assert keeper.more() == expected


def test_what_is_put_in_force_while_counters_are_read_counts_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read beside the line is then of no use: those counters have been told as ended."""
    keeper, expected = Keeper(stage), Counter[Origin]()
    stage.put(*KEPT)
    passing(stage, expected)
    read_aside = counting._read_aside

    def read_slowly() -> list[bytes] | None:
        bodies = read_aside()
        monkeypatch.undo()
        stage.put(block("*=0:1400-1499:UDP", "more"))
        stage.put(*KEPT)
        passing(stage, expected)
        return bodies

    monkeypatch.setattr(counting, "_read_aside", read_slowly)
    keeper.read()
    assert keeper.more() == expected
    passing(stage, expected)
    assert keeper.more() == expected
