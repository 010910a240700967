"""Many dynamic rules by name as one change, for programs that keep some."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest

from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.config import Config, Limits
from ipsecd.control import METHODS
from ipsecd.control.method import Request
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, LimitExceeded
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.protected import Protected
from ipsecd.model.values import ALWAYS, Action
from ipsecd.protocol.description import CONTROL, load_interface
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.site import Site


def rule(name: str, port: int, deadline: float = inf) -> DynamicRule:
    return DynamicRule(name, (parse_filter(f"*=0:{port}:UDP"),), Action.BLOCK, ALWAYS, deadline)


def names(site: Site) -> list[str]:
    return [rule.name for rule in site.engine.dynamic]


def call(engine: Engine, put: list[dict[str, Any]], remove: list[str]) -> dict[str, Any]:
    """The reply to a call, which was checked against the interface as the call was."""
    given = load_interface(CONTROL).check_call("ChangeDynamicRules", {"put": put, "remove": remove})
    reply = METHODS["ChangeDynamicRules"].handler(engine, Request(given, "somebody"))
    return load_interface(CONTROL).check_reply("ChangeDynamicRules", reply)


def wanted(name: str, *filters: str, ttl_s: float | None = None) -> dict[str, Any]:
    return {"name": name, "filters": list(filters), "action": "block", "ttl_s": ttl_s}


def test_rules_come_and_go_by_their_names(site: Site) -> None:
    """What is there already is renewed, and what is not there need not be removed."""
    site.engine.add_dynamic(rule("a", 1))
    site.engine.add_dynamic(rule("b", 2))
    change = site.engine.change_dynamic([rule("b", 3), rule("c", 4)], ["a", "nobody", "a"])
    assert (change.added, change.renewed, change.removed, change.refused) == (1, 1, 1, {})
    assert names(site) == ["b", "c"]
    assert [port for port in range(1, 5) if site.blocks(port)] == [3, 4]


def test_a_rule_that_is_put_and_removed_stays(site: Site) -> None:
    """Of both, what is put counts."""
    site.engine.add_dynamic(rule("a", 1))
    change = site.engine.change_dynamic([rule("a", 2)], ["a"])
    assert (change.renewed, change.removed) == (1, 0)
    assert site.blocks(2)
    assert not site.blocks(1)


def test_a_renewed_rule_has_its_new_end(site: Site) -> None:
    """Earlier or later, and the old end has no effect."""
    site.engine.change_dynamic([rule("a", 1, site.clock.now + 10)], [])
    site.engine.change_dynamic([rule("a", 1, site.clock.now + 100)], [])
    site.clock.now += 50
    site.engine.expire()
    assert site.blocks(1)
    site.clock.now += 51
    site.engine.expire()
    assert not site.blocks(1)
    assert names(site) == []


def test_the_kernel_takes_all_of_it_or_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused change leaves what was there before."""
    site.engine.add_dynamic(rule("a", 1))

    def refuse(_delta: Delta, _volatile: Volatile) -> None:
        raise BackendFailed("no", "")

    monkeypatch.setattr(site.backend, "change", refuse)
    with pytest.raises(BackendFailed):
        site.engine.change_dynamic([rule("b", 2)], ["a"])
    monkeypatch.undo()
    assert names(site) == ["a"]
    assert site.blocks(1)
    assert not site.blocks(2)


def test_what_is_refused_keeps_nothing_else_from_being_done(site: Site) -> None:
    """It is named with the reason, and what had its name is left as it was."""
    site.engine.add_dynamic(rule("kept", 9))
    reply = call(
        site.engine,
        [
            wanted("good", "203.0.113.7=0"),
            wanted("kept", "nonsense"),
            wanted("named", "host.example=0"),
            wanted("empty"),
            wanted("short", "203.0.113.7=0", ttl_s=0.0),
            wanted(" spaced", "203.0.113.7=0"),
            wanted("own", "0=0"),
        ],
        [],
    )
    refused = {each["name"] for each in reply["refused"]}
    assert refused == {"kept", "named", "empty", "short", " spaced", "own"}
    assert all(each["message"] for each in reply["refused"])
    assert names(site) == ["kept", "good"]
    assert site.blocks(9)


def test_who_is_protected_is_refused_and_others_are_not(site: Site) -> None:
    """One address that the settings protect does not keep ten thousand others from being banned."""
    protected = Protected(Network(Family.IPV4, 0xC0000207, 32), "192.0.2.7", "ipsecd.yaml:1")
    site.config = Config(protected=(protected,))
    site.again()
    put = [wanted("a", "192.0.2.0/24=0"), wanted("b", "203.0.113.7=0")]
    reply = call(site.engine, put, [])
    assert (reply["added"], [each["name"] for each in reply["refused"]]) == (1, ["a"])
    assert "192.0.2.7, which is protected" in reply["refused"][0]["message"]
    assert names(site) == ["b"]


def test_there_is_a_limit(tmp_path: Path) -> None:
    """What goes beyond it is refused; what is removed in the same change makes room."""
    site = Site(tmp_path, Limits(dynamic_rules=2))
    site.engine.add_dynamic(rule("a", 1))
    change = site.engine.change_dynamic([rule("b", 2), rule("b", 3), rule("c", 4)], [])
    assert (change.added, [*change.refused]) == (1, ["c"])
    assert isinstance(change.refused["c"], LimitExceeded)
    change = site.engine.change_dynamic([rule("c", 4), rule("d", 5), rule("b", 6)], ["a"])
    assert (change.added, change.renewed, change.removed, [*change.refused]) == (1, 1, 1, ["d"])
    assert names(site) == ["c", "b"]


def test_the_next_process_has_them(tmp_path: Path) -> None:
    """They are kept like all dynamic rules."""
    site = Site(tmp_path)
    site.engine.change_dynamic([rule("a", 1), rule("b", 2, site.clock.now + 10)], [])
    site.engine.change_dynamic([rule("c", 3)], ["a"])
    site.again()
    assert set(names(site)) == {"b", "c"}
