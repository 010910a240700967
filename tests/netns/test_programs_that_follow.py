"""At a start nftables judges alone until programs are filled, and what is old is not in the way."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import TypeVar

import pytest

from ipsecd.backend import combined
from ipsecd.backend.base import UNREADABLE, Count
from ipsecd.backend.choice import withdraw_all
from ipsecd.backend.combined import AWAITED, NftablesWithPrograms
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.backend.xdp.expansion import LONG, takes_long
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.engine.accounts import Rules, read_anew, total
from ipsecd.errors import BackendFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from tests.counts import counts_of
from tests.engine.test_lists import entries
from tests.netns import site
from tests.netns.site import BPFFS, HERE4, PEER4, delivered, eventually, run
from tests.netns.test_lists import blocking, hosts

pytestmark = pytest.mark.netns
T = TypeVar("T")

LISTED = {"drop": entries(PEER4)}
STATE = blocking(LISTED, "@drop=0:1434:UDP")
OTHER = blocking(LISTED, "@drop=0:1435:UDP")


class Site:
    """A host on which one process after the other enforces."""

    def __init__(self) -> None:
        self.made = 0
        self.begin()

    def begin(self) -> None:
        """A process that takes what was left and puts programs off."""
        self.backend = NftablesWithPrograms(
            "xdp", NftablesBackend(), lambda: XdpBackend(BPFFS, alone=False), required=True
        )

    def start(self, classifier: Classifier = STATE) -> None:
        self.backend.put_off_programs()
        self.backend.apply(classifier, Volatile())

    def leave(self, classifier: Classifier) -> None:
        """Have a process in force with all programs, which dies."""
        self.backend.apply(classifier, Volatile())
        self.backend.close()
        self.begin()

    @property
    def is_awaiting(self) -> bool:
        return AWAITED in self.backend.probe()

    @property
    def is_attached(self) -> bool:
        return "xdp" in json.loads(run("ip", "-j", "link", "show", "wire0"))[0]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site.needs_isolation()
    monkeypatch.setattr(combined, "takes_long", lambda _: True)
    with site.wire():
        made = Site()
        yield made
        made.backend.close()
        withdraw_all(BPFFS)


def at_once(work: Callable[[], T]) -> T:
    return work()


def passes(*ports: int) -> list[bool]:
    return [bool(delivered(HERE4, port)) for port in ports]


def kept_anew(host: Site, kept: Rules) -> Rules:
    """What is kept of the counts of rules once they have been read again."""
    return read_anew(kept, host.backend.readings(kept), (), 1.0)


def packets_of(kept: Rules) -> int:
    """How many packets all rules have matched."""
    return sum(total(each).packets for origin, each in kept.items() if origin != UNREADABLE)


def banned(port: int) -> tuple[Delta, Volatile]:
    """A dynamic block of a port."""
    rule = InForce(Origin("dynamic", "d", "d"), parse_filter(f"*=0:{port}:UDP"), Action.BLOCK)
    volatile = Volatile()
    return volatile.carry_out([], [(row, inf) for row in rows_of([rule])]), volatile


def test_nftables_judges_until_programs_are_there(host: Site) -> None:
    """Which is no failure, and is said; then they hold the same."""
    host.start()
    assert (host.is_awaiting, host.is_attached, host.backend.failures) == (True, False, ())
    assert host.backend.observe().drift == ()
    assert passes(1434, 1435) == [False, True]
    assert host.backend.load_programs(at_once)
    assert (host.is_awaiting, host.is_attached, host.backend.failures) == (False, True, ())
    assert host.backend.observe().drift == ()
    assert passes(1434, 1435) == [False, True]
    assert set(counts_of(host.backend).values()) == {Count(10, 480)}
    assert not host.backend.load_programs(at_once)


def test_what_is_short_is_put_in_force_at_once(host: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is every state but the first, though nobody has asked for programs to follow."""
    monkeypatch.setattr(combined, "takes_long", takes_long)
    host.start()
    assert (host.is_awaiting, host.is_attached) == (False, True)
    monkeypatch.setattr(combined, "takes_long", lambda _: True)
    host.backend.apply(OTHER, Volatile())
    assert (host.is_awaiting, host.is_attached) == (False, True)
    assert passes(1434, 1435) == [True, False]


