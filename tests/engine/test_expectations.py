"""A policy that does not do what its author expects is never put in force, and opens nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.errors import LimitExceeded, Refused
from ipsecd.language.documents import parse_policy
from ipsecd.model.values import Policy
from tests.engine.site import Site
from tests.engine.test_sources import Central, started

GOOD = """\
policy: P
rules:
  - rule: worm
    action: block
    filters: ["*=0:1:UDP"]
  - rule: other
    action: block
    filters: ["*=0:2:UDP"]
expect:
  - "block udp 203.0.113.7:4000 > me:1"
  - "permit udp 203.0.113.7:4000 > me:3"
"""
WRONG = GOOD.replace("*=0:1:UDP", "*=0:3:UDP")


class Host:
    """An engine with P assigned, and what a client would be told."""

    def __init__(self, path: Path) -> None:
        self.site = Site(path)
        self.file = path / "etc/policies/p.yaml"
        self.apply(GOOD, assign=True)

    def call(self, method: str, document: str = "", **parameters: Any) -> dict[str, Any]:
        control = Control(self.site.engine)
        return control.call(method, parameters, "uid 0", {}, document.encode() or None)

    def apply(self, document: str, *, assign: bool = False, dry_run: bool = False) -> list[str]:
        """The warnings about it."""
        reply = self.call("ApplyPolicy", document, assign=assign, source=None, dry_run=dry_run)
        warnings: list[str] = reply["outcome"]["warnings"]
        return warnings

    def put_rule(self, name: str, text: str, policy: str = "P") -> list[str]:
        rule = {"name": name, "action": "block", "filters": [text], "interface": None}
        reply = self.call("PutRules", policy=policy, rules=[rule], create=False, assign=False)
        warnings: list[str] = reply["outcome"]["warnings"]
        return warnings

    def remove_rule(self, name: str, policy: str = "P") -> list[str]:
        reply = self.call("RemoveRules", policy=policy, rules=[name], delete_empty=False)
        warnings: list[str] = reply["outcome"]["warnings"]
        return warnings

    def reload(self) -> None:
        self.call("Reload", resolve=False)

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("Status")["status"]
        return found

    @property
    def blocked(self) -> set[int]:
        return {port for port in range(1, 5) if self.site.blocks(port)}

    def everything(self) -> tuple[object, ...]:
        """What a refused change must leave as it was."""
        directories = self.site.directories
        files = [
            (path, path.read_bytes())
            for directory in (directories.config, directories.state, directories.runtime)
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        ]
        return self.site.engine.state, self.blocked, files


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_policy_that_meets_them_is_in_force(host: Host) -> None:
    """And keeps them where it is stored, and where it is exported."""
    assert host.blocked == {1, 2}
    exported = host.call("GetPolicy", name="P")["document"]
    assert parse_policy(host.file.read_text()) == parse_policy(exported) == parse_policy(GOOD)


@pytest.mark.parametrize("how", ["apply", "assign", "edit", "add", "remove", "dry run"])
def test_a_change_that_does_not_meet_them_is_refused(host: Host, how: str) -> None:
    """With every line that fails and what decided; nothing has changed anywhere."""
    other = WRONG.replace("policy: P", "policy: Q")
    host.apply(other.replace("policy: Q", "policy: R"))
    before = host.everything()
    ways: dict[str, Callable[[], object]] = {
        "apply": lambda: host.apply(other, assign=True),
        "assign": lambda: host.call("AssignPolicy", name="R"),
        "edit": lambda: host.apply(WRONG),
        "add": lambda: host.put_rule("new", "*=0:3:UDP"),
        "remove": lambda: host.remove_rule("worm"),
        "dry run": lambda: host.apply(WRONG, dry_run=True),
    }
    with pytest.raises(Refused) as caught:
        ways[how]()
    message = caught.value.message
    assert ("udp 203.0.113.7:4000 > me:1" in message) == (how != "add")
    if how != "remove":
        assert 'it is blocked by block "*=0:3:UDP" of rule' in message
    assert "mend the rules" in caught.value.hint
    assert host.everything() == before


def test_a_policy_that_is_only_stored_may_fail_them(host: Host) -> None:
    """It is stored with a warning, and assigned once it is mended."""
    other = WRONG.replace("policy: P", "policy: Q")
    for dry_run in (True, False):
        warnings = host.apply(other, dry_run=dry_run)
        assert "does not meet 2 of its 2 expectations, and cannot be assigned" in warnings[0]
        assert len(warnings) == 3
    assert len(host.put_rule("new", "*=0:1:UDP", "Q")) == 2
    assert host.remove_rule("worm", "Q") == []
    host.call("AssignPolicy", name="Q")
    assert host.blocked == {1, 2}


def test_rules_of_a_policy_that_meets_them_can_be_changed(host: Host) -> None:
    """As long as it still does, which also holds for what nobody expects anything of."""
    assert host.remove_rule("other") == []
    assert host.put_rule("new", "*=0:4:UDP") == []
    assert host.blocked == {1, 4}
    assert len(host.site.engine.stored("P").expect) == 2


def test_dynamic_rules_do_not_count(host: Host) -> None:
    """A ban for an hour keeps no policy from being stored."""
    ban = ["*=0:3:UDP"]
    host.call("AddDynamic", filters=ban, action="block", name="ban", interface=None, ttl_s=None)
    host.remove_rule("other")
    assert host.blocked == {1, 3}


def test_an_edited_file_that_fails_them_is_not_loaded(host: Host) -> None:
    """A reload is refused and the failure told; what was in force is, until the file is mended."""
    host.file.write_text(WRONG)
    with pytest.raises(Refused, match="does not meet 2 of its 2 expectations"):
        host.reload()
    assert host.blocked == {1, 2}
    assert host.status["state"] == "failed"
    assert "does not meet" in host.status["failures"][0]
    host.site.engine.change(put=[Policy("Z")])
    assert host.status["failures"]
    host.file.write_text(GOOD.replace("*=0:2:UDP", "*=0:4:UDP"))
    host.reload()
    assert host.status["failures"] == []
    assert host.blocked == {1, 4}


def test_an_edited_file_that_fails_them_can_be_replaced(host: Host) -> None:
    """As one that cannot be read: it is kept beside."""
    host.file.write_text(WRONG)
    with pytest.raises(Refused):
        host.reload()
    host.apply(GOOD.replace("*=0:2:UDP", "*=0:4:UDP"))
    assert host.file.with_name("p.yaml.broken-1").read_text() == WRONG
    assert host.status["failures"] == []
    assert host.blocked == {1, 4}


def test_at_a_start_the_last_good_policy_is_in_force(host: Host) -> None:
    """In the place of one that fails, with a failure that lasts until it is mended."""
    host.file.write_text(WRONG)
    engine = host.site.again()
    assert engine.loaded_from == "last-good"
    assert host.status["state"] == "failed"
    assert "does not meet 2 of its 2 expectations" in engine.failures[0]
    assert host.blocked == {1, 2}
    engine.change(put=[Policy("Z")])
    assert engine.failures
    assert host.blocked == {1, 2}
    with pytest.raises(Refused, match="does not meet"):
        host.call("AssignPolicy", name="P")
    with pytest.raises(Refused, match="is assigned"):
        host.call("DeletePolicy", name="P", unassign=False, missing_ok=False)
    with pytest.raises(Refused, match="does not meet"):
        host.put_rule("new", "*=0:4:UDP")
    assert host.blocked == {1, 2}
    host.put_rule("worm", "*=0:1:UDP")
    assert engine.failures == ()
    assert engine.loaded_from == "policy"
    assert host.blocked == {1, 2}


def test_nothing_is_opened_where_no_last_good_policy_is(host: Host) -> None:
    """What the kernel holds is left as it is, at a start and at a boot."""
    host.file.write_text(WRONG)
    (host.site.directories.state / "last-good").unlink()
    engine = host.site.again()
    assert engine.held
    assert host.blocked == {1, 2}
    assert engine.boot() is False
    assert host.blocked == {1, 2}


def test_the_check_of_the_daemon_tells_of_them(host: Host) -> None:
    """``ipsecd --check`` has the words of the refusal."""
    assert host.site.engine.check() == []
    host.file.write_text(WRONG)
    problems = host.site.engine.check()
    assert len(problems) == 1
    assert "does not meet 2 of its 2 expectations" in problems[0]


def test_a_restart_judges_nothing_that_was_in_force(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it reads no rule of it either; a reload does not, and expectations are remembered."""

    def judge(_: Policy) -> None:
        raise AssertionError

    monkeypatch.setattr("ipsecd.engine.expectations.must_be_met", judge)
    engine = host.site.again()
    host.reload()
    assert "rules" not in vars(engine.stored("P"))
    assert engine.stored("P").expect == parse_policy(GOOD).expect
    assert engine.stored("P") == parse_policy(GOOD)


