"""Tests of dynamic rules that are put back: just those that a change made, whatever came since."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.engine.caller import Caller, ChangeOptions
from ipsecd.engine.protection import Protection
from ipsecd.engine.rules_before import Records, differing, joined, records_changed, records_in
from ipsecd.errors import BackendFailed, NotFound, Refused
from ipsecd.language.documents import format_policy
from ipsecd.model.addresses import Family, HostName, Network
from tests.engine.changing_host import AFTER, BEFORE, CONFIRM_S, FIRST, MORE, Host
from tests.engine.effects import Crash
from tests.engine.test_confirmation import CHANGES, DYNAMIC_CHANGES, with_rules

NAME = "worm.example"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.apply(BEFORE, None)
    return host


def call(
    host: Host, method: str, number: int, confirm_s: float | None = None, **given: object
) -> None:
    """Call `method` while the DNS name stands for the address of that number."""
    names = {NAME: (Network(Family.IPV4, 0xC0000200 + number, 32),)}
    caller = Caller(0, 1, "root", ChangeOptions(confirm_s, login=FIRST))
    Control(host.engine).call(method, given, "uid 0 (root)", names, None, caller=caller)


def test_a_rule_by_a_name_that_was_looked_up_again_is_put_back(host: Host) -> None:
    """That its name stands for other addresses since makes it nobody else's rule."""
    rule = {"filters": [f"{NAME}=0"], "action": "block", "name": "N", "ttl_s": None}
    call(host, "AddDynamic", 1, CONFIRM_S, interface=None, **rule)
    call(host, "RefreshNames", 2)
    host.pass_deadline()
    assert not host.engine.dynamic
    assert not host.pending


def test_a_rule_that_is_put_back_has_the_addresses_of_now(host: Host) -> None:
    """Those that its names had before the change may be another's by now."""
    filters = [f"{NAME}=0"]
    rule: dict[str, Any] = {"filters": filters, "action": "block", "name": "N", "interface": None}
    call(host, "AddDynamic", 1, ttl_s=3600.0, **rule)
    call(host, "AddDynamic", 1, CONFIRM_S, ttl_s=7200.0, **rule)
    call(host, "RefreshNames", 2)
    host.pass_deadline()
    (restored,) = host.engine.dynamic
    address = restored.filters[0].source.address
    assert isinstance(address, HostName)
    assert [network.address & 0xFF for network in address.addresses] == [2]
    assert restored.deadline == 1000.0 + 3600.0


def test_a_quarantine_by_a_name_that_was_looked_up_again_is_put_back(host: Host) -> None:
    """Its permits stand for other addresses since; it ends all the same."""
    call(host, "Quarantine", 1, CONFIRM_S, who="0", permits=[f"0={NAME}"], ttl_s=None)
    call(host, "RefreshNames", 2)
    host.pass_deadline()
    assert not host.engine.state.quarantines
    assert not host.engine.dynamic


def killed_and_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon dies, and the kernel refuses the first state of the next one."""

    def refuse(*_: object) -> None:
        raise BackendFailed("no", "try again")

    with monkeypatch.context() as patch:
        patch.setattr(host.backend, "apply", refuse)
        host.killed()
    assert host.engine.held


@pytest.mark.parametrize("name", DYNAMIC_CHANGES)
def test_what_the_kernel_refused_is_tried_again_without_the_change(
    host: Host, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nothing that nobody has confirmed is in force once the kernel takes the state."""
    with_rules(host)
    before = host.state()
    DYNAMIC_CHANGES[name](host)
    killed_and_refused(host, monkeypatch)
    host.pass_deadline()
    assert not host.pending
    last = host.engine.confirmation.last
    assert last is not None
    assert last.sentence.endswith("in force once the kernel takes what it refused at the start")
    host.wait(5)
    assert host.engine.follow_senders()
    assert host.state() == before
    assert host.engine.observe().drift == ()
    volatile = host.engine.state.volatile
    # The next process finds the same.
    host.killed()
    assert host.state() == before
    assert {*host.engine.state.volatile.entries()} == {*volatile.entries()}


