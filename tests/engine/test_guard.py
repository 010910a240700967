"""What a change may not cut: refused before anything is written, whichever way it is made."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.engine.caller import Caller
from ipsecd.engine.guard import Guarded, carrying, guarding, is_guarding
from ipsecd.errors import WouldCut
from ipsecd.language.documents import parse_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.connections import Connection
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import Action
from ipsecd.service.engine_lines import EngineLines
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.site import HOST, ME, Site

ADMIN = 0xCB007107
LOGIN = Connection(
    "the login",
    (Packet(Point.ARRIVING, Family.IPV4, ADMIN, ME, 6, 4000, 22, opening=False),),
    (Packet(Point.SENDING, Family.IPV4, ME, ADMIN, 6, 22, 4000, opening=False),),
)
GUARDED = Guarded((LOGIN,), HOST, "type --force")
CALLER = Caller(pid=1, guarded=GUARDED)
POLICY = "policy: P\nrules:\n  - rule: R\n    action: block\n    filters: [{}]\n"


def call(site: Site, method: str, document: str | None = None, **given: Any) -> dict[str, Any]:
    text = document.encode() if document else None
    return Control(site.engine).call(method, given, "a test", {}, text, caller=CALLER)


def apply(site: Site, *filters: str) -> dict[str, Any]:
    listed = ", ".join(f'"{each}"' for each in filters)
    return call(site, "ApplyPolicy", POLICY.format(listed), assign=True)


def put_everything(site: Site) -> None:
    """Have everything blocked, as nobody could who is guarded."""
    policy = parse_policy(POLICY.format('"*=0"').encode(), "-")
    site.engine.change(put=[policy], assign="P")


def files(site: Site) -> dict[Path, bytes]:
    directories = (site.directories.config, site.directories.state)
    return {
        path: path.read_bytes() for top in directories for path in top.rglob("*") if path.is_file()
    }


def test_a_refusal_says_what_decides_and_changes_nothing(site: Site) -> None:
    """Not even for a moment: a host that loses its power then must not come back with it."""
    apply(site, "*=0:80:TCP")
    before, state = files(site), site.engine.state
    with pytest.raises(WouldCut) as refused:
        apply(site, "*=0:1-100:TCP")
    (cut,) = refused.value.cuts
    assert cut.fields() == {
        "connection": "the login",
        "packet": "tcp 203.0.113.7:4000 > 10.9.0.1:22 established",
        "filter": "*=0:1-100:TCP",
        "rule": "R",
        "policy": "P",
        "store": "static",
    }
    assert refused.value.hint == "type --force"
    assert (files(site), site.engine.state) == (before, state)


def test_it_is_refused_before_anything_is_written(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy and a list are judged before they are made durable."""
    call(site, "CreateList", "", name="bans", source=None, format=None)
    apply(site, "@bans=0")

    def must_not_write(*_: object) -> None:
        pytest.fail("it writes")

    monkeypatch.setattr("ipsecd.sources.static.Change.commit", must_not_write)
    monkeypatch.setattr("ipsecd.engine.kept_lists.Attempt", must_not_write)
    with pytest.raises(WouldCut):
        apply(site, "*=0")
    with pytest.raises(WouldCut):
        call(site, "AddToList", name="bans", addresses=["203.0.113.7"], accept=True)


def test_what_was_cut_before_is_no_reason(site: Site) -> None:
    """Only what gets worse is refused; a permit that goes makes it worse."""
    apply(site, "*=0:80:TCP")
    order: dict[str, Any] = {"filters": ["203.0.113.7=0:22:TCP"], "action": "permit", "name": "ssh"}
    call(site, "AddDynamic", **order)
    put_everything(site)
    with pytest.raises(WouldCut, match=r"'\*=0' in rule 'R' of policy 'P'"):
        call(site, "RemoveDynamic", selector="ssh")
    with pytest.raises(WouldCut):
        call(site, "FlushDynamic")
    site.engine.flush()
    call(site, "AddDynamic", filters=["203.0.113.7=0"], action="block")


def test_a_stop_and_a_start(site: Site) -> None:
    """What is stopped cuts nothing, and a start is judged by that; it can be made again."""
    put_everything(site)
    call(site, "Stop")
    for _ in range(2):
        with pytest.raises(WouldCut):
            call(site, "Start")
        assert site.engine.stopped
    site.engine.start()
    assert site.blocks(22)


def test_only_whoever_asks_is_spared(site: Site) -> None:
    """What the daemon does by itself, and others at the same time, is not judged."""
    lines = EngineLines(Control(site.engine))
    seen: list[bool] = []
    line = carrying(lines.at_once)
    try:
        with guarding(GUARDED):
            line(lambda: seen.append(is_guarding()))
        line(lambda: seen.append(is_guarding()))
        assert seen == [True, False]
        with pytest.raises(WouldCut):
            apply(site, "*=0")
        put_everything(site)
        assert site.blocks(22)
    finally:
        lines.shut_down()


def test_many_filters_make_it_no_slower(site: Site) -> None:
    """Beside 100,000 filters a ban is judged in far less than a tenth of a second."""
    filters = ", ".join(
        f'"10.{n >> 16}.{n >> 8 & 255}.{n & 255}=0:{n % 7 + 1}:TCP"' for n in range(100_000)
    )
    site.engine.change(put=[parse_policy(POLICY.format(filters).encode(), "-")], assign="P")
    sessions = replace(GUARDED, connections=(LOGIN,) * 10)
    rule = DynamicRule("a", (parse_filter("198.51.100.7=0"),), Action.BLOCK)
    with guarding(sessions):
        begun = time.perf_counter()
        site.engine.add_dynamic(rule)
        took = time.perf_counter() - begun
    assert took < 0.1