def test_a_policy_behind_another_source_is_judged_too(host: Host) -> None:
    """It could be in force at any time; an edit that fails does not end the first source."""
    started(host.site, Central())
    with pytest.raises(Refused, match="does not meet"):
        host.apply(WRONG)
    assert host.blocked == {3}
    host.file.write_text(WRONG)
    host.reload()
    assert host.site.engine.loaded_from == "domain"
    assert any("does not meet" in warning for warning in host.status["file_warnings"])
    assert not host.status["failures"]
    assert host.blocked == {3}


def test_one_that_expects_too_much_is_stored_and_never_assigned(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that is made does not end in an error, and a start goes on with the last good."""
    monkeypatch.setattr("ipsecd.model.unmet.MAX_JUDGED", 0)
    other = GOOD.replace("policy: P", "policy: Q")
    for dry_run in (True, False):
        warnings = host.apply(other, dry_run=dry_run)
        assert "expects too much to be judged" in warnings[0]
        assert "so it cannot be assigned" in warnings[0]
    assert len(host.site.engine.stored("Q").expect) == 2
    with pytest.raises(LimitExceeded, match="too much"):
        host.call("AssignPolicy", name="Q")
    host.file.write_text(GOOD.replace("*=0:2:UDP", "*=0:4:UDP"))
    with pytest.raises(LimitExceeded, match="too much"):
        host.reload()
    assert host.status["state"] == "failed"
    engine = host.site.again()
    assert engine.loaded_from == "last-good"
    assert "expects too much" in engine.failures[0]
    assert host.blocked == {1, 2}