def test_while_it_is_not_known_what_is_in_force_a_change_waits(host: Host) -> None:
    """It is tried again and said, and it does not keep the policy from being mended."""
    with_rules(host)
    before = host.state()
    DYNAMIC_CHANGES["block"](host)
    file = host.path / "etc/policies/a.yaml"
    content = file.read_text()
    file.write_text("nonsense")
    (host.path / "lib/last-good").unlink()
    host.killed()
    assert host.engine.held
    with pytest.raises(Refused, match="waits to be confirmed"):
        host.call("Reload", resolve=False)
    host.pass_deadline()
    assert host.pending
    assert any("cannot be put back for now: what" in text for text in host.engine.warnings)
    with pytest.raises(Refused, match="needs a state to go back to"):
        host.apply(AFTER)
    file.write_text(content)
    host.call("Reload", resolve=False)
    host.wait(5)
    host.engine.confirmation.put_back_if_due()
    assert (host.state(), host.pending) == (before, False)


def test_a_change_that_begins_meanwhile_keeps_its_file(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left over of an earlier change is not looked for in the file of the next one."""
    confirmation, forget = host.engine.confirmation, host.engine.confirmation._forget

    def fail(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(host.disk, "unlink", fail)
        with pytest.raises(NotFound):
            host.call("AssignPolicy", name="absent", confirm_s=CONFIRM_S)
    assert confirmation.due_in() == 0.0

    def another_begins_first() -> None:
        monkeypatch.undo()
        host.apply(AFTER)
        forget()

    monkeypatch.setattr(confirmation, "_forget", another_begins_first)
    confirmation.put_back_if_due()
    assert host.pending


def cut_off_after(
    host: Host, monkeypatch: pytest.MonkeyPatch, step: str, change: Callable[[Host], object]
) -> None:
    """Have the process die in the middle of a change, before it has noted what it changed."""
    confirmation = host.engine.confirmation
    begin = confirmation.begin

    def die(*given: Any) -> None:
        if step == "begin":
            begin(*given)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(confirmation, "begin" if step == "begin" else "made", die)
        with pytest.raises(Crash):
            change(host)
    host.killed()


@pytest.mark.parametrize("kills", range(2))
def test_bans_after_a_crash_in_the_middle_of_a_change_stay(
    host: Host, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    """What the next process found is the change's; what came later is not, and nobody's loss."""
    with_rules(host)
    cut_off_after(host, monkeypatch, "change", DYNAMIC_CHANGES["block"])
    host.block("192.0.2.77=0", 3600.0)
    for _ in range(kills):
        host.killed()
    host.pass_deadline()
    assert {rule.name for rule in host.engine.dynamic} == {
        *("192.0.2.1=0", "192.0.2.2=0", "192.0.2.77=0")
    }
    assert not host.pending


@pytest.mark.parametrize("kills", range(2))
def test_files_edited_after_a_crash_in_the_middle_of_a_change_stay(
    host: Host, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    """Only the files are put back that were others when the next process started."""
    before = host.engine.loaded.policies["A"].text
    cut_off_after(host, monkeypatch, "change", lambda host: host.apply(AFTER))
    assert host.engine.loaded.policies["A"].text != before
    edited = host.path / "etc/policies/mine.yaml"
    edited.write_text(format_policy(MORE))
    for _ in range(kills):
        host.killed()
    host.pass_deadline()
    assert (host.path / "etc/policies/a.yaml").read_text() == before
    assert edited.read_text() == format_policy(MORE)
    assert not host.pending


@pytest.mark.parametrize("name", ["replace", "unassign", "block"])
def test_a_change_that_a_crash_prevented_waits_for_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Where nothing has changed there is nothing to confirm."""
    with_rules(host)
    before = host.state()
    cut_off_after(host, monkeypatch, "begin", CHANGES[name])
    assert (host.state(), host.pending) == (before, False)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("late", [False, True])
def test_a_crash_in_the_middle_of_a_change_confirms_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, name: str, late: bool
) -> None:
    """Whether the next process starts in time or not, the state before returns."""
    with_rules(host)
    before = host.state()

    def change(host: Host) -> None:
        try:
            CHANGES[name](host)
        finally:
            host.wait(CONFIRM_S + 1 if late else 0)

    cut_off_after(host, monkeypatch, "change", change)
    assert host.pending is not late
    host.pass_deadline()
    assert (host.state(), host.pending) == (before, False)


