"""A dry run says which packets a policy would decide differently, on this host as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.proof import search
from tests.engine.site import Site

FIRST = "policy: P\nrules:\n- {rule: worm, action: block, filters: [udp/1434]}\n"
SECOND = FIRST.replace("udp/1434", "udp/1434, udp/1435")


class Host:
    """An engine, and what a client would be told."""

    def __init__(self, path: Path) -> None:
        self.site = Site(path)

    def outcome(self, document: str, *, assign: bool = False, dry_run: bool = True) -> Any:
        parameters = {"assign": assign, "source": None, "dry_run": dry_run}
        control = Control(self.site.engine)
        return control.call("ApplyPolicy", parameters, "uid 0", {}, document.encode())["outcome"]

    def block(self, text: str) -> None:
        asked = {"name": "d", "action": "block", "filters": [text], "interface": None}
        Control(self.site.engine).call("AddDynamic", asked, "uid 0", {}, None)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    started = Host(tmp_path)
    started.outcome(FIRST, assign=True, dry_run=False)
    return started


def packets(outcome: Any) -> list[str]:
    return [one["packet"] for one in outcome["verdicts"]["classes"]]


def test_a_dry_run_says_what_is_decided_differently(host: Host) -> None:
    """Of what is in force; nothing has changed by it."""
    outcome = host.outcome(SECOND)
    assert outcome["changed"]
    assert outcome["verdicts"]["equal"] is False
    assert packets(outcome)
    assert all(":1435" in packet for packet in packets(outcome))
    (judged, *_) = outcome["verdicts"]["classes"]
    assert judged["before"]["decision"] == "permit"
    assert judged["now"]["by"]["filter"] == "*=0:1435:UDP"
    assert host.outcome(FIRST)["verdicts"]["equal"] is True


def test_what_is_not_in_force_changes_no_verdict(host: Host) -> None:
    """A policy that is only stored is not compared, until it is to be assigned too."""
    other = SECOND.replace("policy: P", "policy: Q")
    assert host.outcome(other)["verdicts"] is None
    assert packets(host.outcome(other, assign=True))


def test_a_dynamic_rule_that_stays_is_part_of_both(host: Host) -> None:
    """What it blocks already is no difference."""
    host.block("*=0:1435:UDP")
    assert host.outcome(SECOND)["verdicts"]["equal"] is True


def test_what_cannot_be_proven_is_a_warning(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run says the rest all the same."""
    monkeypatch.setattr(search.Budget.__init__, "__defaults__", (0,))
    outcome = host.outcome(SECOND)
    assert outcome["verdicts"] is None
    assert "too many ways" in outcome["warnings"][-1]
    assert outcome["changes"]


def test_lint_says_what_of_this_host_has_no_effect(host: Host) -> None:
    """A rule that another beats, a filter that matches nothing, and lists that nothing names."""
    call = Control(host.site.engine).call
    assert call("GetFindings", {}, "uid 0", {}, None) == {"findings": [], "unused_lists": []}
    again = "- {rule: again, action: block, filters: ['@gone=0', '203.0.113.7=0:1434:UDP']}\n"
    wide = FIRST.replace("action: block", "action: permit") + again
    twice = "- {rule: twice, action: permit, filters: ['203.0.113.7=0:1434:UDP']}\n"
    host.outcome(wide + twice, assign=True, dry_run=False)
    reply = call("GetFindings", {}, "uid 0", {}, None)
    kinds = {(one["of"]["rule"], one["kind"]) for one in reply["findings"]}
    assert kinds == {("again", "matches nothing"), ("twice", "equals a block")}
    assert all(one["message"] for one in reply["findings"])
