"""A workspace: what was changed in it, what follows from shared filters, and asking for all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from ipsecctl.workspace import exchange
from ipsecctl.workspace import workspace as module
from ipsecctl.workspace.dynamic_rules import DynamicRule
from ipsecctl.workspace.workspace import Workspace
from ipsecd.errors import Changed, NotFound, Refused
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.language.filters import parse_filter
from ipsecd.language.shared_filters import expanded, format_shared_filters, parse_shared_filter
from ipsecd.model.shared_filters import FilterAction, FilterList, SharedFilters
from ipsecd.model.values import Action, Policy, Rule

WEB = 'policy: Web\nrules:\n  - rule: A\n    action: block\n    filters: ["*=0:80:TCP"]\n'
MAIL = 'policy: Mail\nrules:\n  - rule: A\n    action: block\n    filters: ["*=0:25:TCP"]\n'
BANS = FilterList("bans", "", (parse_shared_filter("203.0.113.7+0"),))
STOP = FilterAction("stop", Action.BLOCK)
SHARED = SharedFilters.of([BANS], [STOP])
USER = Policy(
    "User", (Rule("B", (parse_filter("203.0.113.7+0"),), Action.BLOCK, filter_list="bans",
                  filter_action="stop"),)
)  # fmt: skip
NOTHING: dict[str, Any] = {
    "put": [], "delete": [], "assign": None, "unassign": False, "shared_filters": None,
    "put_rules": [], "remove_rules": [], "lists": [],
}  # fmt: skip


def noting(noted: list[str], function: Callable[..., Any], key: Callable[..., str]) -> Any:
    """`function`, which notes what it is called with."""

    def noted_function(*arguments: Any) -> Any:
        noted.append(key(*arguments))
        return function(*arguments)

    return noted_function


def with_shared() -> Workspace:
    documents = {"Web": WEB, "User": format_policy(USER)}
    return Workspace(documents, "User", format_shared_filters(SHARED))


def test_nothing_differs_at_first() -> None:
    """Neither what is only looked at, nor what is put there as it was."""
    space = with_shared()
    space.put_policy(space.policy("Web"))
    space.put_policy(parse_policy(WEB))
    space.shared = SHARED
    assert space.differences() == {}


def test_only_what_is_asked_for_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is parsed when its policy is asked for, or uses a list that has changed."""
    read: list[str] = []
    reads = noting(read, parse_policy, lambda _, name: name)
    monkeypatch.setattr(module, "parse_policy", reads)
    space = Workspace({"Web": WEB, "Mail": MAIL, "User": format_policy(USER)}, None)
    assert space.differences() == {}
    assert read == []
    space.policy("Web")
    space.policy("Web")
    assert read == ["Web"]


def test_what_differs_is_told() -> None:
    """Policies that are new, other or gone, what is assigned, and dynamic rules."""
    old = [DynamicRule.made("x", "block", ["0=*"]), DynamicRule.made("y", "block", ["0=*"])]
    space = Workspace({"Web": WEB, "Mail": MAIL}, "Mail", "", old)
    space.delete_policy("Mail")
    space.put_policy(space.policy("Web").without_rules(frozenset({"A"})))
    space.put_policy(Policy("New"))
    space.assign("New")
    space.remove_dynamic("x")
    space.put_dynamic(DynamicRule.made("z", "permit", ["0=*:53"], "lan"))
    space.put_dynamic(DynamicRule.made("y", "block", ["0=*"]))
    assert space.differences() == {
        **NOTHING,
        "put": [
            {"name": "New", "document": "policy: New\nrules: []\n"},
            {"name": "Web", "document": "policy: Web\nrules: []\n"},
        ],
        "delete": ["Mail"],
        "assign": "New",
        "put_rules": [
            {"name": "z", "filters": ["0=*:53"], "action": "permit", "ttl_s": None,
             "interface": "lan"}
        ],
        "remove_rules": ["x"],
        "lists": [],
    }  # fmt: skip


@pytest.mark.parametrize(("again", "unassign"), [(True, True), (False, False)])
def test_an_assigned_policy_that_is_deleted_is_unassigned(again: bool, unassign: bool) -> None:
    """That goes without saying; one that is made anew has to be unassigned."""
    space = Workspace({"Web": WEB}, "Web")
    space.delete_policy("Web")
    if again:
        space.put_policy(parse_policy(WEB))
    assert space.differences()["unassign"] is unassign
    if again:
        space.assign("Web")
        assert space.differences() == {}


def test_rules_follow_their_list_and_action() -> None:
    """In every policy that uses them, and in policies that nobody has asked for."""
    space = with_shared()
    longer = FilterList("bans", "", (*BANS.filters, parse_shared_filter("203.0.113.8+0")))
    space.shared = SHARED.with_list(longer).with_action(FilterAction("stop", Action.PERMIT))
    asked: Any = space.differences()
    assert [each["name"] for each in asked["put"]] == ["User"]
    rule = parse_policy(asked["put"][0]["document"]).rules[0]
    assert [len(rule.filters), rule.action] == [2, Action.PERMIT]
    assert asked["shared_filters"] == format_shared_filters(space.shared)
    assert space.policy("User").rules == (rule,)
    space.shared = SHARED
    assert space.differences() == {}


