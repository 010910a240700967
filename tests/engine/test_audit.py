"""A policy whose blocks are audits: in force, at a start, at boot, and as what was good last."""

from __future__ import annotations

from pathlib import Path

from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.values import Action, Policy, Rule
from tests.engine.site import Site

BLOCK = Rule("worms", (parse_filter("*=0:1434:UDP"),), Action.BLOCK)
BY_NAME = Rule("bans", (parse_filter("@bans=0"),), Action.BLOCK)
PERMIT = Rule("web", (parse_filter("*=0:80:UDP"),), Action.PERMIT)
TRIED = Policy("P", (BLOCK, BY_NAME, PERMIT), audit=True)
A_BAN = 0xCB007107


def with_bans(path: Path) -> Site:
    site = Site(path)
    lists = path / "etc" / "lists"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "bans").write_text("203.0.113.7\n")
    site.engine.reload({})
    return site


def test_it_blocks_nothing_wherever_it_comes_from(tmp_path: Path) -> None:
    """Rules that go by names as well; the file, an excerpt of it, and what was good last."""
    site = with_bans(tmp_path)
    site.engine.change(put=[TRIED], assign="P")
    assert not site.blocks(1434)
    assert not site.blocks(9, A_BAN)
    actions = {origin.rule: action for origin, action in site.engine.rules().items()}
    assert actions == {"worms": Action.AUDIT, "bans": Action.AUDIT, "web": Action.PERMIT}
    for _ in range(2):
        site.again()
        assert site.engine.policy == TRIED
        assert not site.blocks(1434)
        assert not site.blocks(9, A_BAN)
    file = tmp_path / "etc" / "policies" / "p.yaml"
    file.write_text(file.read_text().replace("action: permit", "action: nonsense"))
    site.again()
    assert site.engine.loaded_from == "last-good"
    assert not site.blocks(1434)
    assert not site.blocks(9, A_BAN)


def test_it_blocks_as_soon_as_it_is_told_to(tmp_path: Path) -> None:
    """With names of hosts and lists too, and not before."""
    site = with_bans(tmp_path)
    site.engine.change(put=[TRIED], assign="P")
    site.engine.change(put=[TRIED.with_audit(audit=False)], assign="P")
    assert site.blocks(1434)
    assert site.blocks(9, A_BAN)
    named = Rule("named", (parse_filter("h.example=0:7:UDP"),), Action.BLOCK)
    address = (Network(Family.IPV4, A_BAN, 32),)
    site.engine.change(put=[Policy("P", (named, BLOCK), audit=True)], names={"h.example": address})
    assert not site.blocks(1434)
    assert not site.blocks(7, A_BAN)
