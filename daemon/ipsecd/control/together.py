"""Owns the methods for whoever changes policies, shared filters, lists and rules as one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ipsecd.control.list_changes import lists_differences
from ipsecd.control.lists_together import ListsTogether, lists_together
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.parameters import read_dynamic, read_filters
from ipsecd.control.replies import dynamic_rule, of_this_host, outcome, with_losses
from ipsecd.control.stored_differences import policy_in, stored_differences
from ipsecd.control.what_if import add_verdicts
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.errors import InvalidInput
from ipsecd.language.documents import format_policy
from ipsecd.language.expectations import must_be_met, unmet_warnings
from ipsecd.language.filters import parse_filter
from ipsecd.model.policy_changes import absent
from ipsecd.model.values import Policy
from ipsecd.quoting import count, few, quote
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.lists import NOTHING
from ipsecd.sources.names import dns_names_in, dns_names_of
from ipsecd.sources.planning import Written
from ipsecd.sources.reading import SHARED, Loaded, StoredPolicy, StoredShared
from ipsecd.sources.static import KEEP, Keep, Kept


def _get_workspace(engine: Engine, _: Request) -> dict[str, Any]:
    state = engine.state
    loaded = state.loaded
    return {
        "fingerprint": engine.workspaces.fingerprint(state),
        "policies": [
            {"name": name, "document": stored.text}
            for name, stored in sorted(loaded.policies.items())
        ],
        "assigned": loaded.assigned,
        "shared_filters": loaded.shared.text if loaded.shared else None,
        "dynamic": [dynamic_rule(engine, rule) for rule in state.dynamic],
    }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A change that was asked for: what of it differs from what is there, and what would be then.

    ``put`` and ``written`` are policies as for ``Policies.change``; ``content`` is what the store
    would hold. ``rules`` are those of ``put_rules``, and ``removed`` the names of rules that are
    there. ``lists`` are those that change.
    """

    put: Sequence[Policy]
    written: Sequence[Written]
    delete: Sequence[str]
    assign: str | Keep | None
    shared: str | None
    rules: Sequence[DynamicRule]
    removed: Sequence[str]
    lists: ListsTogether
    content: Loaded

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies to be stored."""
        return (*self.put, *(new.policy for new in self.written))

    @property
    def lasts(self) -> bool:
        """Whether anything of the static store changes, which outlives the daemon."""
        return bool(self.policies or self.delete or self.shared is not None) or (
            self.assign is not KEEP
        )

    @property
    def changes_rules(self) -> bool:
        """Whether dynamic rules change."""
        return bool(self.rules or self.removed)


def _change_together(engine: Engine, request: Request) -> dict[str, Any]:
    fingerprint = request["fingerprint"]
    expected = engine.workspaces.expected(fingerprint, engine.state) if fingerprint else None
    wanted = _wanted(engine, request)
    before = engine.loaded
    alone = None if wanted.lasts or wanted.changes_rules else wanted.lists.alone()
    lists = None if alone else wanted.lists.prepared()
    of_lists = alone or (lists.change if lists else NOTHING)
    lines = [
        *stored_differences(before, wanted.content),
        *lists_differences(engine, of_lists.changes),
        *_of_rules(wanted),
    ]
    beside = None
    if wanted.rules or request["remove_rules"]:
        beside = engine.rules_beside(wanted.rules, tuple(request["remove_rules"]), expected)
    if not wanted.lasts and not wanted.changes_rules and not of_lists.changes:
        return outcome(engine, "all is as it should be, and nothing has changed", changed=False)
    if request["dry_run"]:
        return _would_be(engine, request, wanted, lines)
    kept = Kept()
    if alone:
        engine.kept_lists.carry_out(alone)
    elif wanted.lasts or lists:
        kept = engine.change(
            put=wanted.put,
            written=wanted.written,
            delete=wanted.delete,
            assign=wanted.assign,
            names=request.names,
            shared=wanted.shared,
            beside=beside,
            lists=lists,
        )
        wanted.lists.finish()
    else:
        assert beside
        engine.change_rules(beside)
    reply = outcome(engine, f"changed: {_words(wanted)}", changes=lines, warns=True)
    for policy in wanted.policies:
        if engine.loaded.assigned != policy.name:
            reply["outcome"]["warnings"] += unmet_warnings(policy)
    return of_this_host(engine, with_losses(reply, kept)) if wanted.lasts else reply


def _would_be(
    engine: Engine, request: Request, wanted: _Wanted, lines: list[str]
) -> dict[str, Any]:
    """What a dry run says."""
    content = wanted.content
    if wanted.changes_rules:
        engine.rules_beside(wanted.rules, wanted.removed).change(engine.state)
    assigned = policy_in(content, content.assigned) if content.assigned else None
    if assigned and wanted.lasts:
        must_be_met(assigned)
    reply = outcome(engine, f"this would change: {_words(wanted)}", changes=lines)
    if wanted.changes_rules or wanted.lists:
        others = "dynamic rules" if wanted.changes_rules else "lists"
        reply["outcome"]["warnings"].append(
            f"which packets are decided differently is not said, because {others} change too"
        )
    else:
        add_verdicts(engine, assigned, request.names, reply["outcome"])
    return of_this_host(engine, reply)


def _wanted(engine: Engine, request: Request) -> _Wanted:
    """What is asked for; raises ``IpsecdError`` if it does not go together."""
    loaded = engine.loaded
    policies = _policies(engine, request)
    delete = list(dict.fromkeys(request["delete"]))
    for name in delete:
        if name in policies:
            raise InvalidInput(f"policy {quote(name)} is to be stored and to be deleted")
        if name not in loaded.policies:
            raise absent(name)
    put, written = [], []
    content = {name: each for name, each in loaded.policies.items() if name not in delete}
    for name, (policy, text) in policies.items():
        stored = loaded.policies.get(name)
        is_canonical = text == format_policy(policy)
        same = stored is not None and (
            policy == stored.policy if is_canonical else text == stored.text
        )
        if stored and same and engine.is_on_disk(name):
            continue
        # A document in canonical form has neither comments nor a layout: those of the file stay.
        if is_canonical:
            put.append(policy)
        else:
            written.append(Written(policy, text))
        content[name] = StoredPolicy(policy, stored.path if stored else "", text)
    assign = _assign(request, loaded, content)
    after = replace(loaded, policies=content)
    if assign is not KEEP:
        after = replace(after, assigned=assign if isinstance(assign, str) else None)
    shared = request["shared_filters"]
    if shared is not None:
        source = str(engine.policy_directory / SHARED)
        after = replace(after, shared=StoredShared(engine.read_shared(shared, source), shared))
        shared = None if after.shared == loaded.shared else shared
    rules = _rules(engine, request)
    there, put_names = engine.dynamic, {rule.name for rule in rules}
    removed = [
        name
        for name in dict.fromkeys(request["remove_rules"])
        if there.get(name) and name not in put_names
    ]
    lists = lists_together(engine, request)
    return _Wanted(put, written, delete, assign, shared, rules, removed, lists, after)


def _policies(engine: Engine, request: Request) -> dict[str, tuple[Policy, str]]:
    policies: dict[str, tuple[Policy, str]] = {}
    for given in request["put"]:
        name, text = given["name"], given["document"]
        policy = engine.read_policy(text, f"<policy {quote(name)}>")
        if policy.name != name:
            raise InvalidInput(
                f"the document of policy {quote(name)} is that of policy {quote(policy.name)}",
                "to give a policy another name, delete the old one and store the new one",
            )
        if name in policies:
            raise InvalidInput(f"policy {quote(name)} is to be stored twice")
        policies[name] = policy, text
    return policies


def _assign(
    request: Request, loaded: Loaded, content: dict[str, StoredPolicy]
) -> str | Keep | None:
    """Which policy is to be assigned; KEEP if that is no change."""
    name = request["assign"]
    if name is not None:
        if request["unassign"]:
            raise InvalidInput(f"policy {quote(name)} is to be assigned, and none")
        if name not in content:
            raise absent(name)
        return KEEP if name == loaded.assigned and not loaded.assigned_error else str(name)
    is_gone = loaded.assigned is not None and loaded.assigned not in content
    return None if is_gone or (request["unassign"] and loaded.link is not None) else KEEP


def _rules(engine: Engine, request: Request) -> list[DynamicRule]:
    now, created = engine.now(), time.time()
    rules: dict[str, DynamicRule] = {}
    for wanted in request["put_rules"]:
        name, filters = wanted["name"], read_filters(wanted["filters"], request.names)
        if not filters:
            raise InvalidInput(f"dynamic rule {quote(name)} has no filter", "give one at least")
        if name in rules:
            raise InvalidInput(f"dynamic rule {quote(name)} is to be there twice")
        rules[name] = read_dynamic(wanted, filters, now, created, request.by)
    return list(rules.values())


def _of_rules(wanted: _Wanted) -> list[str]:
    """What becomes of dynamic rules, a line each kind."""
    lines = []
    for sign, names in (("+", [rule.name for rule in wanted.rules]), ("-", wanted.removed)):
        if names:
            told = few([quote(name) for name in names])
            lines.append(f"{sign} {count(len(names), 'dynamic rule')}: {told}")
    return lines


def _words(wanted: _Wanted) -> str:
    """What is changed, in words."""
    words = []
    if wanted.policies:
        words.append(f"{count(len(wanted.policies), 'policy')} stored")
    if wanted.delete:
        words.append(f"{count(len(wanted.delete), 'policy')} deleted")
    if isinstance(wanted.assign, str):
        words.append(f"policy {quote(wanted.assign)} assigned")
    elif wanted.assign is None:
        words.append("no policy assigned")
    if wanted.shared is not None:
        words.append("filter lists and filter actions stored")
    if wanted.lists:
        words.append(f"{count(len(wanted.lists.wanted), 'list')} changed")
    if wanted.rules:
        words.append(f"{count(len(wanted.rules), 'dynamic rule')} put in force")
    if wanted.removed:
        words.append(f"{count(len(wanted.removed), 'dynamic rule')} removed")
    return ", ".join(words)


def _names_of_change(engine: Engine, request: Request) -> frozenset[str]:
    of_policies = (dns_names_of(policy) for policy, _ in _policies(engine, request).values())
    texts = (text for wanted in request["put_rules"] for text in wanted["filters"])
    return dns_names_in(map(parse_filter, texts)).union(*of_policies)


METHODS = (
    Method("GetWorkspace", Role.VIEW, Work.LONG, _get_workspace),
    Method(
        "ChangeTogether",
        Role.CHANGE,
        Work.CHANGE,
        _change_together,
        names=_names_of_change,
        part=Part.POLICIES | Part.DYNAMIC | Part.LISTS,
    ),
)