def test_a_store_that_cannot_be_read_says_nothing_of_a_change(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that the change has made is not kept because its file was not seen at the start."""
    policies, elsewhere = host.path / "etc/policies", host.path / "elsewhere"

    def change(host: Host) -> None:
        try:
            host.apply(MORE)
        finally:
            policies.rename(elsewhere)
            policies.symlink_to(host.path / "nowhere")

    before = host.state()
    cut_off_after(host, monkeypatch, "change", change)
    policies.unlink()
    elsewhere.rename(policies)
    host.pass_deadline()
    assert (host.state(), host.pending) == (before, False)


@pytest.mark.parametrize("end", ["made again", "over", "next change", "another rule"])
def test_what_is_refused_when_it_is_put_back_is_said(host: Host, end: str) -> None:
    """In the sentence, and by status until it is made again or would have ended."""
    host.block("192.0.2.1=0", 3600.0)
    DYNAMIC_CHANGES["unblock"](host)
    host.block("192.0.2.2=0")
    dynamic = host.engine._dynamic
    limit = dynamic.limit
    object.__setattr__(dynamic, "limit", 1)
    host.pass_deadline()
    object.__setattr__(dynamic, "limit", limit)
    last = host.engine.confirmation.last
    assert last is not None
    refused = "'192.0.2.1=0': there are 1 dynamic rules already"
    assert last.sentence.endswith(f"in time; not put back: {refused}")
    (warning,) = host.engine.warnings
    assert f"not all could be: {refused}" in warning
    if end == "made again":
        host.block("192.0.2.1=0")
    elif end == "over":
        host.wait(3600)
    elif end == "next change":
        DYNAMIC_CHANGES["block"](host)
    else:
        host.block("192.0.2.9=0")
    assert host.engine.warnings == ((warning,) if end == "another rule" else ())


def test_what_is_refused_in_the_place_of_another_is_said(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the rule that nobody has confirmed is still there, until somebody makes another."""
    host.block("192.0.2.1=0", 3600.0)
    host.block("192.0.2.1=0", 7200.0, confirm_s=CONFIRM_S)

    def refuse(*_: object) -> None:
        raise Refused("it is protected", "do not block it")

    with monkeypatch.context() as patch:
        patch.setattr(Protection, "check", refuse)
        host.pass_deadline()
    (warning,) = host.engine.warnings
    assert "not all could be: '192.0.2.1=0': it is protected" in warning
    host.block("192.0.2.1=0", 600.0)
    assert host.engine.warnings == ()


@pytest.mark.parametrize("name", DYNAMIC_CHANGES)
def test_what_a_change_changed_is_found_by_what_it_left_alone(host: Host, name: str) -> None:
    """Comparing the values of two states finds what comparing all their records does."""
    with_rules(host)
    host.call("Quarantine", who="container:web", permits=["0=192.0.2.4"], ttl_s=None)
    before = host.engine.state
    DYNAMIC_CHANGES[name](host)
    after = host.engine.state
    expected = differing(records_in(before), records_in(after))
    assert records_changed(before, after) == expected
    assert expected != ({}, {})
    change = host.engine.confirmation.change
    assert change is not None
    assert (change.dynamic, change.put) == expected


def test_a_change_of_rules_writes_what_it_changes(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many other rules there are; what comes while it is made is not its own."""
    for number in range(300):
        host.block(f"192.0.2.{number % 250}=0:{number}:TCP", 3600.0)
    written: list[int] = []
    write = host.disk.write

    def counted(path: Path, content: bytes) -> None:
        if path.name == ".unconfirmed.tmp":
            written.append(len(content))
        write(path, content)

    monkeypatch.setattr(host.disk, "write", counted)
    DYNAMIC_CHANGES["block"](host)
    assert written
    assert max(written) < 1000


def test_a_kernel_that_refuses_a_change_of_rules_leaves_nothing_to_confirm(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be put back is on disk then, and is as it was."""
    with_rules(host)
    before = host.state()

    def refuse(*_: object) -> None:
        assert (host.path / "lib/unconfirmed").exists()
        raise BackendFailed("no", "try again")

    with monkeypatch.context() as patch:
        patch.setattr(host.backend, "change", refuse)
        with pytest.raises(BackendFailed):
            DYNAMIC_CHANGES["block"](host)
    assert (host.state(), host.pending) == (before, False)


@pytest.mark.parametrize(
    ("first", "then", "joined_records"),
    [
        (({}, {"a": 1}), ({"a": 1}, {"a": 2}), ({}, {"a": 2})),
        (({"a": 1}, {"a": 2}), ({"a": 2}, {}), ({"a": 1}, {})),
        (({"a": 1}, {}), ({"b": 1}, {"b": 2}), ({"a": 1, "b": 1}, {"b": 2})),
        (({"a": 1}, {}), ({}, {"a": 3}), ({"a": 1}, {"a": 3})),
    ],
)
def test_two_steps_of_a_change_are_one(
    first: tuple[Records, Records],
    then: tuple[Records, Records],
    joined_records: tuple[Records, Records],
) -> None:
    """What was before the first counts as before, and what is after the second as after."""
    assert joined(first, then) == joined_records
