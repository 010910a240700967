"""Tests of who may call what, over every method of both interfaces."""

from __future__ import annotations

import grp
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from ipsecctl.client import READS
from ipsecd.control import METHODS as RECORDS
from ipsecd.control.method import Role, Work
from ipsecd.protocol.description import CONTROL, SERVICE, load_interface
from ipsecd.service import access
from ipsecd.service.access import (
    ROLES,
    Peer,
    credentials,
    group_id,
    is_admitted,
    may_call,
    with_account,
)

METHODS = [
    f"{name}.{method}" for name in (CONTROL, SERVICE) for method in load_interface(name).methods
]
GROUP_SETS = [
    frozenset(groups)
    for count in range(4)
    for groups in itertools.combinations(("ipsec", "ipsec-view", "wheel"), count)
]


def peer(uid: int, groups: frozenset[str] = frozenset()) -> Peer:
    return Peer(1, uid, frozenset(), groups)


def test_every_method_is_either_a_read_or_a_change() -> None:
    """No method of the contract is forgotten in the table, and none is there that is not in it."""
    assert sorted(ROLES) == sorted(METHODS)


def test_records_agree_with_the_contract() -> None:
    """Every method of the interface has one record, and documents go where the contract has one."""
    methods = load_interface(CONTROL).methods
    assert RECORDS.keys() == methods.keys()
    for name, method in methods.items():
        assert RECORDS[name].takes_document == ("document" in method.parameters.fields), name


def test_every_change_can_be_asked_for_in_all_ways() -> None:
    """What people change something with takes `change`, and nothing else does."""
    methods = load_interface(CONTROL).methods
    for name, record in RECORDS.items():
        assert record.takes_change == ("change" in methods[name].parameters.fields), name


def test_who_may_only_look_causes_no_change() -> None:
    """A method that everybody who is admitted may call is no change, and the client knows it."""
    for name, record in RECORDS.items():
        assert record.role is not Role.VIEW or record.work is not Work.CHANGE, name
        assert name.startswith(READS) == (record.role is Role.VIEW), name


@pytest.mark.parametrize("method", METHODS)
def test_root_may_call_everything(method: str) -> None:
    """Root needs no group."""
    assert may_call(peer(0), method)


@pytest.mark.parametrize("groups", GROUP_SETS, ids=lambda groups: ",".join(sorted(groups)))
@pytest.mark.parametrize("method", METHODS)
def test_groups_give_what_the_table_says(method: str, groups: frozenset[str]) -> None:
    """Group ipsec changes and reads, group ipsec-view reads, and no other group gives anything."""
    role = ROLES[method]
    allowed = ("ipsec" in groups and role is not Role.FETCH) or (
        "ipsec-view" in groups and role is Role.VIEW
    )
    assert may_call(peer(1000, groups), method) == allowed


@pytest.mark.parametrize("groups", GROUP_SETS, ids=lambda groups: ",".join(sorted(groups)))
def test_only_members_are_admitted(groups: frozenset[str]) -> None:
    """Who is in neither group gets no answer at all."""
    assert is_admitted(peer(1000, groups)) == bool(groups & {"ipsec", "ipsec-view"})


FETCHER_CALLS = {
    *("GetDomain", "TakeDomain", "ReportDomain", "AwaitDomain"),
    *("AwaitNames", "AnswerNames", "AwaitFeeds", "AnswerFeed"),
}


@pytest.mark.parametrize("groups", GROUP_SETS, ids=lambda groups: ",".join(sorted(groups)))
@pytest.mark.parametrize("method", METHODS)
def test_the_fetcher_of_the_domain_hands_over_and_nothing_else(
    method: str, groups: frozenset[str]
) -> None:
    """The user ipsecd-domain may call six methods, whatever groups it is in; no group may."""
    fetcher = Peer(1, 990, frozenset(), groups, "ipsecd-domain", is_fetcher=True)
    assert is_admitted(fetcher)
    assert may_call(fetcher, method) == (method.rpartition(".")[2] in FETCHER_CALLS)
    if ROLES[method] is Role.FETCH:
        assert not may_call(peer(1000, groups), method)


def test_the_fetcher_is_known_by_its_number() -> None:
    """It is the user of that name in the accounts, not whoever says so."""
    someone = Peer(1, 990, frozenset(), user="ipsecd-domain")
    assert with_account(someone, _lookup(), _lookup(**{"ipsecd-domain": 990})).is_fetcher
    assert not with_account(someone, _lookup(), _lookup(**{"ipsecd-domain": 991})).is_fetcher
    assert not with_account(someone, _lookup(), _lookup()).is_fetcher


def test_methods_of_no_table_are_for_nobody() -> None:
    """A method that the table does not know is not even root's."""
    assert not may_call(peer(0), "io.ipsecd.control.Nonsense")


def test_the_kernel_names_the_peer() -> None:
    """Pid, uid and all groups come from the socket, and not from what the peer says."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = credentials(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    assert peer.gids == {os.getgid(), *os.getgroups()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on groups")
def test_more_groups_than_a_getsockopt_buffer_holds_are_all_seen() -> None:
    """A peer in a thousand groups has each of them."""
    script = (
        "import os, socket; os.setgroups(list(range(5000, 6000)));"
        "from ipsecd.service.access import credentials;"
        "a, b = socket.socketpair(); print(len(credentials(a).gids & set(range(5000, 6000))))"
    )
    assert _output(script) == "1000"


def test_groups_are_known_by_number_only_where_they_exist() -> None:
    """A group that the host does not have is nobody's, whatever numbers the peer brings."""
    someone = Peer(1, 65534, frozenset({7, 8}))
    assert with_account(someone, _lookup(ipsec=7), _lookup()).groups == {"ipsec"}
    assert with_account(someone, _lookup(**{"ipsec": 9, "ipsec-view": 8}), _lookup()).groups == {
        "ipsec-view"
    }
    assert with_account(someone, _lookup(), _lookup()).groups == frozenset()


def test_roots_group_is_nothing() -> None:
    """Group number 0 is not the user root, and a user of the daemon's own uid is not either."""
    assert not is_admitted(Peer(1, 1000, frozenset({0})))
    assert not is_admitted(
        with_account(Peer(1, os.getuid() or 1000, frozenset({0})), _lookup(), _lookup())
    )


def test_groups_of_the_system_are_looked_up() -> None:
    """A group of this host has its number; one that is not there has none, and no error."""
    first = grp.getgrall()[0]
    assert group_id(first.gr_name) == first.gr_gid
    assert group_id("no-such-group-here") is None


def test_names_are_for_people() -> None:
    """A peer is written with the name of its user, where it has one."""
    assert str(Peer(5, 0, frozenset(), user="root")) == "uid 0 (root) pid 5"
    assert str(Peer(5, 4321, frozenset())) == "uid 4321 pid 5"
    assert with_account(Peer(5, 0, frozenset()), _lookup(), _lookup()).user == "root"


def _lookup(**numbers: int) -> Callable[[str], int | None]:
    def gid_of(name: str) -> int | None:
        return numbers.get(name)

    return gid_of


def _output(script: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_process_of_a_peer_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each connection anew: another process may have its number by then."""
    asked = []

    def name(pid: int) -> str:
        asked.append(pid)
        return f"name {len(asked)}"

    monkeypatch.setattr(access, "command_of", name)
    monkeypatch.setattr(access, "login_uid_of", lambda pid: 1000 + pid)
    first, second = (Peer(7, 0, frozenset()) for _ in range(2))
    assert first == second
    assert [first.process, first.process] == [(1007, "name 1")] * 2
    assert second.process == (1007, "name 2")
    assert asked == [7, 7]
