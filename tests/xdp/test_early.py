"""Long lists are written to memory before any step looks into them, beside the engine's line."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TypeVar

import pytest

from ipsecd.backend.base import Count, Line, Observation
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.backend.xdp.early import SPARE_LINES
from ipsecd.backend.xdp.programs import SPARE_RULES
from ipsecd.compiler.classifier import Classifier, pack
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import BackendFailed, IpsecdError
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from ipsecd.progress import Progress
from tests.counts import counts_of
from tests.descriptors import open_descriptors, open_descriptors_at_first
from tests.netns.site import needs_isolation, run
from tests.xdp.test_faults import Crash, Faults

pytestmark = pytest.mark.netns

T = TypeVar("T")

DIRECTORY = Path("/sys/fs/bpf/ipsecd-early")
FEW, MANY = 5, 2 * SPARE_RULES
"""Numbers of rules that the counters have room for, and have not."""


@pytest.fixture
def backend() -> Iterator[XdpBackend]:
    """A backend with one link to be on, and an empty policy in force."""
    needs_isolation()
    run("ip", "link", "add", "early0", "type", "veth", "peer", "name", "early1")
    programs = XdpBackend(DIRECTORY)
    programs.apply(Classifier(), Volatile())
    yield programs
    programs.remove()
    programs.close()
    run("ip", "link", "delete", "early0")


def many(rules: int, start: int = 10 << 24, count: int = 3000) -> Classifier:
    """A policy of so many addresses, in so many rules."""
    first = InForce(Origin("static", "P", "R"), parse_filter("10.0.0.0=0"), Action.BLOCK)
    (row,) = rows_of([first])
    entries = {
        (start + 2 * number).to_bytes(4, "big"): Origin("static", "P", f"rule {number % rules}")
        for number in range(count)
    }
    return Classifier((pack(row.table, entries),))


def with_hosts(classifier: Classifier, count: int) -> Classifier:
    """The policy, and so many containers that a selector stands for, in a table of their own."""
    ports = [
        InForce(Origin("static", "P", "web"), parse_filter(f"10.9.0.1=0:{port}:UDP"), Action.BLOCK)
        for port in range(1, count + 1)
    ]
    return Classifier((*compile_filters(ports).tables, *classifier.tables))


def at_once(work: Callable[[], T]) -> T:
    return work()


def after(part: int, do: Callable[[], object]) -> Line:
    """A line in which something else is done after so many parts."""
    parts = 0

    def interrupted(work: Callable[[], T]) -> T:
        nonlocal parts
        parts += 1
        result = work()
        if parts == part:
            do()
        return result

    return interrupted


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each image had that was made since the test began."""
    sizes: list[int] = []
    create = libbpf.create_lines

    def noted(name: str, content: bytes, *, freeze: bool, spare: int = 0) -> int:
        if name == "ipsecd_image":
            sizes.append(len(content))
        return create(name, content, freeze=freeze, spare=spare)

    monkeypatch.setattr(libbpf, "create_lines", noted)
    return sizes


def in_force(backend: XdpBackend, classifier: Classifier) -> bool:
    return backend.observe() == Observation(classifier.digest)


@pytest.mark.parametrize("rules", [FEW, MANY])
def test_what_was_prepared_is_what_is_applied(
    backend: XdpBackend, images: list[int], rules: int
) -> None:
    """The switch fills nothing anew; before it, nothing is drift or in force."""
    wanted = many(rules)
    backend.prepare(wanted, at_once)
    assert in_force(backend, Classifier())
    assert len(images) == 1
    backend.apply(wanted, Volatile())
    assert in_force(backend, wanted)
    assert len(images) == 1
    assert counts_of(backend) == dict.fromkeys(wanted.origins, Count())


