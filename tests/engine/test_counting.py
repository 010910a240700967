"""What rules have matched, over everything that may happen to the daemon and its host."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ipsecd.backend.base import Count, Readings
from ipsecd.backend.memory import MemoryBackend
from ipsecd.engine import Engine
from ipsecd.engine.accounts import (
    MOST_REMEMBERED,
    REMEMBERED_S,
    moved,
    read_anew,
    remembered,
    total,
)
from ipsecd.engine.state import Condition
from ipsecd.errors import BackendFailed, StoreFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Origin, Policy, Rule
from ipsecd.sources.checked import seal
from ipsecd.sources.counters_file import (
    CountersFile,
    KeptCount,
    KeptCounts,
    counts_from_json,
    counts_to_json,
)
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.site import Site

WORM = Rule("worm", (parse_filter("*=0:1434:UDP"),), Action.BLOCK)
WEB = Rule("web", (parse_filter("*=0:80:UDP"),), Action.BLOCK)
ORIGIN = Origin("static", "P", "worm")
TRIED = replace(ORIGIN, audits=True)
BAN = DynamicRule("ban", (parse_filter("203.0.113.7=0"),), Action.BLOCK, created=5.0)


@pytest.fixture
def counted(site: Site) -> Site:
    """A site whose policy has blocked three packets of the worm."""
    site.engine.change(put=[Policy("P", (WORM, WEB))], assign="P")
    for _ in range(3):
        assert site.blocks(1434)
    return site


def packets(engine: Engine, origin: Origin = ORIGIN) -> int:
    found = engine.counting.read().get(origin)
    return found.count.packets if found else -1


def test_counts_stay_over_everything_that_ends_counters(counted: Site) -> None:
    """Another policy, none, a withdrawal, and all of that again."""
    engine = counted.engine
    for put in ([Policy("P", (WEB,))], [Policy("P", (WORM,))]):
        engine.change(put=put)
        assert packets(engine) == 3
    engine.change(assign=None)
    assert packets(engine) == 3
    engine.change(assign="P")
    assert counted.blocks(1434)
    assert packets(engine) == 4
    engine.stop()
    engine.start()
    assert counted.blocks(1434)
    assert packets(engine) == 5


def test_counting_began_when_the_rule_first_was_in_force(counted: Site) -> None:
    """It does not begin again when the rule comes back."""
    engine = counted.engine
    since = engine.counting.read()[ORIGIN].since
    engine.change(put=[Policy("P", (WEB,))])
    engine.change(put=[Policy("P", (WORM, WEB))])
    assert engine.counting.read()[ORIGIN].since == since > 0


def test_what_a_rule_counted_as_an_audit_is_told_apart(counted: Site) -> None:
    """What passed is never said to be dropped, whenever the policy is tried and enforced."""
    engine = counted.engine
    for turn in (1, 2):
        engine.change(put=[Policy("P", (WORM, WEB), audit=True)])
        for _ in range(2):
            assert not counted.blocks(1434)
        assert packets(engine, TRIED) == 2 * turn
        engine.change(put=[Policy("P", (WORM, WEB))])
        assert packets(engine) == 3 + turn - 1
        assert counted.blocks(1434)
        assert packets(engine) == 3 + turn
    engine.close()
    engine = counted.again()
    assert (packets(engine), packets(engine, TRIED)) == (5, 4)


def test_a_dynamic_rule_counts_apart_what_it_counts_as_an_audit(counted: Site) -> None:
    """Also where the daemon ended before it noted that the rule was made anew."""
    engine = counted.engine
    engine.add_dynamic(replace(BAN, action=Action.AUDIT))
    assert not counted.blocks(9)
    engine.counting.keep()
    engine.flush()
    engine.add_dynamic(replace(BAN, created=6.0))
    assert packets(engine, BAN.origin) == 0
    assert packets(counted.again(), BAN.origin) == 0


def test_counts_of_a_file_from_before_go_on_as_what_the_rule_is_now(counted: Site) -> None:
    """Such a file does not say which rules were audits."""
    engine = counted.engine
    engine.change(put=[Policy("P", (WORM, WEB), audit=True)])
    assert not counted.blocks(1434)
    engine.close()
    rules = [["static", "P", "worm", 1.5, 0, 7, 70, {}], ["static", "Q", "r", 1, 2, 3, 4, {}]]
    content = json.dumps({"place": "", "rules": rules}).encode()
    (counted.directories.state / "counters").write_bytes(seal("counters", 1, content))
    counted.backend = MemoryBackend(counted.clock)
    engine = counted.again()
    assert packets(engine, TRIED) == 7
    assert packets(engine, Origin("static", "Q", "r")) == 3
    assert not [each for each in engine.warnings if "counters" in each]


def test_a_restart_on_purpose_keeps_counts(counted: Site) -> None:
    """The next process has counters that begin at zero, or go on."""
    counted.engine.end_for_restart()
    counted.engine.close()
    assert packets(counted.again()) == 3
    counted.blocks(1434)
    counted.engine.close()
    counted.backend = MemoryBackend(counted.clock)
    assert packets(counted.again()) == 4


def test_after_a_crash_nothing_counts_twice(counted: Site) -> None:
    """What the kernel still has goes on exactly, whenever the file was written."""
    counted.engine.counting.keep()
    counted.blocks(1434)
    engine = counted.again()
    assert packets(engine) == 4
    counted.blocks(1434)
    engine = counted.again()
    assert packets(engine) == 5
    engine.counting.keep()
    assert packets(counted.again()) == 5


def test_after_a_reboot_what_was_kept_stays(counted: Site) -> None:
    """Counters of another boot are others, even if they hold more than those of before."""
    counted.engine.counting.keep()
    counted.blocks(1434)
    file = CountersFile(counted.directories.state)
    file.save(counts_to_json(replace(file.load(), place="another boot")))
    counted.backend = MemoryBackend(counted.clock)
    counted.backend._counts = {ORIGIN: Count(5, 0)}
    engine = counted.again()
    assert packets(engine) == 3 + 5
    counted.blocks(1434)
    assert packets(engine) == 3 + 6


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"ipsecd counters 1 " + b"0" * 64 + b"\n{}", b"\xff\xfe", b"{" * 5000],
)
def test_a_file_of_garbage_costs_counts_and_nothing_else(counted: Site, content: bytes) -> None:
    """It is told what has happened, until the file is written again."""
    counted.engine.close()
    (counted.directories.state / "counters").write_bytes(content)
    counted.backend = MemoryBackend(counted.clock)
    engine = counted.again()
    assert packets(engine) == 0
    assert counted.blocks(1434)
    assert packets(engine) == 1
    (warning,) = [each for each in engine.warnings if "counters" in each]
    assert "rules are counted from now on" in warning
    engine.counting.keep()
    assert not [each for each in engine.warnings if "counters" in each]


def test_a_full_disk_fails_no_change(counted: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, tried again with the next, and not at once."""

    def full(*_: object) -> None:
        raise StoreFailed("no space left", "look at the free space")

    engine = counted.engine
    with monkeypatch.context() as patch:
        patch.setattr(engine.counting._file, "save", full)
        engine.counting.keep()
        assert [each for each in engine.warnings if "no space left" in each]
        assert not engine.counting.is_behind
        engine.change(put=[Policy("P", (WEB,))])
        assert engine.counting.is_behind
        engine.counting.keep()
    engine.counting.keep()
    assert not [each for each in engine.warnings if "no space left" in each]
    counted.backend = MemoryBackend(counted.clock)
    engine = counted.again()
    engine.change(put=[Policy("P", (WORM,))])
    assert packets(engine) == 3


