"""What the settings protect is blocked by no dynamic rule, whichever way somebody tries."""

from __future__ import annotations

import re
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from ipsecd.config import Config, parse_config
from ipsecd.control import Control
from ipsecd.errors import InvalidInput, Refused
from ipsecd.language.documents import parse_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.lists import AddressList, listed
from ipsecd.model.values import ALWAYS, Action
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.names import with_addresses
from tests.engine.site import Site, meanwhile
from tests.engine.test_bans import in_force, order

SETTINGS = b"""\
protect:
  - 203.0.113.7
  - 198.51.100.0/24
  - 2001:db8::7
  - "[2001:db8:1::]/48"
"""
PROTECTED = parse_config(SETTINGS, "ipsecd.yaml").protected


def protecting(path: Path, config: Config | None = None) -> Site:
    site = Site(path)
    site.config = config or Config(protected=PROTECTED)
    site.engine.close()
    site.again()
    return site


@pytest.fixture
def protected(tmp_path: Path) -> Site:
    return protecting(tmp_path)


@pytest.mark.parametrize(
    ("text", "named", "line"),
    [
        ("203.0.113.7=0", "203.0.113.7", 2),
        ("0=203.0.113.7", "203.0.113.7", 2),
        ("203.0.113.7+0:25:TCP", "203.0.113.7", 2),
        ("203.0.113.0/24=*", "203.0.113.7", 2),
        ("*=203.0.113.7:25:TCP", "203.0.113.7", 2),
        ("0.0.0.0/0=0", "198.51.100.0/24", 3),
        ("198.51.100.9=0", "198.51.100.0/24", 3),
        ("198.51.0.0/16=0", "198.51.100.0/24", 3),
        ("[2001:db8::7]=0", "2001:db8::7", 4),
        ("[2001:db8:1:2::]/64=0", "[2001:db8:1::]/48", 5),
        ("[::]/0=0", "2001:db8::7", 4),
    ],
)
def test_a_block_that_covers_it_is_refused(
    protected: Site, text: str, named: str, line: int
) -> None:
    """With the entry and its line; alone, by the old call, and among others, which stay out too."""
    for filters in ([text], ["10.0.0.1=0", text, "10.0.0.2=0"]):
        with pytest.raises(Refused) as refused:
            order(protected, *filters)
        what = f"{text!r} would block {named}, which is protected: ipsecd.yaml:{line}"
        assert refused.value.message == what
    with pytest.raises(Refused, match="protected"):
        protected.engine.add_dynamic(DynamicRule("a", (parse_filter(text),), Action.BLOCK))
    assert in_force(protected) == {}
    order(protected, text, action="permit")


@pytest.mark.parametrize(
    "text",
    ["*=0:1434:UDP", "*=0", "0+*", "203.0.113.6=0", "203.0.113.8/29=0", "[2001:db8::8]/125=*"],
)
def test_other_blocks_are_not_meant(protected: Site, text: str) -> None:
    """Of a port or a direction for everybody, and of neighbours."""
    assert order(protected, text)["changed"]


def test_policies_are_not_meant(protected: Site) -> None:
    """Who writes one means it."""
    text = "policy: P\nrules:\n  - {rule: R, action: block, filters: ['203.0.113.7=0']}"
    protected.engine.change(put=[parse_policy(text)], assign="P")
    assert protected.blocks(1, 0xCB007107)


def test_a_name_may_not_stand_for_it(protected: Site) -> None:
    """Neither when it is blocked, nor later: who answers for a name must not choose whom to ban."""
    mine = Network(Family.IPV4, 0xCB007107, 32)
    others = tuple(Network(Family.IPV4, 0x0A000000 + n, 32) for n in range(2))

    def rule(*addresses: Network) -> DynamicRule:
        member = with_addresses(parse_filter("bad.example=0"), {"bad.example": addresses})
        return DynamicRule("a", (member,), Action.BLOCK, ALWAYS, inf, 0.0, "me", 1.0)

    with pytest.raises(Refused, match="protected"):
        protected.engine.add_dynamic(rule(mine, others[0]))
    protected.engine.add_dynamic(rule(others[0]))
    protected.engine.reload({"bad.example": (mine, others[1])})
    assert [protected.blocks(1, each.address) for each in (mine, *others)] == [False, False, True]
    protected.engine.reload({"bad.example": (mine,)})
    assert [protected.blocks(1, each.address) for each in (mine, *others)] == [False, False, True]


def test_a_quarantine_of_it_is_refused(protected: Site) -> None:
    """Of a container that has the address; that of this host has no remote address."""
    network = {"n": (Network(Family.IPV4, 0xC6336405, 32),)}
    inventory = Inventory((Container("c" * 64, "web", frozenset(), network),))
    protected.engine.set_inventory("engine", inventory)
    control = Control(protected.engine)
    parameters: dict[str, Any] = {"who": "container:web", "permits": [], "ttl_s": None}
    with pytest.raises(Refused, match=r"container:web has 198\.51\.100\.0/24, which is protected"):
        control.call("Quarantine", parameters, "uid 0", {}, None)
    with pytest.raises(Refused, match="protected"):
        order(protected, "container:web=0")
    assert in_force(protected) == {}
    control.call("Quarantine", {**parameters, "who": "0"}, "uid 0", {}, None)


