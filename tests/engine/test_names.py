"""DNS names that are looked up again: in policies, in dynamic rules and in quarantines."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.memory import MemoryBackend
from ipsecd.control import Control
from ipsecd.errors import BackendFailed, Refused
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.values import Action, Policy, Rule
from tests.engine.site import Site

OLD, NEW, OTHER = 0xCB007107, 0xCB007108, 0xCB007109
Names = dict[str, tuple[Network, ...]]


def host(address: int) -> tuple[Network, ...]:
    return (Network(Family.IPV4, address, 32),)


def call(site: Site, method: str, names: Names, **parameters: Any) -> dict[str, Any]:
    return Control(site.engine).call(method, parameters, "uid 0", names, None)


def add(site: Site, name: str, text: str, address: int) -> None:
    call(
        site,
        "AddDynamic",
        {text.partition("=")[0]: host(address)},
        filters=[text],
        action="block",
        name=name,
        ttl_s=None,
        interface=None,
    )


@pytest.fixture
def named(site: Site) -> Site:
    """A policy, a dynamic rule and what needs them, by names that stood for the old address."""
    text = "worm.example=0:1:UDP"
    policy = Policy("P", (Rule("R", (parse_filter(text),), Action.BLOCK),))
    site.engine.change(put=[policy], assign="P", names={"worm.example": host(OLD)})
    add(site, "a", "worm.example=0:2:UDP", OLD)
    return site


def needed(site: Site, *, resolve: bool) -> frozenset[str]:
    return Control(site.engine).names_needed("Reload", {"resolve": resolve}, None)


def test_dynamic_rules_are_refreshed_too(named: Site) -> None:
    """Theirs are asked for, and they are enforced by the new addresses, over a crash too."""
    add(named, "b", "other.example=0:3:UDP", OLD)
    assert needed(named, resolve=False) == frozenset()
    assert needed(named, resolve=True) == {"worm.example", "other.example"}
    reply = call(named, "Reload", {"worm.example": host(NEW)}, resolve=True)
    assert reply["outcome"]["changed"]
    for port in (1, 2):
        assert named.blocks(port, NEW)
        assert not named.blocks(port, OLD)
    named.engine.close()
    named.again()
    assert named.blocks(2, NEW)
    assert not named.blocks(2, OLD)


def test_only_a_dynamic_rule_may_have_the_name(site: Site) -> None:
    """Nothing of a policy has to change with it; its end stays."""
    add(site, "a", "worm.example=0:2:UDP", OLD)
    reply = call(site, "Reload", {"worm.example": host(NEW)}, resolve=True)
    assert reply["outcome"]["changed"]
    assert site.blocks(2, NEW)
    assert not site.blocks(2, OLD)
    assert [rule.deadline for rule in site.engine.dynamic] == [inf]


def test_a_name_without_an_answer_keeps_its_addresses(named: Site) -> None:
    """It refuses nothing, the others are refreshed, and it is told until there is an answer."""
    add(named, "b", "other.example=0:3:UDP", OLD)
    answers: Names = {"worm.example": (), "other.example": host(NEW)}
    message = call(named, "Reload", answers, resolve=True)["outcome"]["message"]
    assert "keep their addresses: 'worm.example'" in message
    assert named.blocks(1, OLD)
    assert named.blocks(2, OLD)
    assert named.blocks(3, NEW)
    status = call(named, "Status", {})["status"]
    assert [
        "'worm.example' could not be looked up" in warning for warning in status["file_warnings"]
    ]
    assert len(status["file_warnings"]) == 1
    call(named, "Reload", {"worm.example": host(NEW)}, resolve=True)
    assert call(named, "Status", {})["status"]["file_warnings"] == []
    assert named.blocks(1, NEW)


def test_a_name_that_never_had_an_answer_is_refused(named: Site, tmp_path: Path) -> None:
    """In the assigned policy: it would match nothing, and what is in force stays."""
    (file,) = (tmp_path / "etc/policies").iterdir()
    file.write_text(file.read_text().replace("worm.example", "new.example"))
    with pytest.raises(Refused, match="has not been resolved"):
        call(named, "Reload", {"new.example": ()}, resolve=True)
    assert named.blocks(1, OLD)


def test_a_refusal_of_the_kernel_leaves_the_old_addresses(
    named: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all of them, for the next process too."""

    def refuse(*_: object) -> None:
        raise BackendFailed("the kernel has no memory")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryBackend, "apply", refuse)
        with pytest.raises(BackendFailed):
            call(named, "Reload", {"worm.example": host(NEW)}, resolve=True)
    for _ in range(2):
        for port in (1, 2):
            assert named.blocks(port, OLD)
            assert not named.blocks(port, NEW)
        named.engine.close()
        named.again()


