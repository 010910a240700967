"""Tests of dynamic rules that are put back: just those that a change made, whatever came since."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsecd.control import Control
from ipsecd.engine.caller import Caller, ChangeOptions
from ipsecd.model.addresses import Family, Network
from tests.engine.changing_host import BEFORE, CONFIRM_S, FIRST, Host

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
