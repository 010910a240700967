"""What ``--live`` names is cut when the change is made, and what it does not name goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.netns import site
from tests.netns.neighbours import BOX, BOX4, BOX6, PUBLISHED, WEB, box, load
from tests.netns.site import (
    HERE4,
    HERE6,
    HOST,
    OUTSIDE,
    PEER4,
    PEER6,
    Daemon,
    inside,
    run,
)
from tests.netns.talks import SIZE, Talk, forget_connections, opened, that_go_on

pytestmark = pytest.mark.netns

INWARD, OUTWARD, ASKED, ASKING, OF_BOX, SILENT, REDIRECTED = (
    5001,
    6001,
    5002,
    6002,
    6003,
    6004,
    5010,
)
IN_BOX = inside(BOX)
REDIRECT = (
    "table inet nat_of_others {\nchain pre { type nat hook prerouting priority dstnat;\n"
    f"tcp dport {REDIRECTED} redirect to :{INWARD + 10}\n}}\n}}\n"
)


@pytest.fixture(scope="module", params=site.BACKENDS)
def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    with site.daemon(tmp_path_factory.mktemp("live"), request.param) as running:
        yield running


@contextmanager
def all_kinds() -> Iterator[list[Talk]]:
    """Connections of every kind, by IPv4 and IPv6: TCP and UDP, in and out, and of a container."""
    with ExitStack() as stack:
        stack.enter_context(box())
        forget_connections()
        load(REDIRECT)
        stack.callback(run, "nft", "delete", "table", "inet", "nat_of_others")
        talks: list[Talk] = []
        for version, here, peer, in_box in (
            ("4", HERE4, PEER4, BOX4),
            ("6", HERE6, PEER6, BOX6),
        ):
            talks += [
                opened(f"in{version}", OUTSIDE, HOST, here, INWARD),
                opened(f"out{version}", HOST, OUTSIDE, peer, OUTWARD),
                opened(f"asked{version}", OUTSIDE, HOST, here, ASKED, tcp=False),
                opened(f"asking{version}", HOST, OUTSIDE, peer, ASKING, tcp=False),
                opened(f"published{version}", OUTSIDE, IN_BOX, here, PUBLISHED, at=(in_box, WEB)),
                opened(f"of-box{version}", IN_BOX, OUTSIDE, peer, OF_BOX),
                opened(f"silent{version}", HOST, OUTSIDE, peer, SILENT, tcp=False, answered=False),
                opened(
                    f"redirected{version}", OUTSIDE, HOST, here, REDIRECTED, at=(here, INWARD + 10)
                ),
            ]
        for talk in talks:
            stack.callback(talk.close)
        assert that_go_on(talks, talks) == {talk.name for talk in talks}
        yield talks


@pytest.fixture(scope="module")
def talks(daemon: Daemon) -> Iterator[list[Talk]]:
    assert daemon.lives()
    with all_kinds() as opened_talks:
        yield opened_talks


def document(*filters: str, more: str = "", permits: str = "") -> str:
    listed = ", ".join(f'"{each}"' for each in filters)
    text = f"policy: P\nrules:\n  - rule: R\n    action: block\n    filters: [{listed}]\n{more}"
    if permits:
        text += f'  - rule: Permit\n    action: permit\n    filters: ["{permits}"]\n'
    return text


def looked_at(daemon: Daemon, *words: str) -> dict[str, Any]:
    """What a dry run says of open connections."""
    live: dict[str, Any] = json.loads(daemon.ctl(*words, "--dry-run", "--live", "--json"))["live"]
    return live


def names_of(talks: list[Talk], live: dict[str, Any], *, perhaps: bool = False) -> set[str]:
    """Which are cut, or are perhaps.

    Connection tracking also knows others: what earlier tests have sent in this namespace.
    """
    groups = [group for group in live["groups"] if group["perhaps"] is perhaps]
    named = keys({"groups": groups})
    return {talk.name for talk in talks if talk.key in named}


def keys(live: dict[str, Any]) -> set[tuple[Any, ...]]:
    names = ("protocol", "source", "source_port", "destination", "destination_port")
    return {
        tuple(entry[name] for name in names)
        for group in live["groups"]
        for entry in group["connections"]
    }


OPENING = "    when: opening\n"
VERSIONS = ("4", "6")


def both(*names: str) -> set[str]:
    return {f"{name}{version}" for name in names for version in VERSIONS}


EVERY = both("in", "out", "asked", "asking", "published", "of-box", "silent", "redirected")


ONE_WAY = frozenset(both("silent"))


class Case(NamedTuple):
    """A policy, and the names of the connections that it cuts, or cuts perhaps."""

    text: str
    cuts: set[str]
    perhaps: frozenset[str] = frozenset()
    on_all: bool = False
    """Whether it is tried on every backend, and not on nftables alone."""


CASES = {
    "a port, from all": Case(document(f"*=0:{INWARD}:TCP"), both("in"), on_all=True),
    "the answers of a port": Case(document(f"0:{INWARD}=*::TCP"), both("in")),
    "a published port": Case(document(f"*=0:{PUBLISHED}:TCP"), both("published"), on_all=True),
    "the port behind it": Case(document(f"*=0:{WEB}:TCP"), set()),
    "the answers of a published port": Case(
        document(f"0:{PUBLISHED}=*::TCP"), both("published"), on_all=True
    ),
    "a redirected port": Case(document(f"*=0:{REDIRECTED}:TCP"), both("redirected"), on_all=True),
    "the port that it is redirected to": Case(document(f"*=0:{INWARD + 10}:TCP"), set()),
    "what a container opens": Case(document(f"0=*:{OF_BOX}:TCP"), both("of-box"), on_all=True),
    "the answers to a container": Case(document(f"*:{OF_BOX}=0::TCP"), both("of-box")),
    "a container": Case(document(f"{BOX4}=*"), {"of-box4", "published4"}),
    "a container by IPv6": Case(document(f"*=[{BOX6}]"), set()),
    "questions to this host": Case(document(f"*=0:{ASKED}:UDP"), both("asked"), on_all=True),
    "questions of this host": Case(document(f"0=*:{ASKING}:UDP"), both("asking")),
    "their answers": Case(document(f"*:{ASKING}=0::UDP"), both("asking"), on_all=True),
    "an address": Case(
        document(f"{PEER4}=*"),
        {name for name in EVERY if name[-1] == "4"} - {"silent4"},
        frozenset({"silent4"}),
    ),
    "a link": Case(document("*=0", more="    interface: wire0\n"), EVERY - both("silent"), ONE_WAY),
    "another link": Case(document("*=0", more="    interface: bridge0\n"), set()),
    "what opens": Case(document("*+0", more=OPENING), both("silent"), on_all=True),
    "what comes in and opens": Case(document("*=0", more=OPENING), set()),
    "all but a permit": Case(
        document("*=0", permits=f"{PEER4}=0:{INWARD}:TCP"),
        EVERY - both("silent") - {"in4"},
        ONE_WAY,
        on_all=True,
    ),
}  # fmt: skip


def test_what_is_not_tracked(daemon: Daemon) -> None:
    """It begins anew with the next packet, and may be cut if only one of the ends may send that."""
    path = daemon.directory / "policy"
    with ExitStack() as stack:
        talks = [
            opened("in", OUTSIDE, HOST, HERE4, INWARD),
            opened("asking", HOST, OUTSIDE, PEER4, ASKING, tcp=False),
        ]
        for talk in talks:
            stack.callback(talk.close)
        assert that_go_on(talks, talks) == {"in", "asking"}
        for filters, more, cut, perhaps in (
            ("*+0", OPENING, {"in", "asking"}, set()),
            ("*=0", OPENING, set(), {"in", "asking"}),
            ("*=0::UDP", "", set(), {"asking"}),
            ("*+0::UDP", "", {"asking"}, set()),
            ("0=*", "", {"in"}, {"asking"}),
        ):
            path.write_text(document(filters, more=more))
            live = looked_at(daemon, "apply", str(path), "--assign")
            assert names_of(talks, live) == cut
            assert names_of(talks, live, perhaps=True) == perhaps
        path.write_text(document("*=0", more=OPENING))
        daemon.ctl("apply", str(path), "--assign", "--force")
        stack.callback(daemon.ctl, "policy", "unassign")
        # The question of this host begins its connection anew, and that to it is not let through.
        assert that_go_on(talks, talks[1:]) == {"asking"}
        talks[0].server.send(b"0" * SIZE)
        assert that_go_on(talks, talks) == {"in", "asking"}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.on_all])
def test_what_is_named_is_cut_and_the_rest_goes_on(
    daemon: Daemon, talks: list[Talk], name: str
) -> None:
    """Data both ways shows it, when the change is made all the same."""
    tried(daemon, talks, CASES[name])


@pytest.mark.parametrize("daemon", ["nftables"], indirect=True)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.on_all])
def test_the_same_of_other_policies(daemon: Daemon, talks: list[Talk], name: str) -> None:
    """What is named does not depend on the backend."""
    tried(daemon, talks, CASES[name])


def tried(daemon: Daemon, talks: list[Talk], case: Case) -> None:
    """What a policy cuts is named, and is cut when that is put in force; it is undone after."""
    path = daemon.directory / "policy"
    path.write_text(case.text)
    live = looked_at(daemon, "apply", str(path), "--assign")
    named = names_of(talks, live)
    assert named == case.cuts
    assert names_of(talks, live, perhaps=True) == case.perhaps
    assert (live["cut"], live["perhaps"]) == (len(named), len(case.perhaps))
    daemon.ctl("apply", str(path), "--assign", "--force")
    try:
        spared = [talk for talk in talks if talk.name not in named]
        assert that_go_on(talks, spared) == {talk.name for talk in spared}
        assert not looked_at(daemon, "apply", str(path), "--assign")["groups"]
    finally:
        daemon.ctl("policy", "unassign", "--force")
    assert that_go_on(talks, talks) == EVERY


@pytest.mark.parametrize("daemon", ["nftables"], indirect=True)
def test_whose_they_are(daemon: Daemon, talks: list[Talk], tmp_path: Path) -> None:
    """This process has the sockets of this host, and what is translated is of an address behind."""
    path = tmp_path / "policy"
    path.write_text(document("*=0", "0=*"))
    live = looked_at(daemon, "apply", str(path), "--assign")
    assert live["cut"] == live["looked_at"] == len(talks)
    assert live["perhaps"] == 0
    pids = {
        process["pid"]
        for group in live["groups"]
        for entry in group["connections"]
        for process in entry["processes"]
    }
    assert pids == {os.getpid()}
    forwarded = {group["address"] for group in live["groups"] if group["forwarded"]}
    assert forwarded == {BOX4, BOX6}
    assert {group["rule"] for group in live["groups"]} == {"R"}


@pytest.mark.parametrize("daemon", ["nftables"], indirect=True)
def test_every_way_to_ask(daemon: Daemon, talks: list[Talk], tmp_path: Path) -> None:
    """A policy that is stored, a rollback and a comparison say the same as ``apply``."""
    path = tmp_path / "policy"
    path.write_text(document(f"*=0:{INWARD}:TCP"))
    expected = {talk.key for talk in talks if talk.name in both("in")}
    daemon.ctl("apply", str(path))
    assert keys(looked_at(daemon, "policy", "assign", "P")) == expected
    daemon.ctl("policy", "assign", "P", "--force")
    assert not looked_at(daemon, "policy", "assign", "P")["cut"]
    other = tmp_path / "other"
    other.write_text(document(f"*=0:{ASKED}:UDP"))
    asked = {talk.key for talk in talks if talk.name in both("asked")}
    compared = json.loads(daemon.ctl("diff", str(other), "--live", "--json", code=1))
    assert keys(compared["live"]) == asked
    compared = json.loads(daemon.ctl("diff", str(other), str(path), "--live", "--json", code=1))
    assert keys(compared["live"]) == expected
    daemon.ctl("policy", "unassign")
    assert keys(looked_at(daemon, "rollback", "1")) == expected
    text = daemon.ctl("rollback", "--dry-run", "--live")
    assert f"2 connections would be cut, of {len(talks)} that are open now:" in text
    assert f"(pid {os.getpid()}, root)" in text
    assert f"by '*=0:{INWARD}:TCP' in rule 'R' of policy 'P'" in text
    assert f"tcp {talks[0].key[1]}:{talks[0].key[2]} > {HERE4}:{INWARD} established" in text