@pytest.mark.parametrize("rules", [FEW, MANY])
def test_what_was_prepared_and_is_not_wanted_goes(backend: XdpBackend, rules: int) -> None:
    """By a word, or with the next state that is another."""
    before = open_descriptors_at_first()
    backend.prepare(many(rules), at_once)
    assert open_descriptors() > before
    backend.discard()
    assert open_descriptors() == before
    backend.prepare(many(rules), at_once)
    unrelated = many(1, 11 << 24, 3)
    backend.apply(unrelated, Volatile())
    assert open_descriptors() == before
    assert in_force(backend, unrelated)
    backend.apply(many(rules), Volatile())
    assert in_force(backend, many(rules))
    assert open_descriptors() == before


@pytest.mark.parametrize("part", [1, 3, 4])
@pytest.mark.parametrize("rules", [FEW, MANY])
def test_bans_and_repairs_keep_what_is_prepared(
    backend: XdpBackend, images: list[int], rules: int, part: int
) -> None:
    """A ban during the preparation is in force at once, and after the switch."""
    wanted, before = many(rules), backend._classifier
    assert before is not None
    volatile = Volatile()

    def interrupt() -> None:
        nonlocal volatile
        ban = InForce(Origin("dynamic", "", "d"), parse_filter("*=0:9:UDP"), Action.BLOCK)
        volatile, delta = volatile.changed(add=[(row, inf) for row in rows_of([ban])])
        backend.change(delta, volatile)
        assert in_force(backend, Classifier())
        backend.apply(before, volatile)
        assert len(backend.volatile_counts()) == 2

    backend.prepare(wanted, after(part, interrupt))
    assert len(images) == 1
    backend.apply(wanted, volatile)
    assert len(images) == 1
    assert in_force(backend, wanted)
    assert len(backend.volatile_counts()) == 2


def test_lines_are_made_beside_the_line_of_the_engine(backend: XdpBackend) -> None:
    """While they are, whatever has to be done in the line is done."""
    volatile = Volatile()
    line_is_free = threading.Lock()
    banned = 0

    def line(work: Callable[[], T]) -> T:
        with line_is_free:
            return work()

    def ban(_: Progress) -> None:
        nonlocal banned
        banned += 1
        rule = InForce(
            Origin("dynamic", "", f"d{banned}"), parse_filter(f"*=0:{banned}:UDP"), Action.BLOCK
        )
        assert line_is_free.acquire(blocking=False)
        try:
            backend.change(volatile.change(add=rows_of([rule])), volatile)
        finally:
            line_is_free.release()

    wanted = with_hosts(many(FEW), 10)
    backend.prepare(wanted, line, ban)
    assert banned
    backend.apply(wanted, volatile)
    assert in_force(backend, wanted)
    assert len(backend.volatile_counts()) == 2 * banned


@pytest.mark.parametrize("rules", [FEW, MANY])
def test_an_unrelated_state_ends_a_preparation_that_is_under_way(
    backend: XdpBackend, rules: int
) -> None:
    """What was wanted is then written as a whole, and nothing is left of the first try."""
    wanted, unrelated = many(rules), many(3, 11 << 24, 3)
    before = open_descriptors_at_first()
    backend.prepare(wanted, after(2, lambda: backend.apply(unrelated, Volatile())))
    assert in_force(backend, unrelated)
    backend.apply(wanted, Volatile())
    assert in_force(backend, wanted)
    assert open_descriptors() == before


@pytest.mark.parametrize("hosts", [3, 100, 8 * SPARE_LINES])
def test_containers_that_came_meanwhile_are_in_force(
    backend: XdpBackend, images: list[int], hosts: int
) -> None:
    """A few find room beside what is prepared; with many, all is written anew."""
    prepared, wanted = many(FEW), with_hosts(many(FEW), hosts)
    backend.prepare(prepared, at_once)
    backend.apply(wanted, Volatile())
    assert in_force(backend, wanted)
    assert len(images) == 1 + (hosts > SPARE_LINES)
    backend.apply(prepared, Volatile())
    assert in_force(backend, prepared)


def test_a_preparation_that_outlives_its_programs_is_given_up(backend: XdpBackend) -> None:
    """As when drift was found, and maps and programs are made anew."""
    wanted, before = many(FEW), backend._classifier
    assert before is not None

    def replace() -> None:
        backend._drifted = True
        backend.apply(before, Volatile())

    for part in (1, 2, 3, 4):
        descriptors_before = open_descriptors_at_first()
        backend.prepare(wanted, after(part, replace))
        backend.discard()
        assert open_descriptors() == descriptors_before
    backend.apply(wanted, Volatile())
    assert in_force(backend, wanted)