def test_a_list_is_expanded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it was changed before, and however many rules use it."""
    counted: list[str] = []
    monkeypatch.setattr(module, "expanded", noting(counted, expanded, lambda given: given.name))
    rules = tuple(
        Rule(f"R{n}", (), Action.BLOCK, filter_list="bans", filter_action="stop") for n in range(9)
    )
    documents = {"User": format_policy(Policy("User", rules))}
    space = Workspace(documents, None, format_shared_filters(SHARED))
    for n in range(100):
        more = (*space.shared.lists["bans"].filters, parse_shared_filter(f"192.0.2.{n}+0"))
        space.shared = space.shared.with_list(FilterList("bans", "", more))
    assert space.differences()
    assert {len(rule.filters) for rule in space.policy("User").rules} == {101}
    assert counted == ["bans"]


def test_users_of_a_list() -> None:
    """Whoever deletes one has to know which rules use it."""
    space = with_shared()
    assert space.users_of(filter_list="bans") == [("User", "B")]
    assert space.users_of(filter_action="stop") == [("User", "B")]
    assert space.users_of(filter_list="other") == []


def test_shared_filters_that_cannot_be_read_are_not_overwritten() -> None:
    """They are somebody's edit; all else can be changed."""
    space = Workspace({"Web": WEB}, "Web", "filter-lists: 3\n")
    with pytest.raises(Refused, match="cannot be read"):
        space.shared = SHARED
    with pytest.raises(Refused, match="cannot be read"):
        _ = space.shared
    space.delete_policy("Web")
    assert space.differences() == {**NOTHING, "delete": ["Web"]}


def test_what_is_not_there_is_not_found() -> None:
    """To be read, deleted or assigned."""
    space = Workspace()
    for do in (space.policy, space.delete_policy, space.assign):
        with pytest.raises(NotFound, match="there is no policy 'Wbe'"):
            do("Wbe")


def rest_at(descriptor: int | None) -> dict[str, Any]:
    """The parameters in a file that goes with a call."""
    if descriptor is None:
        return {}
    rest: dict[str, Any] = json.loads(os.pread(descriptor, 1 << 24, 0))
    return {**rest, "rest": "in a file"}


class FakeDaemon:
    """Has one policy, and is changed by somebody else so many times."""

    def __init__(self, others: int) -> None:
        self.others = others
        self.state = 0
        self.changes: list[dict[str, Any]] = []

    def call(
        self,
        method: str,
        parameters: dict[str, Any] | None = None,
        descriptor: int | None = None,
    ) -> dict[str, Any]:
        if method == "GetWorkspace":
            reply = {
                "fingerprint": str(self.state),
                "policies": [{"name": "Web", "document": WEB}],
                "assigned": "Web",
                "shared_filters": None,
                "dynamic": [],
            }
            self.state += self.others > 0
            self.others -= 1
            return reply
        assert parameters is not None
        if parameters["fingerprint"] != str(self.state):
            raise Changed("somebody else has changed something")
        self.changes.append({**parameters, **rest_at(descriptor)})
        return {"outcome": {"changed": True}}


def test_a_change_is_worked_out_anew_if_others_change_something() -> None:
    """From the start, a few times; then somebody is told."""
    tried = 0

    def make(space: Workspace) -> str:
        nonlocal tried
        tried += 1
        space.delete_policy("Web")
        return "made"

    daemon = FakeDaemon(3)
    assert exchange.changed_together(daemon, make) == "made"
    assert tried == 4
    assert daemon.changes == [{"fingerprint": "3", **NOTHING, "delete": ["Web"]}]
    with pytest.raises(Changed):
        exchange.changed_together(FakeDaemon(exchange.ATTEMPTS), make)


def test_who_changes_nothing_asks_for_nothing() -> None:
    """So that whoever may only look can use what only looks."""
    daemon = FakeDaemon(0)
    assert exchange.changed_together(daemon, Workspace.names) == ["Web"]
    assert exchange.commit(daemon, exchange.load(daemon))["changed"] is False
    assert daemon.changes == []


def test_what_differs_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All policies that are changed are written for that, which is most of what a change takes."""
    written: list[str] = []
    noted = noting(written, format_policy, lambda policy: policy.name)
    monkeypatch.setattr(module, "format_policy", noted)
    daemon = FakeDaemon(0)
    space = exchange.load(daemon)
    space.put_policy(parse_policy(MAIL))
    exchange.commit(daemon, space)
    assert written == ["Mail"]


def test_what_is_long_goes_as_a_file() -> None:
    """A call has 1 MiB at most, and a list of a country alone may be longer."""
    daemon = FakeDaemon(0)
    space = exchange.load(daemon)
    filters = tuple(parse_filter(f"10.{n >> 8}.{n & 255}.0/24+0") for n in range(9000))
    space.put_policy(Policy("Länder", (Rule("A", filters, Action.BLOCK),)))
    space.delete_policy("Web")
    exchange.commit(daemon, space)
    (change,) = daemon.changes
    assert change.pop("rest") == "in a file"
    assert change == {"fingerprint": "0", **space.differences()}
