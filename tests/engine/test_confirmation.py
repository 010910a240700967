"""Tests of changes that have to be confirmed: unless somebody does, the state before returns."""

from __future__ import annotations

import errno
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from ipsecd.errors import BackendFailed, IpsecdError, NotFound, Refused, StoreFailed
from ipsecd.language.documents import format_policy
from tests.engine.changing_host import (
    AFTER,
    BEFORE,
    CONFIRM_S,
    MORE,
    OTHER,
    FullDisk,
    Host,
    fateful_host,
)
from tests.engine.effects import Crash


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.apply(BEFORE, None)
    return host


POLICY_CHANGES: dict[str, Callable[[Host], object]] = {
    "replace": lambda host: host.apply(AFTER),
    "create": lambda host: host.apply(MORE),
    "delete": lambda host: host.call(
        "DeletePolicy", name="A", unassign=True, missing_ok=False, confirm_s=CONFIRM_S
    ),
    "unassign": lambda host: host.call("UnassignPolicy", confirm_s=CONFIRM_S),
    "rule": lambda host: host.call(
        "RemoveRules", policy="A", rules=["R"], delete_empty=False, confirm_s=CONFIRM_S
    ),
}
DYNAMIC_CHANGES: dict[str, Callable[[Host], object]] = {
    "block": lambda host: host.block("192.0.2.9=0", confirm_s=CONFIRM_S),
    "renew": lambda host: host.block("192.0.2.1=0", 45.0, confirm_s=CONFIRM_S),
    "unblock": lambda host: host.call(
        "RemoveDynamicRules", selectors=["192.0.2.1=0"], confirm_s=CONFIRM_S
    ),
    "flush": lambda host: host.call("FlushDynamic", confirm_s=CONFIRM_S),
    "quarantine": lambda host: host.call(
        "Quarantine", who="0", permits=[], ttl_s=None, confirm_s=CONFIRM_S
    ),
}
CHANGES = POLICY_CHANGES | DYNAMIC_CHANGES


def with_rules(host: Host) -> None:
    host.block("192.0.2.1=0", 3600.0)
    host.block("192.0.2.2=0")


@pytest.mark.parametrize("name", CHANGES)
def test_without_confirmation_the_state_before_returns(host: Host, name: str) -> None:
    """Exactly, with the ends of dynamic rules, and not before the time is over."""
    with_rules(host)
    before = host.state()
    CHANGES[name](host)
    after = host.state()
    assert after != before
    host.wait(CONFIRM_S - 1)
    host.engine.confirmation.put_back_if_due()
    assert (host.state(), host.pending) == (after, True)
    host.wait(2)
    host.engine.confirmation.put_back_if_due()
    assert (host.state(), host.pending) == (before, False)
    last = host.engine.confirmation.last
    assert last is not None
    assert "put back: nobody confirmed it in time" in last.sentence


@pytest.mark.parametrize("name", CHANGES)
def test_a_confirmed_change_stays(host: Host, name: str) -> None:
    """Nothing happens when the time is over."""
    with_rules(host)
    CHANGES[name](host)
    after = host.state()
    host.call("Confirm", login=OTHER)
    host.pass_deadline()
    assert (host.state(), host.pending) == (after, False)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_can_be_put_back_at_once(host: Host, name: str) -> None:
    """Nobody has to wait for the time to be over."""
    with_rules(host)
    before = host.state()
    CHANGES[name](host)
    host.call("Revert")
    assert (host.state(), host.pending) == (before, False)


@pytest.mark.parametrize("name", CHANGES)
def test_a_kill_in_between_confirms_nothing(host: Host, name: str) -> None:
    """The next process goes on counting, and puts the change back when the time is over."""
    with_rules(host)
    before = host.state()
    CHANGES[name](host)
    after = host.state()
    host.wait(CONFIRM_S / 2)
    host.killed()
    assert (host.state(), host.pending) == (after, True)
    assert host.engine.confirmation.left_s() == CONFIRM_S / 2
    host.pass_deadline()
    assert (host.state(), host.pending) == (before, False)


@pytest.mark.parametrize("name", CHANGES)
def test_a_process_that_starts_too_late_puts_the_change_back(host: Host, name: str) -> None:
    """It does so before it takes a call."""
    with_rules(host)
    before = host.state()
    CHANGES[name](host)
    host.wait(CONFIRM_S + 1)
    host.killed()
    assert (host.state(), host.pending) == (before, False)


@pytest.mark.parametrize("name", POLICY_CHANGES)
def test_a_reboot_confirms_nothing(host: Host, name: str) -> None:
    """What is enforced at boot is what was before, although the time is not over."""
    before = host.state()
    POLICY_CHANGES[name](host)
    assert host.reboot().boot()
    assert host.engine.backend.observe().digest == before[4]
    assert (host.path / "lib/unconfirmed").exists()
    host.killed()
    assert (host.state(), host.pending) == (before, False)