@pytest.mark.parametrize("error", [BackendFailed("the kernel is gone", ""), OSError(5, "no")])
def test_counters_that_cannot_be_read_fail_neither_start_nor_end(
    counted: Site, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What was kept stays kept, and is told."""

    def fail(*_: object) -> Readings:
        raise error

    counted.engine.counting.keep()
    with monkeypatch.context() as patch:
        patch.setattr(counted.backend, "readings", fail)
        engine = counted.again()
        assert counted.blocks(1434)
        assert [each for each in engine.warnings if "cannot be kept" in each]
        engine.close()
    engine = counted.again()
    assert packets(engine) == 4
    assert not [each for each in engine.warnings if "cannot be kept" in each]


def test_rules_that_are_to_be_forgotten_are_gone_from_memory_too(counted: Site) -> None:
    """Whoever gives rules new names every day fills nothing."""
    counting = counted.engine.counting
    gone = {Origin("static", "P", f"r{n}"): KeptCount(1.0, 2.0 + n) for n in range(9)}
    counting._rules |= gone
    counting.keep()
    assert not counting._rules.keys() & gone.keys()


def test_what_has_not_changed_is_not_written(counted: Site) -> None:
    """A host without traffic need not wake its disk."""
    path = counted.directories.state / "counters"
    counted.engine.counting.keep()
    before = path.stat().st_mtime_ns
    counted.engine.counting.keep()
    assert path.stat().st_mtime_ns == before
    counted.blocks(1434)
    counted.engine.counting.keep()
    assert path.stat().st_mtime_ns > before


def test_a_dynamic_rule_counts_on_in_the_process_that_takes_it_over(counted: Site) -> None:
    """Its entries may be others there, and its counting began when it was made."""
    engine = counted.engine
    engine.add_dynamic(BAN)
    counted.blocks(9)
    engine.counting.keep()
    assert packets(engine, BAN.origin) == 1
    counted.backend = MemoryBackend(counted.clock)
    engine = counted.again()
    assert packets(engine, BAN.origin) == 1
    counted.blocks(9)
    assert packets(engine, BAN.origin) == 2
    assert engine.counting.read()[BAN.origin].since == 5.0
    engine.counting.keep()
    assert packets(counted.again(), BAN.origin) == 2


def test_another_dynamic_rule_of_a_name_begins_at_zero(counted: Site) -> None:
    """It is made at another time."""
    counted.engine.add_dynamic(BAN)
    counted.blocks(9)
    counted.engine.counting.keep()
    counted.backend = MemoryBackend(counted.clock)
    engine = counted.again()
    engine.flush()
    engine.add_dynamic(replace(BAN, created=6.0))
    assert packets(engine, BAN.origin) == 0
    engine.counting.keep()
    assert packets(counted.again(), BAN.origin) == 0


def test_nothing_is_read_while_it_is_not_known_what_the_kernel_holds(counted: Site) -> None:
    """Counters that cannot be found now may be there later, and must not count twice then."""
    engine = counted.engine
    engine.counting.keep()
    state = engine._enforcement.state
    engine._enforcement.state = replace(state, condition=Condition.HELD)
    counts, counted.backend._counts = counted.backend._counts, {}
    assert packets(engine) == 3
    engine._enforcement.state = state
    counted.backend._counts = counts
    assert packets(engine) == 3


def test_rules_that_are_gone_are_forgotten_in_the_end() -> None:
    """After thirty days, or if there are too many; a clock that was set back changes nothing."""
    now = 40 * 86_400.0
    rules = {Origin("static", "P", f"r{n:05}"): KeptCount(1.0, now - n) for n in range(10_050)}
    kept = remembered(rules, now)
    assert len(kept) == MOST_REMEMBERED
    assert Origin("static", "P", "r10049") not in kept
    assert Origin("static", "P", "r00000") in kept
    old = {ORIGIN: KeptCount(1.0, now - REMEMBERED_S - 1), BAN.origin: KeptCount(1.0)}
    assert remembered(old, now).keys() == {BAN.origin}
    assert remembered(old, 5.0).keys() == old.keys()


def test_counters_that_went_are_added_once() -> None:
    """Whatever is missing, smaller or told to have ended."""
    rules = {ORIGIN: KeptCount(1.0, last={"a": (10, 100), "b": (5, 50)})}

    def after(readings: Readings) -> tuple[Count, Count]:
        once = read_anew(rules, readings, (), 2.0)
        twice = read_anew(once, Readings(readings.now, {}), (), 3.0)
        return total(once[ORIGIN]), total(twice[ORIGIN])

    def now(**parts: Count) -> dict[str, dict[Origin, Count]]:
        return {part: {ORIGIN: count} for part, count in parts.items()}

    same = Readings(now(a=Count(11, 110), b=Count(5, 50)), {})
    assert after(same) == (Count(16, 160),) * 2
    missing = Readings(now(a=Count(11, 110)), {})
    assert after(missing) == (Count(16, 160),) * 2
    smaller = Readings(now(a=Count(1, 10), b=Count(5, 50)), {})
    assert after(smaller) == (Count(16, 160),) * 2
    ended = Readings(now(a=Count(2, 20), b=Count(5, 50)), now(a=Count(12, 120)))
    assert after(ended) == (Count(19, 190),) * 2
    assert total(moved(rules)[ORIGIN]) == Count(15, 150)


def test_the_file_holds_what_was_written(tmp_path: Path) -> None:
    """Names may hold anything that names of rules may."""
    origin = Origin("static", 'P"\\ü', "r\u2028<b>")
    found = KeptCount(1.5, 0.0, (-3, 1 << 70), {"programs": (1, 2)})
    kept = KeptCounts("here", {origin: found, replace(origin, audits=True): KeptCount(2.5)})
    assert counts_from_json(counts_to_json(kept)) == kept
    assert counts_from_json(counts_to_json(KeptCounts())) == KeptCounts()
    CountersFile(tmp_path).save(counts_to_json(kept))
    assert CountersFile(tmp_path).load() == kept


@pytest.mark.parametrize(
    "text",
    [
        '{"place": "", "rules": [["", "", "", 1, 2, 3, 4]]}',
        '{"place": "", "rules": [["", "", "", 1, 1, 2, 3, 4, {}]]}',
        '{"place": "", "rules": [["", "", "", 0, 1, 2, 3, 4, {}], ["", "", "", 1, 2, 3, 4, {}]]}',
        '{"place": "", "rules": [["", "", "", 1, 2, 3, 1e400, {}]]}',
        '{"place": "", "rules": [["", "", 0, 1, 2, 3, 4, {}]]}',
        '{"place": "", "rules": [["", "", "", 1, 2, 3, 4, {"a": [1]}]]}',
        '{"place": "", "rules": [["", "", "", 1, 2, 3, %s, {}]]}' % ("9" * 40),
        '{"place": 1, "rules": []}',
        "[]",
    ],
)
def test_what_is_no_count_is_refused(text: str) -> None:
    """Each is an error that the file's reader expects."""
    with pytest.raises(ValueError, match=r"[a-z]"):
        counts_from_json(text.encode())
