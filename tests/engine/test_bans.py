"""Bans as they are ordered: one rule for each filter, renewed, named, refused, taken apart."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.memory import MemoryBackend
from ipsecd.config import Limits
from ipsecd.control import Control
from ipsecd.errors import BackendFailed, InvalidInput, LimitExceeded, NotFound, Refused
from ipsecd.language.documents import parse_policy
from ipsecd.model.addresses import Family, Network
from tests.engine.site import Site

NAMES = {
    "several.example": (
        Network(Family.IPV4, 0xCB007108, 32),
        Network(Family.IPV4, 0xCB007109, 32),
    ),
    "single.example": (Network(Family.IPV4, 0xCB00710A, 32),),
}


def order(site: Site, *filters: str, content: str | None = None, **more: Any) -> dict[str, Any]:
    """What the daemon answers to an order to block, or to what `more` says."""
    parameters = dict.fromkeys(("name", "existing", "ttl_s", "until", "interface", "when"))
    parameters |= {"filters": None if content is not None else [*filters], "source": "a list"}
    parameters |= {"action": "block", **more}
    control = Control(site.engine)
    document = None if content is None else content.encode()
    read = control.with_filters_read(parameters, document)
    return control.call("AddDynamicRules", read, "uid 0", NAMES, None)


def unblock(site: Site, *selectors: str) -> dict[str, Any]:
    parameters = {"selectors": [*selectors]}
    return Control(site.engine).call("RemoveDynamicRules", parameters, "uid 0", {}, None)


def in_force(site: Site) -> dict[str, list[str]]:
    listed = Control(site.engine).call("ListDynamic", {}, "uid 0", {}, None)["rules"]
    return {rule["name"]: rule["filters"] for rule in listed}


def assign(site: Site, document: str) -> None:
    policy = parse_policy(document)
    site.engine.change(put=[policy], assign=policy.name)


def counted(answer: dict[str, Any]) -> tuple[bool, int, int]:
    return answer["changed"], answer["added"], answer["renewed"]


def test_each_filter_is_a_rule(site: Site) -> None:
    """A filter that is given twice is one; the names are given in the order of the filters."""
    answer = order(site, "10.0.0.1=0", "10.0.0.2=0", "10.0.0.1=0")
    assert counted(answer) == (True, 2, 0)
    assert in_force(site) == {"dynamic-1": ["10.0.0.1=0"], "dynamic-2": ["10.0.0.2=0"]}


def test_the_same_again_changes_nothing(site: Site) -> None:
    """No rule more, and nothing for the kernel to do."""
    order(site, "10.0.0.1=0", "10.0.0.2=0")
    changes: list[object] = []
    site.backend.change = lambda *_: changes.append(_)  # type: ignore[method-assign]
    again = order(site, "10.0.0.2=0", "10.0.0.1=0")
    assert counted(again) == (False, 0, 0)
    assert [rule["name"] for rule in again["rules"]] == ["dynamic-2", "dynamic-1"]
    assert changes == []


def test_the_same_again_has_the_new_end(site: Site) -> None:
    """Earlier or later, or none; an earlier one is told, as somebody may have meant the other."""
    order(site, "10.0.0.1=0", ttl_s=60.0)
    renewed = order(site, "10.0.0.1=0", "10.0.0.2=0", ttl_s=600.0)
    assert counted(renewed) == (True, 1, 1)
    assert renewed["warnings"] == []
    assert site.engine.next_expiry() == site.clock.now + 600
    earlier = order(site, "10.0.0.1=0", ttl_s=6.0)
    assert earlier["warnings"] == [
        "rule 'dynamic-1' ends earlier now: it was in force for another 600 s"
    ]
    for_ever = order(site, "10.0.0.1=0")
    assert counted(for_ever) == (True, 0, 1)
    assert site.engine.dynamic.get("dynamic-1").deadline == inf  # type: ignore[union-attr]
    again = order(site, "10.0.0.1=0", ttl_s=6.0)
    assert again["warnings"] == [
        "rule 'dynamic-1' ends earlier now: it was in force until the daemon stops"
    ]
    site.clock.now += 700
    site.engine.expire()
    assert in_force(site) == {}


def test_a_moment_that_is_named_again_is_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment is no other because it is named later; one that is past is refused."""
    wall = [1e9]
    monkeypatch.setattr("ipsecd.control.dynamic.time.time", lambda: wall[0])
    order(site, "10.0.0.1=0", until=1e9 + 60)
    wall[0] += 10
    site.clock.now += 10.001
    assert counted(order(site, "10.0.0.1=0", until=1e9 + 60)) == (False, 0, 0)
    assert counted(order(site, "10.0.0.1=0", until=1e9 + 61)) == (True, 0, 1)
    with pytest.raises(InvalidInput, match="in the past"):
        order(site, "10.0.0.1=0", until=1e9)


