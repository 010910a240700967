"""The nftables backend itself: what it leaves, what it keeps, and what it notices."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from math import inf

import pytest

from ipsecd.backend.base import Observation
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.wire import Message
from ipsecd.compiler.classifier import Classifier, pack
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.tables import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import BackendFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from tests.netns import site
from tests.netns.site import HERE4, delivered, run

pytestmark = pytest.mark.netns


@pytest.fixture
def backend() -> Iterator[NftablesBackend]:
    site.needs_isolation()
    made = NftablesBackend()
    yield made
    made.remove()
    made.close()


def policy(*texts: str, names: tuple[str, ...] = ("R",)) -> Classifier:
    return compile_filters(
        InForce(Origin("static", "P", name), parse_filter(text), Action.BLOCK)
        for text in texts
        for name in names
    )


def names(kind: str) -> set[str]:
    listed = json.loads(run("nft", "-j", "list", "table", "inet", "ipsecd"))["nftables"]
    return {item[kind]["name"] for item in listed if kind in item}


def test_a_flush_of_any_set_is_noticed_and_put_right() -> None:
    """Where others can change the table, elements that are not compared count as changed too."""
    site.needs_isolation()
    watched = NftablesBackend(protect=False)
    volatile = Volatile()
    watched.apply(policy("*=0:1:UDP"), volatile)
    blocked = InForce(Origin("dynamic", "", "d"), parse_filter("10.0.0.1=0"), Action.BLOCK)
    watched.change(volatile.change(add=rows_of([blocked])), volatile)
    (dynamic,) = [name for name in names("set") if name.startswith("dynamic_")]
    for name in (dynamic, "protocols_with_transport_ip4", "dialup_types"):
        assert watched.observe().drift == ()
        run("nft", "flush", "set", "inet", "ipsecd", name)
        assert watched.changed()
        assert watched.observe().drift != ()
        watched.apply(policy("*=0:1:UDP"), volatile)
        assert not watched.changed()
    listed = json.loads(run("nft", "-j", "list", "table", "inet", "ipsecd"))["nftables"]
    held = {i["set"]["name"]: len(i["set"].get("elem", [])) for i in listed if "set" in i}
    assert held["protocols_with_transport_ip4"] == 6
    assert held["dialup_types"] == 6
    assert sum(count for name, count in held.items() if name.startswith("dynamic_")) == 1
    watched.remove()
    watched.close()


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
        assert backend.counts().keys() == many.origins
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


def test_counts_survive_a_policy_change_and_a_restart(backend: NftablesBackend) -> None:
    """A rule that stays keeps its count when others change, and when the daemon is replaced."""
    with site.wire():
        origin = Origin("static", "P", "R")
        backend.apply(policy("*=0:1434:UDP"), Volatile())
        assert delivered(HERE4, 1434) == 0
        assert backend.counts()[origin].packets == 5
        backend.apply(policy("*=0:1434:UDP", "*=0:9:UDP"), Volatile())
        assert delivered(HERE4, 1434) == 0
        assert backend.counts()[origin].packets == 10
        backend.close()
        backend.__init__()  # type: ignore[misc]
        backend.apply(policy("*=0:1434:UDP"), Volatile())
        assert backend.counts()[origin].packets == 10


def test_a_policy_change_does_not_touch_dynamic_sets(backend: NftablesBackend) -> None:
    """The sets of dynamic rules, with their counts, stay as they are when the policy changes."""
    volatile = Volatile()
    backend.apply(policy("*=0:1:UDP"), volatile)
    one = InForce(Origin("dynamic", "", "d"), parse_filter("203.0.113.7=0"), Action.BLOCK)
    backend.change(volatile.change(add=rows_of([one])), volatile)
    before = {name for name in names("set") if name.startswith("dynamic_")}
    backend.apply(policy("*=0:2:UDP"), volatile)
    assert {name for name in names("set") if name.startswith("dynamic_")} == before
    backend.apply(policy(), volatile)
    assert {name for name in names("set") if name.startswith("dynamic_")} == before
    backend.change(volatile.change(remove=[one.origin]), volatile)
    assert not {name for name in names("set") if name.startswith("dynamic_")}
    assert backend.observe().drift == ()


@pytest.mark.parametrize(
    "tampering",
    [
        "delete table inet ipsecd",
        "flush chain inet ipsecd arriving",
        "add rule inet ipsecd arriving accept",
        "insert rule inet ipsecd arriving_ip4_me accept",
        "flush chain inet ipsecd delivered",
        "insert rule inet ipsecd delivered_ip6 accept",
        "flush set inet ipsecd {set}",
        "add chain inet ipsecd more",
    ],
)
def test_every_foreign_change_is_noticed(tampering: str) -> None:
    """Where the kernel does not keep others out, what they change is seen and put right."""
    site.needs_isolation()
    backend = NftablesBackend(protect=False)
    wanted = policy("*=0:1:UDP", "10.0.0.0/8=0:2:UDP")
    backend.apply(wanted, Volatile())
    backend.changed()
    assert backend.observe().drift == ()
    one = min(name for name in names("set") if name.startswith("policy_block_ip4"))
    run("nft", tampering.format(set=one))
    assert backend.changed()
    assert backend.observe().drift
    backend.apply(wanted, Volatile())
    assert backend.observe().drift == ()
    backend.remove()
    backend.close()


def test_a_time_to_live_can_be_renewed_and_ended(backend: NftablesBackend) -> None:
    """The same filter again with another deadline replaces the element, in one transaction."""
    volatile = Volatile()
    backend.apply(policy(), volatile)
    origin = Origin("dynamic", "", "d")
    one = InForce(origin, parse_filter("203.0.113.7=0"), Action.BLOCK)
    now = time.monotonic()
    for deadline in (now + 100, now + 1000, inf, now + 50):
        delta = volatile.change(remove=[origin], add=rows_of([one]), deadline=deadline)
        backend.change(delta, volatile)
    listed = run("nft", "list", "table", "inet", "ipsecd")
    assert "timeout 50s" in listed or "timeout 49s" in listed
    assert listed.count("203.0.113.7") == 1


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
    commit, calls = backend._commit, 0

    def fail_once(steps: list[Message]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise BackendFailed("no", "")
        commit(steps)

    monkeypatch.setattr(backend, "_commit", fail_once)
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
