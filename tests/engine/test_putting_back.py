"""Tests of dynamic rules that are put back: just those that a change made, whatever came since."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ipsecd.control import Control
from ipsecd.engine.caller import Caller, ChangeOptions
from ipsecd.errors import BackendFailed, NotFound, Refused
from ipsecd.model.addresses import Family, Network
from tests.engine.changing_host import AFTER, BEFORE, CONFIRM_S, FIRST, Host
from tests.engine.test_confirmation import DYNAMIC_CHANGES, with_rules

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
