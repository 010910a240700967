"""The nftables backend itself: what it leaves, what it keeps, and what it notices."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ipsecd.backend.base import Observation
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.failures import commit
from ipsecd.backend.nftables.wire import Message, NftSocket
from ipsecd.compiler.classifier import Classifier, pack
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import BackendFailed
from ipsecd.language.address_lists import read_addresses
from ipsecd.language.filters import parse_filter
from ipsecd.model.counted_lists import with_counting
from ipsecd.model.values import Action, InForce, Origin
from tests.counts import counts_of
from tests.netns import site
from tests.netns.site import run

pytestmark = pytest.mark.netns


@pytest.fixture
def backend() -> Iterator[NftablesBackend]:
    site.needs_isolation()
    nftables = NftablesBackend()
    yield nftables
    nftables.remove()
    nftables.close()


def policy(*texts: str, names: tuple[str, ...] = ("R",)) -> Classifier:
    return compile_filters(
        InForce(Origin("static", "P", name), parse_filter(text), Action.BLOCK)
        for text in texts
        for name in names
    )


def names(kind: str) -> set[str]:
    listed = json.loads(run("nft", "-j", "list", "table", "inet", "ipsecd"))["nftables"]
    return {item[kind]["name"] for item in listed if kind in item}


def test_what_a_crash_left_is_cleaned_up(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the switch and the cleaning up, the next process leaves nothing behind."""

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    backend.apply(policy("*=0:1:UDP"), Volatile())
    monkeypatch.setattr(backend, "_clean_up", die)
    with pytest.raises(Killed):
        backend.apply(policy("*=0:2:UDP", names=("other",)), Volatile())
    monkeypatch.undo()
    assert len([name for name in names("set") if name.startswith("policy_")]) == 4
    backend.close()
    following = NftablesBackend()
    following.apply(policy("*=0:3:UDP"), Volatile())
    assert len([name for name in names("set") if name.startswith("policy_")]) == 2
    assert len([name for name in names("counter") if name.startswith("rule_")]) == 1
    assert following.observe().drift == ()
    following.remove()
    following.close()
    backend.__init__()  # type: ignore[misc]


@pytest.mark.timeout(280)
def test_a_hundred_thousand_rules_take_the_place_of_as_many_others(
    backend: NftablesBackend,
) -> None:
    """Each has its counter, those that went have none, and nothing of it is refused."""
    count = 100_000
    blocked = InForce(Origin("static", "P", "R"), parse_filter("10.0.0.0=0"), Action.BLOCK)
    (row,) = rows_of([blocked])
    for start in (0, count // 2):
        entries = {
            (10 << 24 | number).to_bytes(4, "big"): Origin("static", "P", f"rule {number}")
            for number in range(start, start + count)
        }
        many = Classifier((pack(row.table, entries),))
        backend.apply(many, Volatile())
        assert backend.observe() == Observation(many.digest)
        assert counts_of(backend).keys() == many.origins
    assert len(backend._reader.counters()) == count + 1


def test_two_daemons_do_not_share_a_table(backend: NftablesBackend) -> None:
    """A table that another process owns is refused by name, and left alone."""
    if "owned" not in backend.probe():
        pytest.skip("this kernel has no tables that are owned (before Linux 6.9)")
    backend.apply(policy("*=0:1:UDP"), Volatile())
    before = run("nft", "list", "table", "inet", "ipsecd")
    second = NftablesBackend()
    with pytest.raises(BackendFailed, match="ipsecd"):
        second.apply(policy("*=0:2:UDP"), Volatile())
    second.close()
    assert run("nft", "list", "table", "inet", "ipsecd") == before


def test_a_policy_change_does_not_touch_dynamic_sets(backend: NftablesBackend) -> None:
    """The sets of dynamic rules, with their counts, stay as they are when the policy changes."""
    volatile = Volatile()
    backend.apply(policy("*=0:1:UDP"), volatile)
    rule = InForce(Origin("dynamic", "", "d"), parse_filter("203.0.113.7=0"), Action.BLOCK)
    backend.change(volatile.change(add=rows_of([rule])), volatile)
    before = {name for name in names("set") if name.startswith("dynamic_")}
    backend.apply(policy("*=0:2:UDP"), volatile)
    assert {name for name in names("set") if name.startswith("dynamic_")} == before
    backend.apply(policy(), volatile)
    assert {name for name in names("set") if name.startswith("dynamic_")} == before
    backend.change(volatile.change(remove=[rule.origin]), volatile)
    assert not {name for name in names("set") if name.startswith("dynamic_")}
    assert backend.observe().drift == ()


def test_a_failure_to_look_back_does_not_deny_a_change(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in force is in force, even if it cannot be read back at that moment."""
    backend.apply(policy("*=0:1:UDP"), Volatile())

    def fail() -> str:
        raise BackendFailed("no", "")

    with monkeypatch.context() as patch:
        patch.setattr(backend._reader, "fingerprint", fail)
        backend.apply(policy("*=0:2:UDP"), Volatile())
    assert backend.observe().drift
    backend.apply(policy("*=0:2:UDP"), Volatile())
    assert backend.observe().drift == ()


def test_a_replacement_that_fails_half_way_leaves_the_old_rule(
    backend: NftablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes in the place of something is taken back if that cannot go."""
    volatile = Volatile()
    backend.apply(policy("*=0:1:UDP"), volatile)

    def rule(text: str) -> InForce:
        return InForce(Origin("dynamic", "", "d"), parse_filter(text), Action.BLOCK)

    old, new = rule("10.0.0.1=0"), rule("10.0.0.0/24=0")
    backend.change(volatile.change(add=rows_of([old])), volatile)
    held = set(backend.volatile_counts())
    calls = 0

    def fail_once(socket: NftSocket, steps: list[Message]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise BackendFailed("no", "")
        commit(socket, steps)

    monkeypatch.setattr("ipsecd.backend.nftables.backend.commit", fail_once)
    delta = volatile.change(remove=[old.origin], add=rows_of([new]))
    with pytest.raises(BackendFailed):
        backend.change(delta, volatile)
    assert calls == 3
    assert set(backend.volatile_counts()) == held
    volatile.change(remove=[new.origin], add=rows_of([old]))
    backend.change(volatile.change(remove=[old.origin], add=rows_of([new])), volatile)
    assert len(backend.volatile_counts()) == 1
    assert set(backend.volatile_counts()) != held
    assert backend.observe().drift == ()


def test_the_kernel_takes_the_longest_way_of_a_packet(backend: NftablesBackend) -> None:
    """It is audited and dropped by pairs of lists that count, behind many tables, and told of."""
    texts = [f"10.0.0.0/{length}" for length in range(9, 14)]
    addresses = with_counting(read_addresses(texts), counts=True)
    filters = [
        InForce(Origin("static", "P", f"{action.value} {text}"), parse_filter(text), action)
        for action, text in (
            *((Action.AUDIT, f"@a:{port}=@b:{port}:TCP") for port in (1, 2)),
            *((Action.BLOCK, text) for text in ("@a=@b", "@a=0", "*=0:9:TCP", "0=@b")),
        )
    ]
    backend.reporting.set_budget(10)
    try:
        backend.apply(compile_filters(filters, lists={"a": addresses, "b": addresses}), Volatile())
    finally:
        backend.reporting.set_budget(0)
    assert backend.observe().drift == ()
    assert len(backend.entry_counts(lambda *_: True)) == 2 * len(texts)
