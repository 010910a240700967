"""What is printed of open connections, and whose sockets they are."""

from __future__ import annotations

import json
import os
import pwd
import socket
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ipsecctl.processes import processes_of, user_name
from ipsecd.language.documents import format_policy, parse_policy
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import DOCUMENT, OUTCOME, FakeDaemon

CONNECTION = {
    "protocol": "tcp",
    "source": "203.0.113.7",
    "source_port": 4000,
    "destination": "2001:db8::1",
    "destination_port": 22,
    "state": "established",
    "packet": "tcp 203.0.113.7:4000 > 192.0.2.1:22 established",
    "inode": 0,
}
GROUP = {
    "count": 1,
    "perhaps": False,
    "administrative": False,
    "container": "",
    "container_id": "",
    "unit": "",
    "uid": None,
    "address": "",
    "forwarded": False,
    "filter": "*=0",
    "rule": "R",
    "policy": "P",
    "store": "static",
    "connections": [CONNECTION],
}


def live(*groups: dict[str, Any]) -> dict[str, Any]:
    counts = [
        sum(group["count"] for group in groups if group["perhaps"] is kind)
        for kind in (False, True)
    ]
    found = {"looked_at": 3412, "cut": counts[0], "perhaps": counts[1], "groups": [*groups]}
    return deepcopy(found)


def printed(daemon: FakeDaemon, run: Run, *groups: dict[str, Any]) -> list[str]:
    daemon.replies["Rollback"] = {"outcome": {**OUTCOME, "live": live(*groups)}}
    ran = run("ipsecctl", "rollback", "--dry-run", "--live")
    assert ran.code == 0, ran.err
    return ran.out.splitlines()[1:]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, "of others, by '*=0' in rule 'R' of policy 'P'"),
        (
            {"container": "web", "container_id": "0123456789ab", "forwarded": True},
            "of container 'web' (0123456789ab), by '*=0' in rule 'R' of policy 'P'",
        ),
        (
            {"uid": 0, "unit": "/system.slice/nginx.service", "filter": ""},
            "of user root in nginx.service, by rule 'R' of policy 'P'",
        ),
        (
            {"address": "10.88.0.5", "forwarded": True, "policy": "", "rule": "ban"},
            "of 10.88.0.5, which this host translates, by '*=0' in rule 'ban'",
        ),
        ({"forwarded": True, "rule": ""}, "that this host forwards"),
        ({"administrative": True, "rule": ""}, "of others, a port of administration"),
    ],
)
def test_whose_connections_are_cut(
    daemon: FakeDaemon, run: Run, more: dict[str, Any], line: str
) -> None:
    """And by which filter, as far as it is known."""
    first, of_group, of_connection = printed(daemon, run, {**GROUP, **more})
    assert first == "1 connection would be cut, of 3,412 that are open now:"
    assert of_group == f"  1 connection {line}"
    assert of_connection == "    tcp 203.0.113.7:4000 > [2001:db8::1]:22 established"


def test_many_connections_are_counted(daemon: FakeDaemon, run: Run) -> None:
    """The first of each group are shown; what may be cut stands apart."""
    many = {**GROUP, "count": 1204, "connections": [CONNECTION] * 20}
    without_ports = {**CONNECTION, "protocol": "gre", "source_port": None, "destination_port": None}
    perhaps = {**GROUP, "perhaps": True, "connections": [without_ports]}
    lines = printed(daemon, run, many, perhaps)
    assert lines[0] == "1,204 connections would be cut, of 3,412 that are open now:"
    assert lines[1].startswith("  1,204 connections of others")
    assert lines[5] == "    and 1,201 more"
    assert lines[6].startswith("1 connection may be cut: ")
    assert lines[8] == "    gre 203.0.113.7 > 2001:db8::1 established"


def test_nothing_is_cut(daemon: FakeDaemon, run: Run) -> None:
    """It says of how many."""
    assert printed(daemon, run) == ["no connection would be cut, of 3,412 that are open now"]


def test_the_processes_of_sockets_are_found(daemon: FakeDaemon, run: Run) -> None:
    """By the inodes that the daemon tells; both in words and as fields."""
    with socket.socket() as mine, socket.socket() as other:
        inode = os.fstat(mine.fileno()).st_ino
        (process,) = processes_of([inode])[inode]
        assert (process.pid, process.user) == (os.getpid(), pwd.getpwuid(os.getuid()).pw_name)
        assert os.fstat(other.fileno()).st_ino not in processes_of([inode])
        group = {**GROUP, "connections": [{**CONNECTION, "inode": inode}], "unit": "/a.service"}
        lines = printed(daemon, run, group)
        name = Path("/proc/self/comm").read_text().strip()
        user = user_name(os.getuid())
        assert f"of {name} (pid {os.getpid()}, {user}) in a.service" in lines[1]
        daemon.replies["AssignPolicy"] = {"outcome": {**OUTCOME, "live": live(group)}}
        ran = run("ipsecctl", "policy", "assign", "Web", "--dry-run", "--live", "--json")
    (told,) = json.loads(ran.out)["live"]["groups"]
    assert told["connections"][0]["processes"] == [{"pid": os.getpid(), "name": name, "user": user}]
    assert told["user"] is None


def test_a_process_that_cannot_be_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is not there, and is no error; a user without a name has a number."""
    monkeypatch.setattr("ipsecctl.processes.PROCESSES", str(tmp_path))
    (tmp_path / "7").mkdir()
    (tmp_path / "self").mkdir()
    assert processes_of([1]) == {}
    monkeypatch.setattr("ipsecctl.processes.PROCESSES", str(tmp_path / "absent"))
    assert processes_of([1]) == {}
    assert user_name(4_000_000) == "4000000"


def test_two_files_are_compared(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    """The daemon gets both; containers have names because it is asked for them first."""
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(DOCUMENT)
    new.write_text(DOCUMENT.replace("80", "81"))
    daemon.replies["GetCuts"] = {"live": live(GROUP)}
    ran = run("ipsecctl", "diff", str(old), str(new), "--live")
    assert ran.code == 1
    assert "1 connection would be cut, of 3,412 that are open now:" in ran.out
    assert [method for method, _ in daemon.calls] == ["ListContainers", "GetCuts"]
    assert daemon.calls[1][1]["before"] == format_policy(parse_policy(DOCUMENT))
    assert daemon.document == format_policy(parse_policy(new.read_text())).encode()
    daemon.calls.clear()
    daemon.replies["GetState"] = {"policies": [], "assigned": None, "domain": None}
    ran = run("ipsecctl", "diff", "@2", "--live", "--json")
    assert json.loads(ran.out)["live"]["cut"] == 1
    assert parse_policy(daemon.document or b"").rules == ()


def test_a_policy_that_is_too_long_to_be_sent(
    daemon: FakeDaemon, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to do."""
    monkeypatch.setattr("ipsecctl.dry_runs.MOST_TEXT", 10)
    old = tmp_path / "old.yaml"
    old.write_text(DOCUMENT)
    ran = run("ipsecctl", "diff", str(old), str(old), "--live")
    assert (ran.code, "may have 10 bytes" in ran.err) == (2, True)
    assert "GetCuts" not in [method for method, _ in daemon.calls]