def test_what_a_quarantine_permits_is_refreshed(site: Site) -> None:
    """The operator's way in goes where the name goes."""
    parameters = {"who": "0", "permits": ["worm.example+0:22:UDP"], "ttl_s": None}
    call(site, "Quarantine", {"worm.example": host(OLD)}, **parameters)
    assert not site.blocks(22, OLD)
    assert needed(site, resolve=True) == {"worm.example"}
    call(site, "Reload", {"worm.example": host(NEW)}, resolve=True)
    assert site.blocks(22, OLD)
    assert not site.blocks(22, NEW)
    site.engine.close()
    site.again()
    assert not site.blocks(22, NEW)


def test_names_are_listed_with_what_they_stand_for(named: Site) -> None:
    """Apart where rules had them looked up at different times."""
    call(named, "Reload", {"worm.example": host(NEW)}, resolve=True)
    (entry,) = call(named, "ListNames", {})["names"]
    assert (entry["name"], entry["addresses"]) == ("worm.example", ["203.0.113.8"])
    assert entry["resolved"]
    assert entry["rules"] == [
        {"store": "static", "policy": "P", "rule": "R"},
        {"store": "dynamic", "policy": "", "rule": "a"},
    ]
    add(named, "b", "worm.example=0:3:UDP", OTHER)
    call(named, "Reload", {"worm.example": ()}, resolve=True)
    listed = call(named, "ListNames", {})["names"]
    assert [row["addresses"] for row in listed] == [["203.0.113.8"], ["203.0.113.9"]]
    assert not any(row["resolved"] for row in listed)
    assert all(row["looked_up"] > 1e9 for row in listed)
    named.engine.close()
    named.again()
    by_rules = {
        tuple(rule["rule"] for rule in row["rules"]): row["looked_up"]
        for row in call(named, "ListNames", {})["names"]
    }
    assert by_rules["R",] is None
    assert by_rules["a",] == listed[0]["looked_up"]


def test_names_are_refreshed_without_a_file_being_read(named: Site) -> None:
    """An edit that nobody has reloaded stays without effect; a name without an answer stays."""
    add(named, "b", "other.example=0:3:UDP", OLD)
    path = Path(named.engine.path_of("P"))
    path.write_text(path.read_text().replace("worm.example=0:1:UDP", "*=0:7:UDP"))
    assert Control(named.engine).names_needed("RefreshNames", {}, None) == {
        "worm.example",
        "other.example",
    }
    answers = {"worm.example": host(NEW), "other.example": ()}
    assert call(named, "RefreshNames", answers)["outcome"]["changed"]
    assert [named.blocks(1, address) for address in (OLD, NEW)] == [False, True]
    assert [named.blocks(2, address) for address in (OLD, NEW)] == [False, True]
    assert [named.blocks(3, address) for address in (OLD, NEW)] == [True, False]
    assert not named.blocks(7)
    assert named.engine.state.unresolved == {"other.example"}
    assert not call(named, "RefreshNames", {"worm.example": host(NEW)})["outcome"]["changed"]
    named.engine.close()
    named.again()
    assert named.blocks(2, NEW)