def test_what_was_blocked_before_stays_and_is_told(tmp_path: Path) -> None:
    """Rules of before are in force by what was right then; status names them until they go."""
    site = protecting(tmp_path, Config())
    order(site, "203.0.113.7=0", "10.0.0.1=0", name="bans")
    order(site, "container:web=0")
    site.config = replace(site.config, protected=PROTECTED)
    site.engine.close()
    site.again()
    assert site.blocks(1, 0xCB007107)

    def told() -> list[str]:
        status = Control(site.engine).call("Status", {}, "uid 0", {}, None)["status"]
        return [text for text in status["warnings"] if "protected" in text]

    assert told() == ["rule 'bans' blocks 203.0.113.7, which is protected (ipsecd.yaml:2)"]
    network = {"n": (Network(Family.IPV4, 0xC6336405, 32),)}
    inventory = Inventory((Container("c" * 64, "web", frozenset(), network),))
    site.engine.set_inventory("engine", inventory)
    assert len(told()) == 2
    site.engine.set_inventory("engine", Inventory())
    site.engine.remove_dynamic(site.engine.dynamic.select("203.0.113.7"))
    assert told() == []
    assert site.blocks(1, 0x0A000001)


@pytest.mark.parametrize(
    "value", ["me", "0", "'*'", "bad.example", "10.0.0.0/33", "10.0.0.1/8", "[[10.0.0.1]]", "''"]
)
def test_only_addresses_can_be_protected(value: str) -> None:
    """What stands for something else tomorrow is refused with its line."""
    with pytest.raises(InvalidInput) as refused:
        parse_config(f"boot: block\nprotect: [10.0.0.1, {value}]".encode(), "ipsecd.yaml")
    assert (refused.value.source, refused.value.line) == ("ipsecd.yaml", 2)


def test_nothing_is_protected_by_default() -> None:
    """And an empty list is one."""
    assert Config().protected == parse_config(b"protect: []").protected == ()
    with pytest.raises(InvalidInput, match="not a list"):
        parse_config(b"protect: 10.0.0.1")


def listed_entries(*texts: str) -> AddressList:
    networks = (parse_filter(f"{text}=0").source.address for text in texts)
    return listed(network for network in networks if isinstance(network, Network))


def test_a_rule_by_a_list_that_has_it_is_refused(protected: Site) -> None:
    """Whether the entry is it, around it or in it."""
    for text in ("203.0.113.7", "203.0.113.0/24", "198.51.100.9", "[2001:db8:1:2::]/64"):
        protected.engine.list_changes.change({"drop": listed_entries("10.0.0.1", text)})
        with pytest.raises(Refused, match="protected"):
            order(protected, "@drop=0")
        order(protected, "@drop=0", action="permit")
        protected.engine.flush()
    assert in_force(protected) == {}


def test_a_list_that_is_blocked_does_not_get_it(protected: Site) -> None:
    """By its name, with the entry and what is protected; the list stays as it was."""
    order(protected, "@drop=0")
    protected.engine.list_changes.change({"drop": listed_entries("10.0.0.1")})
    for text in ("203.0.113.7", "198.51.0.0/16", "[2001:db8::7]"):
        with pytest.raises(Refused, match=f"@drop.* would have .*{re.escape(text)}.*protected"):
            protected.engine.list_changes.change({"drop": listed_entries("10.0.0.1", text)})
        assert protected.engine.state.lists["drop"] == listed_entries("10.0.0.1")
    protected.engine.list_changes.change({"other": listed_entries("203.0.113.7")})


def test_a_list_that_comes_to_be_blocked_meanwhile_does_not_get_it(
    protected: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule may come that names the list while the change is prepared."""
    protected.engine.list_changes.change({"drop": listed_entries("10.0.0.1")})
    meanwhile(monkeypatch, protected, lambda: order(protected, "@drop=0"))
    with pytest.raises(Refused, match=r"203\.0\.113\.7.*protected"):
        protected.engine.list_changes.change({"drop": listed_entries("203.0.113.7")})
    assert protected.engine.state.lists["drop"] == listed_entries("10.0.0.1")
    assert len(in_force(protected)) == 1


def test_what_a_list_had_before_is_told_and_no_obstacle(protected: Site) -> None:
    """A policy may block it: who writes that means it. The list can still be changed."""
    protected.engine.list_changes.change({"drop": listed_entries("203.0.113.7")})
    text = 'policy: P\nrules:\n  - {rule: r, action: block, filters: ["@drop=0"]}\n'
    protected.engine.change(put=[parse_policy(text)], assign="P")
    (told,) = protected.engine.protection.overridden(protected.engine.state)
    assert told.startswith("list @drop, which a rule blocks, has 203.0.113.7: ")
    assert told.endswith("203.0.113.7 is protected (ipsecd.yaml:2)")
    protected.engine.list_changes.change({"drop": listed_entries("203.0.113.7", "10.0.0.1")})
    with pytest.raises(Refused, match="198"):
        protected.engine.list_changes.change(
            {"drop": listed_entries("203.0.113.7", "198.51.100.1")}
        )