def test_long_is_what_has_many_keys() -> None:
    """Whether of lists or of filters."""
    assert not takes_long(STATE)
    assert not takes_long(blocking({"drop": hosts(10 << 24, LONG)}, "@drop=0"))
    assert takes_long(blocking({"drop": hosts(10 << 24, LONG + 1)}, "@drop=0"))
    assert takes_long(blocking({"drop": hosts(10 << 24, LONG)}, "@drop=0", "0=@drop"))


def test_programs_of_the_same_state_stay_until_others_take_their_place(host: Site) -> None:
    """They go on dropping and counting, and what they counted is never missing."""
    host.leave(STATE)
    host.start()
    assert (host.is_awaiting, host.is_attached) == (True, True)
    assert passes(1434, 1435) == [False, True]
    assert set(counts_of(host.backend).values()) == {Count(5, 240)}
    host.backend.load_programs(at_once)
    assert host.is_attached
    assert set(counts_of(host.backend).values()) == {Count(5, 240)}
    assert passes(1434, 1435) == [False, True]


def test_what_programs_counted_that_were_left_counts_once(host: Site) -> None:
    """As the engine keeps it, while others follow and when they are there."""
    counted = kept_anew(host, {})
    host.backend.apply(STATE, Volatile())
    counted = kept_anew(host, counted)
    assert passes(1434) == [False]
    counted = kept_anew(host, counted)
    host.leave(STATE)
    assert passes(1434) == [False]
    host.start()
    assert host.is_awaiting
    counted = kept_anew(host, counted)
    assert packets_of(counted) == 10
    assert passes(1434) == [False]
    host.backend.load_programs(at_once)
    counted = kept_anew(host, counted)
    assert packets_of(counted) == 15
    assert passes(1434) == [False]
    assert packets_of(kept_anew(host, counted)) == 20


@pytest.mark.parametrize("by", ["a change", "another policy", "a withdrawal"])
def test_what_programs_counted_is_kept_when_they_are_taken_away(host: Site, by: str) -> None:
    """Also what they counted after it was read the last time."""
    host.leave(STATE)
    assert passes(1434) == [False]
    host.begin()
    if by == "another policy":
        host.start(OTHER)
    else:
        host.start()
    counted = {} if by == "another policy" else kept_anew(host, {})
    if by == "a change":
        assert passes(1434) == [False]
        host.backend.change(*banned(1436))
    elif by == "a withdrawal":
        assert passes(1434) == [False]
        host.backend.remove()
    assert not host.is_attached
    counted = kept_anew(host, counted)
    assert packets_of(counted) == (5 if by == "another policy" else 10)
    assert packets_of(kept_anew(host, counted)) == packets_of(counted)


def test_programs_of_another_state_are_taken_away(host: Site) -> None:
    """What they would drop is permitted now."""
    host.leave(OTHER)
    assert passes(1434, 1435) == [True, False]
    host.start()
    assert (host.is_awaiting, host.is_attached) == (True, False)
    assert passes(1434, 1435) == [False, True]
    host.backend.load_programs(at_once)
    assert host.is_attached


def test_programs_that_were_left_go_with_the_first_change(host: Site) -> None:
    """Of dynamic rules or of the policy: they know of none. Others follow, and hold both."""
    host.leave(STATE)
    host.start()
    host.backend.change(*banned(1436))
    assert (host.is_awaiting, host.is_attached) == (True, False)
    assert passes(1434, 1435, 1436) == [False, True, False]
    host.backend.load_programs(at_once)
    assert host.is_attached
    assert host.backend.observe().drift == ()
    host.backend.nftables.remove()
    assert passes(1434, 1435, 1436) == [False, True, False]


