"""A contestant that fails or takes too long does not keep the others from being measured."""

from __future__ import annotations

import itertools
import signal
import threading
from pathlib import Path

import pytest

from bench import figures, turns
from bench.figures import Figure, kept
from bench.turns import AbsentError, in_turn, measure, patience


def hangs() -> float:
    threading.Event().wait(60)
    return 1.0


def fails() -> float:
    raise OSError("no such thing")


def test_whoever_fails_or_hangs_is_absent_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "patience", lambda: patience(0.1))
    absent = {"c": "is not installed"}
    taken = in_turn({"a": lambda: 1.0, "fails": fails, "hangs": hangs}, 3, absent)
    assert taken == {"a": [1.0, 1.0, 1.0]}
    assert absent == {
        "c": "is not installed",
        "fails": "failed when it was measured (OSError)",
        "hangs": "took longer than 0.1 seconds, and was ended",
    }


def test_whoever_fails_in_a_later_round_has_no_values() -> None:
    values = iter([1.0])
    absent: dict[str, str] = {}
    assert in_turn({"a": lambda: 1.0, "b": lambda: next(values)}, 2, absent) == {"a": [1.0, 1.0]}
    assert "b" in absent


def test_nobody_is_ended_after_the_block() -> None:
    with patience(60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    with pytest.raises(AbsentError, match="of its own"), patience():
        raise AbsentError("of its own")


def test_there_are_fewer_rounds_if_they_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, turns.LIMIT_S / 4)
    monkeypatch.setattr("bench.turns.time.monotonic", lambda: next(clock))
    assert in_turn({"a": lambda: 1.0}, 100, {}) == {"a": [1.0] * 4}


def test_a_step_that_fails_leaves_the_figures_of_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    good = Figure("packets", "T", "case", "ns", "nft", {"ipsecd": [1.0], "nft": [2.0]})

    def bad() -> list[Figure]:
        raise ValueError("nothing of ours was measured")

    measure("sample", [bad, lambda: [good]], lambda: {"Linux": "6.18"})
    facts, back = kept(tmp_path / "sample.json")
    assert back == [good]
    assert facts["not measured this time"] == "step 1 of sample failed (ValueError)"
