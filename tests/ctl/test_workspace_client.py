"""A stand-in for the daemon over a workspace answers as the daemon does, whatever is asked."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipsecctl.workspace.client import WorkspaceClient
from ipsecctl.workspace.dynamic_rules import DynamicRule
from ipsecctl.workspace.workspace import Workspace
from ipsecd.control import Control
from ipsecd.errors import IpsecdError
from tests.engine.site import Site

POLICIES = ("Web", "Mail", "Worm")
RULES = ("in", "out", "dynamic-2")
FILTERS = ("*=0:80:TCP", "0=*", "*+0:445:tcp", "203.0.113.7+0", "0:80+*::TCP", "*=0::ICMP")
SAID = {
    "ListDynamic": ("name", "action", "filters", "interface", "when", "remaining_s"),
    "ListFilters": ("store", "policy", "rule", "filter", "action", "interface", "when"),
    "ListPolicies": ("name", "store", "assigned", "rules", "filters", "description"),
    "GetPolicy": ("document", "store", "assigned"),
    "Status": ("assigned", "state", "loaded_from", "policy_rules", "policy_filters",
               "dynamic_rules", "dynamic_filters"),
    "outcome": ("changed", "message", "assigned"),
}  # fmt: skip
"""What of a reply the old commands look at, and all that follows from what was changed."""


class DirectCaller:
    """Calls the methods of a daemon in this process."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def call(
        self,
        method: str,
        parameters: dict[str, Any] | None = None,
        descriptor: int | None = None,
    ) -> dict[str, Any]:
        assert descriptor is None
        given = (
            self._control.with_filters_read(parameters or {}, None)
            if (method == "AddDynamicRules")
            else (parameters or {})
        )
        return self._control.call(method, given, "uid 0", {}, None)


def workspace_of(caller: DirectCaller) -> Workspace:
    listed = caller.call("ListPolicies")["policies"]
    documents = {
        entry["name"]: caller.call("GetPolicy", {"name": entry["name"]})["document"]
        for entry in listed
    }
    assigned = next((entry["name"] for entry in listed if entry["assigned"]), None)
    rules = [DynamicRule.from_answer(rule) for rule in caller.call("ListDynamic")["rules"]]
    return Workspace(documents, assigned, "", rules)


names = st.sampled_from([*POLICIES, "", " bad"])
filters = st.lists(st.sampled_from([*FILTERS, "nonsense"]), min_size=1, max_size=2)
actions = st.sampled_from(["block", "permit"])
interfaces = st.sampled_from([None, "lan", "dialup"])
rule = st.fixed_dictionaries(
    {
        "name": st.sampled_from([*RULES, ""]),
        "action": actions,
        "filters": filters,
        "interface": interfaces,
    }
)


def calls(method: str, **parameters: Any) -> Any:
    return st.tuples(st.just(method), st.fixed_dictionaries(parameters))


CALLS = st.one_of(
    calls("PutRules", policy=names, rules=st.lists(rule, max_size=2), create=st.booleans(),
          assign=st.booleans()),
    calls("RemoveRules", policy=names,
          rules=st.lists(st.sampled_from(RULES), max_size=3, unique=True),
          delete_empty=st.booleans()),
    calls("CreatePolicy", name=names, description=st.sampled_from([None, "what for"])),
    calls("DeletePolicy", name=names, unassign=st.booleans(), missing_ok=st.booleans()),
    calls("AssignPolicy", name=names),
    calls("UnassignPolicy", name=st.one_of(st.none(), names)),
    calls("GetPolicy", name=names),
    calls("AddDynamic", filters=filters, action=actions, interface=interfaces),
    calls("AddDynamicRules", filters=filters, action=actions, interface=interfaces,
          name=st.sampled_from(RULES), existing=st.just("replace")),
    calls("RemoveDynamic", selector=st.sampled_from([*RULES, "dynamic-1"])),
    calls("RemoveDynamicRules",
          selectors=st.lists(st.sampled_from(RULES), max_size=2, unique=True)),
    *(calls(name) for name in ("FlushDynamic", "ListDynamic", "ListFilters", "ListPolicies",
                               "Status", "Stop", "Start")),
)  # fmt: skip


def said(method: str, answer: dict[str, Any]) -> Any:
    """What of an answer has to be the same."""
    if "outcome" in answer:
        return {key: answer["outcome"][key] for key in SAID["outcome"]}
    if method == "AddDynamic":
        return _of(answer["rule"], SAID["ListDynamic"])
    if method == "AddDynamicRules":
        rules = [_of(each, SAID["ListDynamic"]) for each in answer["rules"]]
        return rules, answer["changed"], answer["added"], answer["renewed"]
    if method == "Status":
        return _of(answer["status"], SAID[method])
    if method == "GetPolicy":
        return _of(answer, SAID[method])
    if method.startswith("List"):
        return [_of(entry, SAID[method]) for entry in next(iter(answer.values()))]
    return answer.get("removed")


def _of(entry: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: entry[key] for key in keys}


def answer_of(caller: Any, method: str, parameters: dict[str, Any]) -> Any:
    try:
        return said(method, caller.call(method, parameters))
    except IpsecdError as error:
        return type(error), error.message, error.hint


RULE = {"name": "in", "action": "block", "filters": ["0=*"], "interface": None}
STORED = ("PutRules", {"policy": "Web", "rules": [RULE], "create": True, "assign": True})
NONSENSE = ("PutRules", {"policy": "", "rules": [{**RULE, "filters": ["nonsense"]}],
                         "create": True, "assign": False})  # fmt: skip


def replacing(*texts: str) -> tuple[str, dict[str, Any]]:
    asked = {"filters": [*texts], "action": "block", "interface": None, "name": "in"}
    return ("AddDynamicRules", {**asked, "existing": "replace"})


@settings(max_examples=60, deadline=None)
@example([STORED], [("Stop", {}), STORED, replacing("0=*")])
@example([replacing("0=*", "*+0:445:tcp")], [replacing("*+0:445:tcp", "0=*"), replacing("0=*")])
@example([], [replacing("0=*"), ("AddDynamic", RULE), replacing("0=*", "0=*")])
@example([], [NONSENSE])
@given(st.lists(CALLS, max_size=6), st.lists(CALLS, max_size=12))
def test_it_answers_as_the_daemon(
    before: list[tuple[str, dict[str, Any]]], asked: list[tuple[str, dict[str, Any]]]
) -> None:
    """From any state on: each answer, each error, and what there is at the end.

    Which numbers the names of rules had that are gone, the daemon alone knows.
    """
    with tempfile.TemporaryDirectory() as directory:
        site = Site(Path(directory))
        daemon = DirectCaller(Control(site.engine))
        for method, parameters in before:
            if method != "AddDynamic":
                answer_of(daemon, method, parameters)
        stand_in = WorkspaceClient(workspace_of(daemon), daemon)
        every = [*asked, *((name, {}) for name in SAID if name.startswith(("List", "Status")))]
        answers = [answer_of(stand_in, method, parameters) for method, parameters in every]
        wanted = [answer_of(daemon, method, parameters) for method, parameters in every]
        for call, got, want in zip(every, answers, wanted, strict=True):
            assert got == want, call