@pytest.mark.parametrize("more", [{"action": "permit"}, {"interface": "lan"}, {"when": "opening"}])
def test_another_kind_of_rule_is_no_renewal(site: Site, more: dict[str, str]) -> None:
    """A rule for other packets, or of the other action, is one of its own."""
    order(site, "10.0.0.1=0")
    assert counted(order(site, "10.0.0.1=0", **more)) == (True, 1, 0)
    assert len(in_force(site)) == 2


def test_a_rule_that_was_named_has_a_life_of_its_own(site: Site) -> None:
    """Somebody else's ban for an hour must not end a rule that has a name."""
    order(site, "10.0.0.1=0", name="mine")
    order(site, "10.0.0.1=0", ttl_s=60.0)
    assert in_force(site) == {"mine": ["10.0.0.1=0"], "dynamic-1": ["10.0.0.1=0"]}
    site.clock.now += 61
    site.engine.expire()
    assert site.blocks(1, 0x0A000001)


def test_a_name_is_one_rule_for_all(site: Site) -> None:
    """And the same again is the same."""
    assert counted(order(site, "10.0.0.1=0", "10.0.0.2=0", name="bans")) == (True, 1, 0)
    assert in_force(site) == {"bans": ["10.0.0.1=0", "10.0.0.2=0"]}
    assert counted(order(site, "10.0.0.2=0", "10.0.0.1=0", name="bans")) == (False, 0, 0)
    assert counted(order(site, "10.0.0.2=0", "10.0.0.1=0", name="bans", ttl_s=9.0)) == (True, 0, 1)


def test_a_loop_over_one_name_loses_nothing(site: Site) -> None:
    """Each of the loop takes the place of the one before only if that is said."""
    order(site, "10.0.0.1=0", name="bans")
    for action in ("block", "permit"):
        with pytest.raises(Refused, match="already") as refused:
            order(site, "10.0.0.2=0", name="bans", action=action)
        assert "--add" in refused.value.hint
        assert "--replace" in refused.value.hint
    assert in_force(site) == {"bans": ["10.0.0.1=0"]}
    order(site, "10.0.0.2=0", name="bans", existing="add")
    assert in_force(site) == {"bans": ["10.0.0.1=0", "10.0.0.2=0"]}
    order(site, "10.0.0.3=0", name="bans", existing="replace", action="permit")
    assert in_force(site) == {"bans": ["10.0.0.3=0"]}
    with pytest.raises(Refused, match="it permits"):
        order(site, "10.0.0.2=0", name="bans", existing="add")
    with pytest.raises(InvalidInput, match="not one of"):
        order(site, "10.0.0.2=0", name="bans", existing="perhaps")


@pytest.mark.parametrize("existing", ["add", "replace"])
def test_what_is_added_to_nothing_is_new(site: Site, existing: str) -> None:
    """The first of a loop needs no other words than the rest."""
    assert counted(order(site, "10.0.0.1=0", name="bans", existing=existing)) == (True, 1, 0)