def test_a_reboot_ends_dynamic_rules_and_the_time_to_confirm_them(host: Host) -> None:
    """No rule of an earlier boot comes back."""
    with_rules(host)
    DYNAMIC_CHANGES["flush"](host)
    host.reboot()
    host.killed()
    assert not host.engine.dynamic
    assert not host.pending


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_wall_clock_means_nothing(
    host: Host, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sets it, by an hour back or forth, neither ends the time nor prolongs it."""
    before = host.state()
    host.apply(AFTER)
    now = 1.8e9 + hours * 3600
    monkeypatch.setattr("time.time", lambda: now)
    host.killed()
    assert host.engine.confirmation.left_s() == CONFIRM_S
    host.pass_deadline()
    assert host.state() == before


def test_the_time_runs_while_the_host_sleeps(host: Host) -> None:
    """The clock of processes stands still then; that of the boot does not."""
    before = host.state()
    host.apply(AFTER)
    host.boottime.now += CONFIRM_S
    host.engine.confirmation.put_back_if_due()
    assert host.state() == before


def test_a_full_disk_keeps_nothing_from_being_put_back(host: Host) -> None:
    """It is in force as before at once, on disk as soon as that is possible, and said meanwhile."""
    before = host.state()
    host.apply(MORE)
    disk = host.disk
    assert isinstance(disk, FullDisk)
    disk.is_full = True
    host.pass_deadline()
    assert host.state()[2:] == before[2:]
    assert host.state() != before
    assert host.pending
    assert any("cannot be put back for now" in text for text in host.engine.warnings)
    # The next process finds the same, whether the disk is full still or not.
    host.killed()
    assert host.state()[2:] == before[2:]
    disk.is_full = False
    host.pass_deadline()
    assert (host.state(), host.pending) == (before, False)
    assert host.engine.warnings == ()


def test_a_kernel_that_refuses_is_asked_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it takes it, status says that the change could not be put back."""
    before = host.state()
    host.apply(AFTER)

    def refuse(*_: object) -> None:
        raise BackendFailed("no", "try again")

    with monkeypatch.context() as patch:
        patch.setattr(host.engine.backend, "apply", refuse)
        host.pass_deadline()
        assert host.pending
        assert any("cannot be put back for now: no" in text for text in host.engine.warnings)
    assert host.engine.confirmation.due_in() == 5.0
    host.wait(5)
    host.engine.confirmation.put_back_if_due()
    assert (host.state(), host.pending) == (before, False)


def test_rules_that_ended_meanwhile_are_over(host: Host) -> None:
    """A rule that would have ended while the change waited does not come back."""
    host.block("192.0.2.1=0", CONFIRM_S / 2)
    host.block("192.0.2.2=0", 3600.0)
    DYNAMIC_CHANGES["flush"](host)
    host.pass_deadline()
    rules = {rule.name: rule.deadline for rule in host.engine.dynamic}
    assert rules == {"192.0.2.2=0": 1000.0 + 3600.0}


@pytest.mark.parametrize("killed", [False, True])
def test_bans_that_come_meanwhile_stay(host: Host, killed: bool) -> None:
    """What others do to dynamic rules while a change waits is not put back with it."""
    with_rules(host)
    DYNAMIC_CHANGES["block"](host)
    host.block("192.0.2.77=0")
    host.block("192.0.2.9=0", 7200.0)
    if killed:
        host.killed()
    host.pass_deadline()
    rules = {rule.name: rule.deadline for rule in host.engine.dynamic}
    assert rules["192.0.2.77=0"] == inf
    assert rules["192.0.2.9=0"] == 1000.0 + 7200.0


def test_bans_survive_when_a_policy_is_put_back(host: Host) -> None:
    """A policy that nobody confirms takes no ban with it."""
    host.apply(AFTER)
    host.block("192.0.2.77=0")
    host.pass_deadline()
    assert [rule.name for rule in host.engine.dynamic] == ["192.0.2.77=0"]


@pytest.mark.parametrize("confirm_s", [None, CONFIRM_S])
def test_policies_change_no_further_while_a_change_waits(
    host: Host, confirm_s: float | None
) -> None:
    """It is refused with the time that is left, and then the state before returns all the same."""
    before = host.state()
    host.apply(AFTER)
    host.wait(20)
    with pytest.raises(Refused, match="waits to be confirmed for another 40 s"):
        host.apply(MORE, confirm_s)
    with pytest.raises(Refused, match="waits to be confirmed"):
        DYNAMIC_CHANGES["flush"](host)
    host.pass_deadline()
    assert host.state() == before
    host.apply(MORE, None)


def test_whoever_made_the_change_has_to_log_in_anew(host: Host) -> None:
    """In the same login nothing shows that one can still log in; force keeps the change."""
    host.apply(AFTER)
    with pytest.raises(Refused, match="in this login"):
        host.call("Confirm")
    assert host.pending
    host.call("Confirm", force=True)
    assert not host.pending


def test_it_can_be_too_late_to_confirm(host: Host) -> None:
    """Whoever confirms while the change is put back is told that it was too late."""
    host.apply(AFTER)
    host.wait(CONFIRM_S)
    with pytest.raises(Refused, match="the time is over"):
        host.call("Confirm", login=OTHER)
    host.pass_deadline()
    with pytest.raises(NotFound, match="was put back: nobody confirmed it in time"):
        host.call("Confirm", login=OTHER)


def test_what_changes_nothing_waits_for_nothing(host: Host) -> None:
    """There is nothing to confirm, and the next change is not refused."""
    host.apply(BEFORE)
    assert not host.pending
    host.apply(AFTER, None)


def test_what_is_refused_waits_for_nothing(host: Host) -> None:
    """A change that was not made leaves nothing to confirm."""
    with pytest.raises(NotFound):
        host.call("AssignPolicy", name="absent", confirm_s=CONFIRM_S)
    assert not host.pending


def test_a_change_that_fails_when_it_is_made_waits_all_the_same(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in the answer to a change leaves nothing in force that nobody has to confirm."""
    before = host.state()

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("ipsecd.control.policies.of_this_host", fail)
    with pytest.raises(AssertionError):
        host.apply(AFTER)
    assert host.pending
    assert host.state() != before
    host.pass_deadline()
    assert host.state() == before


def test_stopping_meanwhile_confirms_nothing(host: Host) -> None:
    """A policy is put back while enforcement is stopped, too, and is not in force by that."""
    before = host.state()
    host.apply(AFTER)
    host.engine.stop()
    host.pass_deadline()
    assert host.engine.state.stopped
    assert not host.pending
    host.engine.start()
    assert host.state() == before


def test_a_dry_run_waits_for_nothing(host: Host) -> None:
    """It changes nothing, whatever is asked for with it."""
    host.call("ApplyPolicy", AFTER, confirm_s=CONFIRM_S, assign=True, dry_run=True)
    assert not host.pending


def test_without_a_state_to_go_back_to_nothing_is_changed(host: Host) -> None:
    """Where nothing is in force as it should be, there is nothing that could return."""
    host.engine.stop()
    with pytest.raises(Refused, match="enforcement is stopped"):
        host.apply(AFTER)
    host.engine.start()
    (host.path / "etc/policies/broken.yaml").write_text("nonsense")
    host.call("Reload", resolve=False)
    with pytest.raises(Refused, match="not all that should be is in force"):
        host.apply(AFTER)


def test_a_change_is_not_made_if_what_was_cannot_be_kept(host: Host) -> None:
    """A disk that is full before the change lets nobody rely on what will not happen."""
    before = host.state()
    disk = host.disk
    assert isinstance(disk, FullDisk)
    disk.is_full = True
    with pytest.raises(StoreFailed):
        host.apply(AFTER)
    assert (host.state(), host.pending) == (before, False)


def test_an_edited_file_is_kept_beside(host: Host) -> None:
    """What somebody wrote and had loaded is not lost when it is put back."""
    before = host.state()
    file = host.path / "etc/policies/a.yaml"
    edited = f"# mine\n{format_policy(AFTER)}"
    file.write_text(edited)
    host.call("Reload", resolve=False, confirm_s=CONFIRM_S)
    host.pass_deadline()
    assert host.state() == before
    assert file.with_name("a.yaml.unconfirmed-1").read_text() == edited


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda content: content[:-1], lambda content: content.replace(b"A", b"B")],
    ids=["empty", "torn", "changed"],
)
def test_a_damaged_record_is_told_and_stops_nothing(
    host: Host, damage: Callable[[bytes], bytes]
) -> None:
    """What is in force stays, status says it, and everything else goes on."""
    host.apply(AFTER)
    after = host.state()
    file = host.path / "lib/unconfirmed"
    file.write_bytes(damage(file.read_bytes()))
    host.killed()
    assert host.state() == after
    assert any("a change may be unconfirmed" in text for text in host.engine.warnings)
    host.pass_deadline()
    assert host.state() == after
    host.apply(MORE, None)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["create", "delete"])
def test_a_crash_at_any_moment_confirms_nothing(tmp_path: Path, name: str, after: bool) -> None:
    """Whichever effect of change and putting back the process dies at, the state before returns."""
    number, before = 0, None
    while True:
        number += 1
        host, fate = fateful_host(tmp_path / str(number))
        before = before or host.state()
        fate.set(number, Crash(), after=after)
        try:
            POLICY_CHANGES[name](host)
            host.pass_deadline()
        except Crash:
            crashed = True
        else:
            crashed = False
        fate.set(0, Crash())
        host.killed()
        host.pass_deadline()
        assert (host.state(), host.pending) == (before, False), number
        if not crashed:
            break
    assert number > 15


@pytest.mark.parametrize("name", ["create", "delete"])
def test_a_disk_that_fails_once_confirms_nothing(tmp_path: Path, name: str) -> None:
    """An error of the disk, whenever it comes, keeps the state before from no return."""
    number, before = 0, None
    while True:
        number += 1
        host, fate = fateful_host(tmp_path / str(number))
        before = before or host.state()
        fate.set(number, OSError(errno.EIO, "no"))
        try:
            POLICY_CHANGES[name](host)
        except IpsecdError:
            assert host.state() == before
        host.pass_deadline()
        is_over = fate.count < number
        host.pass_deadline()
        assert (host.state(), host.pending) == (before, False), number
        if is_over:
            return