def test_what_changes_while_programs_are_made_is_in_force_in_them(host: Site) -> None:
    """Another policy, and dynamic rules."""
    host.start()
    delta, volatile = banned(1436)
    changes = [
        lambda: host.backend.apply(OTHER, Volatile()),
        lambda: host.backend.change(delta, volatile),
    ]

    def with_changes(work: Callable[[], T]) -> T:
        result = work()
        while changes and host.is_awaiting:
            changes.pop(0)()
        return result

    assert host.backend.load_programs(with_changes)
    assert not changes
    assert host.backend.observe().drift == ()
    host.backend.nftables.remove()
    assert passes(1434, 1435, 1436) == [True, False, False]


@pytest.mark.parametrize("moment", ["made", "attached"])
def test_programs_that_cannot_follow_are_a_failure(
    host: Site, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Nothing of the old ones is left, nftables judges, and the next change tries them again."""
    host.leave(STATE)
    host.start()

    def fail(*_: object) -> None:
        raise BackendFailed("the kernel has no room")

    with monkeypatch.context() as patched:
        patched.setattr(Programs, "apply" if moment == "made" else "pin", fail)
        assert not host.backend.load_programs(at_once)
    assert (host.is_awaiting, host.is_attached) == (False, False)
    assert "the kernel has no room" in host.backend.failures[0]
    assert passes(1434, 1435) == [False, True]
    host.backend.apply(STATE, Volatile())
    assert (host.backend.failures, host.is_attached) == ((), True)


@pytest.mark.parametrize("end", ["withdrawn", "exchanged"])
def test_programs_that_are_wanted_no_more_do_not_follow(host: Site, end: str) -> None:
    """What was made of them is given back."""
    host.leave(STATE)
    host.start()
    ended: list[bool] = []

    def with_end(work: Callable[[], T]) -> T:
        result = work()
        if not ended:
            ended.append(True)
            if end == "withdrawn":
                host.backend.remove()
            else:
                state = (STATE, Volatile())
                host.backend.exchange_programs("nftables", None, state, required=False)
        return result

    assert not host.backend.load_programs(with_end)
    assert (host.is_awaiting, host.is_attached) == (False, False)
    assert host.backend.failures == ()
    assert passes(1434) == [end == "withdrawn"]


def test_others_can_be_exchanged_for_those_that_are_awaited(host: Site) -> None:
    """They take over from what an earlier process left."""
    host.leave(STATE)
    host.start()
    host.backend.exchange_programs(
        "guard",
        lambda: XdpBackend(BPFFS, alone=False, xdp=False),
        (STATE, Volatile()),
        required=False,
    )
    assert (host.is_awaiting, host.is_attached) == (False, False)
    assert host.backend.observe().drift == ()
    assert not host.backend.load_programs(at_once)
    assert passes(1434, 1435) == [False, True]


def test_a_daemon_serves_before_its_programs_are_filled(tmp_path: Path) -> None:
    """And has them follow by itself; with a long list, after it was killed likewise."""
    site.needs_isolation()
    with site.daemon(tmp_path, "xdp") as daemon:
        path = tmp_path / "etc" / "lists"
        path.mkdir(parents=True, exist_ok=True)
        text = "".join(
            f"{socket.inet_ntoa(n.to_bytes(4))}\n" for n in range(1 << 27, (1 << 27) + LONG)
        )
        (path / "drop").write_text(f"{text}{PEER4}\n", encoding="ascii")
        daemon.ctl("reload")
        site.block(daemon, "@drop=0:1434:UDP")
        daemon.end(signal.SIGKILL)
        daemon.start()
        assert passes(1434, 1435) == [False, True]
        assert eventually(lambda: "programs-in-force" in daemon.log())
        assert "programs follow" not in daemon.ctl("status", "--json")
        assert passes(1434, 1435) == [False, True]