@pytest.mark.parametrize("rules", [FEW, MANY])
def test_a_withdrawal_ends_a_preparation_that_is_under_way(backend: XdpBackend, rules: int) -> None:
    """Nothing is left of it, although nobody discards it."""
    backend.remove()
    before = open_descriptors_at_first()
    backend.apply(Classifier(), Volatile())
    backend.prepare(many(rules), after(3, backend.remove))
    assert open_descriptors() == before


@pytest.mark.parametrize("rules", [FEW, MANY])
def test_a_refused_preparation_leaves_what_is_in_force(
    backend: XdpBackend, monkeypatch: pytest.MonkeyPatch, rules: int
) -> None:
    """Whichever call is refused, nothing of it is left, and the state can be tried again."""
    wanted, before = many(rules), open_descriptors_at_first()
    refused, number = 0, 0
    with monkeypatch.context() as patch:
        faults = Faults(patch)
        while number < 200:
            faults.calls_left, faults.error = number, OSError(errno.ENOMEM, "no memory")
            try:
                backend.prepare(wanted, at_once)
            except BackendFailed:
                refused += 1
                number += 1 if number < 5 else 7
                backend.discard()
                assert open_descriptors() == before
                assert in_force(backend, Classifier())
            else:
                break
        faults.calls_left = -1
    assert refused > 1
    backend.apply(wanted, Volatile())
    assert in_force(backend, wanted)


@pytest.mark.parametrize("rules", [FEW, MANY])
def test_a_refused_switch_leaves_what_is_in_force(
    backend: XdpBackend, monkeypatch: pytest.MonkeyPatch, rules: int
) -> None:
    """What was prepared for it is gone then, and the next try writes all of it."""
    old, wanted = many(FEW, 12 << 24), many(rules)
    backend.apply(old, Volatile())
    before = open_descriptors_at_first()
    refused, number = 0, 0
    with monkeypatch.context() as patch:
        faults = Faults(patch)
        while number < 200:
            backend.prepare(wanted, at_once)
            faults.calls_left, faults.error = number, OSError(errno.ENOMEM, "no memory")
            try:
                backend.apply(wanted, Volatile())
            except IpsecdError:
                faults.calls_left = -1
                refused += 1
                backend.discard()
                assert in_force(backend, old)
                assert open_descriptors() == before
            if faults.calls_left >= 0:
                break
            if backend._classifier is not old:
                backend.apply(old, Volatile())
            number += 1 if rules == FEW else 5
        faults.calls_left = -1
    assert refused > 1
    assert in_force(backend, wanted)


@pytest.mark.parametrize("rules", [FEW, MANY])
def test_a_crash_after_or_in_a_preparation_leaves_something_whole(
    backend: XdpBackend, monkeypatch: pytest.MonkeyPatch, rules: int
) -> None:
    """Whenever the daemon dies, the next one has the old policy or the new, and tidies up."""
    old, wanted = many(FEW, 12 << 24), many(rules)
    crashes, number = 0, 0
    with monkeypatch.context() as patch:
        faults = Faults(patch)
        while faults.calls_left < 0:
            dying = XdpBackend(DIRECTORY)
            dying.apply(old, Volatile())
            faults.calls_left, faults.error = number, Crash()
            with suppress(Crash):
                dying.prepare(wanted, at_once)
                dying.apply(wanted, Volatile())
            crashes += faults.calls_left < 0
            number += 2 if rules == FEW else 20
            dying.close()
            assert XdpBackend(DIRECTORY).observe().digest in {old.digest, wanted.digest}
            assert "xdp" in run("ip", "link", "show", "early0")
        faults.calls_left = -1
    assert crashes > 2
    backend.apply(old, Volatile())
    assert in_force(backend, old)
    assert len(list(DIRECTORY.glob("maps-*"))) == 1
