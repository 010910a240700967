"""Which open connections a change would cut: by the state that it leads to, and counted in all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import Control, live
from ipsecd.errors import LimitExceeded, Refused
from ipsecd.host.conntrack import Way
from ipsecd.host.interfaces import HostState
from ipsecd.host.open_connections import OpenConnection
from ipsecd.host.sock_diag import Socket
from ipsecd.language.documents import parse_policy
from ipsecd.model.addresses import Family, Network
from ipsecd.model.connections import Connection
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.packets import Packet, Point
from ipsecd.sources.planning import Written
from tests.engine.site import HOST, ME, Site

PEER, BOX = 0xCB007107, 0x0A580005
NOTHING = {"looked_at": 1, "cut": 0, "perhaps": 0, "groups": []}


def connection(port: int, number: int = 0, *, uid: int = 0, tracked: bool = True) -> OpenConnection:
    """One to a port of this host, whose socket is that of a user."""
    way = Way(Family.IPV4, 6, PEER + number, 4000, ME, port)
    return OpenConnection(
        way,
        "established",
        Connection(
            "",
            (packet(Point.ARRIVING, way),),
            (packet(Point.SENDING, way.reversed),),
            tracked=tracked,
        ),
        Socket(Family.IPV4, 6, ME, port, PEER + number, 4000, 0, 100 + number, uid=uid),
    )


def packet(point: Point, way: Way) -> Packet:
    ports = way.source_port, way.destination_port
    return Packet(point, way.family, way.source, way.destination, 6, *ports, opening=False)


class Open:
    """What is open on this host, as the test wants it."""

    connections: tuple[OpenConnection, ...] = ()
    state = HostState((), HOST)

    def __iter__(self) -> Iterator[OpenConnection]:
        return iter(self.connections)


@pytest.fixture(autouse=True)
def _open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "OpenConnections", Open)
    monkeypatch.setattr(Open, "connections", (connection(22),))


def document(name: str, *filters: str, more: str = "") -> str:
    listed = ", ".join(f'"{each}"' for each in filters)
    return (
        f"policy: {name}\nrules:\n  - rule: R\n    action: block\n    filters: [{listed}]\n{more}"
    )


def called(site: Site, method: str, text: str | None = None, **given: Any) -> dict[str, Any]:
    control = Control(site.engine)
    reply = control.call(method, given, "a test", {}, text.encode() if text else None)
    control.judge_live(reply)
    return reply


def applied(site: Site, text: str, **given: Any) -> dict[str, Any]:
    """What a dry run says of open connections."""
    given = {"assign": True, "dry_run": True, "live": True, **given}
    outcome = called(site, "ApplyPolicy", text, **given)["outcome"]
    said: dict[str, Any] = outcome["live"]
    return said


def put(site: Site, text: str) -> None:
    called(site, "ApplyPolicy", text, assign=True)


def files(site: Site) -> dict[Path, bytes]:
    directories = (site.directories.config, site.directories.state)
    return {
        path: path.read_bytes() for top in directories for path in top.rglob("*") if path.is_file()
    }


def test_a_dry_run_says_what_is_cut_and_changes_nothing(site: Site) -> None:
    """With all that is known, and the administrative first."""
    put(site, document("Old", "*=0:80:TCP"))
    before, state = files(site), site.engine.state
    said = applied(site, document("New", "*=0:1-100:TCP"))
    assert (files(site), site.engine.state) == (before, state)
    (group,) = said.pop("groups")
    (entry,) = group.pop("connections")
    assert said == {"looked_at": 1, "cut": 1, "perhaps": 0}
    assert group == {
        "count": 1,
        "perhaps": False,
        "administrative": True,
        "container": "",
        "container_id": "",
        "unit": "",
        "uid": 0,
        "address": "",
        "forwarded": False,
        "filter": "*=0:1-100:TCP",
        "rule": "R",
        "policy": "New",
        "store": "static",
    }
    assert entry == {
        "protocol": "tcp",
        "source": "203.0.113.7",
        "source_port": 4000,
        "destination": "10.9.0.1",
        "destination_port": 22,
        "state": "established",
        "packet": "tcp 203.0.113.7:4000 > 10.9.0.1:22 established",
        "inode": 100,
    }


def test_what_would_not_be_in_force_cuts_nothing(site: Site) -> None:
    """A policy that is only stored, what is cut already, what opens, and what is stopped."""
    assert applied(site, document("P", "*=0"), assign=False) == NOTHING
    assert applied(site, document("P", "*=0", more="    when: opening\n")) == NOTHING
    put(site, document("P", "*=0:22:TCP"))
    assert applied(site, document("P", "*=0")) == NOTHING
    assert called(site, "AssignPolicy", name="P", dry_run=True, live=True)["outcome"]["live"] == (
        NOTHING
    )
    called(site, "Stop")
    assert applied(site, document("P", "*=0::TCP")) == NOTHING


def test_nothing_is_said_of_connections_unless_it_is_asked(site: Site) -> None:
    """Neither by a dry run, nor by a change."""
    assert applied(site, document("P", "*=0"), live=None) is None
    outcome = called(site, "ApplyPolicy", document("P", "*=0"), assign=True, live=True)["outcome"]
    assert outcome["live"] is None


def test_a_permit_that_goes_cuts(site: Site) -> None:
    """The state of an earlier time is judged, too, and dynamic rules stay in it."""
    called(site, "AddDynamic", filters=["*=0:22:TCP"], action="block", name="No")
    put(site, document("P", "*=0:80:TCP", more=(
        '  - rule: S\n    action: permit\n    filters: ["203.0.113.7=0:22:TCP"]\n'
    )))  # fmt: skip
    said = called(site, "Rollback", state=1, dry_run=True, live=True)["outcome"]["live"]
    (group,) = said["groups"]
    assert (said["cut"], group["rule"], group["store"]) == (1, "No", "dynamic")


def test_two_policies_are_compared_as_if_they_were_in_force(site: Site) -> None:
    """Whatever is."""
    put(site, document("Q", "*=0:22:TCP"))
    new, old = document("New", "*=0::TCP"), document("Old", "*=0:80:TCP")
    assert called(site, "GetCuts", new, before=old)["live"]["cut"] == 1
    assert called(site, "GetCuts", new)["live"]["cut"] == 1
    assert called(site, "GetCuts", new, before=document("Old", "*=0"))["live"] == NOTHING
    assert called(site, "GetCuts", old, before=new)["live"] == NOTHING


def test_what_is_not_known_is_not_compared(site: Site, tmp_path: Path) -> None:
    """Where the kernel holds what an earlier process left, it is not known what is cut now."""
    put(site, document("P", "*=0:80:TCP"))
    for path in (tmp_path / "etc/policies").iterdir():
        path.write_text("broken")
    for path in (tmp_path / "lib").rglob("last-good*"):
        path.unlink()
    engine = site.again()
    assert engine.held
    for method, given in (
        ("ApplyPolicy", {"assign": True, "dry_run": True, "live": True}),
        ("GetCuts", {}),
    ):
        with pytest.raises(Refused, match="is not known here"):
            called(site, method, document("Q", "*=0"), **given)


def test_the_state_that_is_judged_is_the_state_that_is_put_in_force(site: Site) -> None:
    """With lists, containers, and a quarantine, whose rules hold against what a policy permits."""
    called(site, "CreateList", "203.0.113.0/24\n", name="bans", source=None, format=None)
    networks = {"front": (Network(Family.IPV4, BOX, 32),)}
    site.engine.set_inventory(
        "a socket", Inventory((Container("c" * 64, "web", networks=networks),))
    )
    called(site, "Quarantine", who="container:web", permits=[], ttl_s=None)
    permit = '  - rule: S\n    action: permit\n    filters: ["*=10.88.0.0/16"]\n'
    policies = [
        document("P", "@bans=0", "*=container:web:80:TCP"),
        document("P", "*=0", more=permit),
        document("P", "*=0:25:TCP"),
    ]
    for text in policies:
        policy = parse_policy(text.encode(), "-")
        written = [Written(policy, text)]
        wanted = site.engine.outlook.changed(site.engine.state, written, policy.name)
        put(site, text)
        state = site.engine.state
        assert wanted.classifier.digest == state.classifier.digest
        assert {*wanted.volatile.entries()} == {*state.volatile.entries()}
        assert wanted.compiled.key == state.compiled.key


def test_many_are_counted_and_some_are_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Administrative connections have room of their own, and come first; what is left is one."""
    monkeypatch.setattr(live, "MOST_GROUPS", 2)
    monkeypatch.setattr(live, "MOST_IN_GROUP", 3)
    many = [connection(80, number, uid=number % 4) for number in range(100)]
    untracked = [connection(81, number, tracked=False) for number in range(7)]
    monkeypatch.setattr(Open, "connections", (*many, *untracked, connection(22, uid=9)))
    opening = '  - rule: O\n    action: block\n    filters: ["*=0:81:TCP"]\n    when: opening\n'
    said = applied(site, document("P", "*=0:80:TCP", "*=0:22:TCP", more=opening))
    assert (said["looked_at"], said["cut"], said["perhaps"]) == (108, 101, 7)
    told = [
        (group["administrative"], group["perhaps"], group["count"], len(group["connections"]))
        for group in said["groups"]
    ]
    assert told == [
        (True, False, 1, 1),
        (False, False, 50, 3),
        (False, False, 25, 3),
        (False, False, 25, 3),
        (False, True, 7, 3),
    ]
    left_over = said["groups"][1]
    assert (left_over["uid"], left_over["filter"], left_over["rule"]) == (None, "", "")