def test_a_rule_that_is_added_to_keeps_its_end(site: Site) -> None:
    """It may be given a later one. An earlier one would end what others had asked for."""
    order(site, "10.0.0.1=0", name="bans", ttl_s=60.0)
    add = {"name": "bans", "existing": "add"}
    order(site, "10.0.0.2=0", **add)
    assert site.engine.next_expiry() == site.clock.now + 60
    order(site, "10.0.0.3=0", ttl_s=90.0, **add)
    assert site.engine.next_expiry() == site.clock.now + 90
    with pytest.raises(Refused, match="would end earlier"):
        order(site, "10.0.0.4=0", ttl_s=30.0, **add)
    assert counted(order(site, "10.0.0.3=0", **add)) == (False, 0, 0)
    assert len(in_force(site)["bans"]) == 3


def test_a_list_may_be_written_as_feeds_are(site: Site) -> None:
    """With comments of both kinds, blank lines, lines of Windows, a mark, and short forms."""
    content = "\ufeff# bans\r\n10.0.0.1 ; why\r\n\r\n  udp/9\r\n2001:db8::/32#x\n10.0.0.3+0"
    order(site, content=content)
    assert [*in_force(site).values()] == [
        ["10.0.0.1=0"],
        ["*=0:9:UDP"],
        ["[2001:db8::]/32=0"],
        ["10.0.0.3+0"],
    ]


@pytest.mark.parametrize(
    ("content", "line"), [("10.0.0.1\n10.0.0.256\n", 2), ("10.0.0.1\n\n@-more\n", 3)]
)
def test_one_wrong_line_refuses_the_list(site: Site, content: str, line: int) -> None:
    """It is named, and nothing has changed."""
    with pytest.raises(InvalidInput) as refused:
        order(site, content=content)
    assert (refused.value.source, refused.value.line) == ("a list", line)
    assert in_force(site) == {}


def test_a_list_without_a_filter_is_refused(site: Site) -> None:
    """Whatever makes it may have failed."""
    for content in ("", "# nothing\n"):
        with pytest.raises(InvalidInput, match="no filter"):
            order(site, content=content)
    with pytest.raises(InvalidInput, match="UTF-8"):
        Control(site.engine).with_filters_read({"filters": None, "source": "x"}, b"10.0.0.1\n\xff")


def test_a_batch_is_one_change(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction in the kernel; if that fails, nothing of it is in force, nor kept."""
    order(site, "10.0.0.1=0")
    change = MemoryBackend.change
    changes: list[int] = []

    def fail(self: MemoryBackend, delta: Any, volatile: Any) -> None:
        changes.append(len(delta.added))
        if len(changes) == 1:
            raise BackendFailed("the kernel is full")
        change(self, delta, volatile)

    monkeypatch.setattr(MemoryBackend, "change", fail)
    many = [f"10.1.{n >> 8}.{n & 255}=0" for n in range(2000)]
    with pytest.raises(BackendFailed):
        order(site, *many)
    assert len(in_force(site)) == 1
    assert counted(order(site, *many)) == (True, 2000, 0)
    assert changes == [2000, 2000]
    site.engine.close()
    assert len(site.again().dynamic) == 2001
    assert site.blocks(1, 0x0A010101)


def test_a_batch_is_kept_as_a_whole_or_not_at_all(site: Site) -> None:
    """A process that dies while it writes leaves no part of a batch for the next."""
    order(site, "10.0.0.9=0")
    file = site.directories.runtime / "dynamic"
    before = file.read_bytes()
    order(site, "10.0.0.1=0", "10.0.0.2=0", "10.0.0.3=0")
    whole = file.read_bytes()
    for length in range(len(before), len(whole)):
        file.write_bytes(whole[:length])
        site.engine.close()
        assert len(site.again().dynamic) == 1, length
    file.write_bytes(whole)
    site.engine.close()
    assert len(site.again().dynamic) == 4


def test_there_has_to_be_room_for_a_batch(tmp_path: Path) -> None:
    """It is refused as a whole."""
    site = Site(tmp_path, Limits(dynamic_rules=3))
    order(site, "10.0.0.1=0", "10.0.0.2=0")
    with pytest.raises(LimitExceeded, match="2 more"):
        order(site, "10.0.0.2=0", "10.0.0.3=0", "10.0.0.4=0")
    assert len(in_force(site)) == 2
    order(site, "10.0.0.2=0", "10.0.0.3=0")


def test_unblock_takes_an_address_and_nothing_else(site: Site) -> None:
    """The other filters of a rule stay, with their end; in the file for the next daemon too."""
    filters = [f"10.0.{n >> 8}.{n & 255}=0" for n in range(500)]
    order(site, *filters, name="bans", ttl_s=60.0)
    order(site, "0=10.0.0.7", "10.0.0.7=0:25:TCP")
    answer = unblock(site, "10.0.0.7")
    assert answer == {
        "removed": ["dynamic-1", "dynamic-2"],
        "reduced": ["bans"],
        "filters": 3,
        "still_blocked": [],
    }
    assert in_force(site) == {"bans": [each for each in filters if each != "10.0.0.7=0"]}
    assert not site.blocks(1, 0x0A000007)
    assert site.blocks(1, 0x0A000008)
    assert site.engine.next_expiry() == site.clock.now + 60
    site.engine.close()
    site.again()
    assert not site.blocks(1, 0x0A000007)
    assert site.blocks(1, 0x0A000008)
    with pytest.raises(NotFound):
        unblock(site, "10.0.0.7")


def test_unblock_of_a_filter_takes_that_one(site: Site) -> None:
    """And of a name, all of its rule."""
    order(site, "10.0.0.1=0", "10.0.0.1=0:25:TCP", "10.0.0.2=0", name="bans")
    unblock(site, "10.0.0.1=0")
    assert in_force(site) == {"bans": ["10.0.0.1=0:25:TCP", "10.0.0.2=0"]}
    unblock(site, "10.0.0.1", "10.0.0.2")
    assert in_force(site) == {}


def test_unblock_of_several_is_one_change(site: Site) -> None:
    """If one of them is not there, all stay."""
    order(site, "10.0.0.1=0", "10.0.0.2=0")
    with pytest.raises(NotFound, match=r"10\.0\.0\.3"):
        unblock(site, "10.0.0.1", "10.0.0.3")
    assert len(in_force(site)) == 2


def test_an_address_of_a_name_is_not_taken_from_it(site: Site) -> None:
    """The other addresses of that name stay blocked; one that is alone goes."""
    order(site, "several.example=0", "single.example=0")
    with pytest.raises(NotFound, match=r"203\.0\.113\.8=0 blocks it"):
        unblock(site, "203.0.113.8")
    assert site.blocks(1, 0xCB007109)
    unblock(site, "203.0.113.10")
    assert [*in_force(site).values()] == [["several.example=0"]]
    unblock(site, "several.example")
    assert in_force(site) == {}


def test_what_still_blocks_an_address_is_told(site: Site) -> None:
    """Wider networks and policies; a port that is closed to all is nothing of the kind."""
    assign(
        site,
        "policy: P\nrules:\n  - {rule: R, action: block, filters: ['10.0.0.0/8=0', '*=0:9:UDP']}",
    )
    order(site, "10.0.0.1=0", "10.0.0.0/24=0", "10.0.0.2=0")
    still = unblock(site, "10.0.0.1")["still_blocked"]
    assert [(each["address"], each["by"]["rule"], each["by"]["filter"]) for each in still] == [
        ("10.0.0.1", "R", "10.0.0.0/8=0"),
        ("10.0.0.1", "dynamic-2", "10.0.0.0/24=0"),
    ]
    order(site, "10.0.0.0/16=0", action="permit", name="between")
    order(site, "10.0.0.1=0")
    still = unblock(site, "10.0.0.1")["still_blocked"]
    assert [each["by"]["rule"] for each in still] == ["dynamic-2"]
    unblock(site, "between")
    still = unblock(site, "10.0.0.0/24")["still_blocked"]
    assert [(each["by"]["policy"], each["by"]["filter"]) for each in still] == [
        ("P", "10.0.0.0/8=0")
    ]
    with pytest.raises(NotFound, match="blocks it, in rule 'R' of policy 'P'"):
        unblock(site, "10.0.0.1")