def test_a_container_is_named_by_its_address(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is translated without one is of the address behind this host."""
    way = Way(Family.IPV4, 6, PEER, 4000, ME, 8080)
    forwarded = Connection("", (packet(Point.ARRIVING, way),), ())
    each = OpenConnection(way, "established", forwarded, None, (BOX, PEER), BOX)
    monkeypatch.setattr(Open, "connections", (each,))
    (group,) = applied(site, document("P", "*=0"))["groups"]
    assert (group["container"], group["address"], group["forwarded"]) == ("", "10.88.0.5", True)
    networks = {"front": (Network(Family.IPV4, BOX, 32),)}
    site.engine.set_inventory(
        "a socket", Inventory((Container("c" * 64, "web", networks=networks),))
    )
    (group,) = applied(site, document("P", "*=0"))["groups"]
    assert (group["container"], group["container_id"]) == ("web", "c" * 12)
    assert (group["address"], group["forwarded"]) == ("", True)


def test_filters_are_named_as_long_as_that_takes_no_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the rule is told alone; a filter that was named before is again."""
    monkeypatch.setattr("ipsecd.engine.judging.MOST_COMPARISONS", 1)
    monkeypatch.setattr(Open, "connections", tuple(connection(port) for port in (1, 1, 2, 1)))
    groups = applied(site, document("P", "*=0:1:TCP", "*=0:2:TCP"))["groups"]
    assert [(group["filter"], group["count"]) for group in groups] == [("*=0:1:TCP", 3), ("", 1)]
    assert {group["rule"] for group in groups} == {"R"}


def test_it_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it takes too long, or if the kernel tells nothing."""
    monkeypatch.setattr(live, "JUDGING_S", -1.0)
    monkeypatch.setattr(live, "LOOKED_AT_BETWEEN", 1)
    with pytest.raises(LimitExceeded, match="too many connections"):
        applied(site, document("P", "*=0"))

    def tells_nothing() -> Open:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(live, "OpenConnections", tells_nothing)
    with pytest.raises(Refused, match="does not tell which connections are open"):
        applied(site, document("P", "*=0"))
