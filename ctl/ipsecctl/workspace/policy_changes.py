"""Owns what the daemon's methods that change stored policies come to on drafts.

Each costs what it changes, however many rules the policies have. It returns whether anything is
another then, and the words of the daemon for what was done. Must not know how it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ipsecctl.netsh.draft_values import PolicyDraft
from ipsecctl.netsh.drafts import Drafts
from ipsecd.language.rule_parameters import read_rule
from ipsecd.model.policy_changes import (
    absent,
    check_there,
    still_assigned,
    taken,
    words_of_last_removal,
    words_of_put,
    words_of_removal,
)
from ipsecd.model.values import Policy
from ipsecd.quoting import quote

Parameters = dict[str, Any]
Change = tuple[bool, str]


def _put_rules(drafts: Drafts, parameters: Parameters) -> Change:
    name = parameters["policy"]
    is_new = not drafts.has_policy(name)
    if is_new and not parameters["create"]:
        raise absent(name)
    # A name that none can have is refused before the rules are read, as by the daemon.
    new = Policy(name) if is_new else None
    rules = [read_rule(rule) for rule in parameters["rules"]]
    if new:
        drafts.add_policy(new)
    draft = drafts.policy(name)
    others = [rule for rule in rules if drafts.put_made_rule(draft, rule)]
    changed = is_new or bool(others)
    if parameters["assign"]:
        changed = changed or drafts.assigned != name
        drafts.assigned = name
    return changed, words_of_put(name, [rule.name for rule in rules])


def _remove_rules(drafts: Drafts, parameters: Parameters) -> Change:
    name, names = parameters["policy"], frozenset(parameters["rules"])
    draft = _draft(drafts, name)
    check_there(name, names, draft.rules.keys())
    for rule in names:
        drafts.delete_rule(draft, rule)
    if draft.rules or not parameters["delete_empty"]:
        return True, words_of_removal(name, len(names))
    drafts.delete_policy(name)
    return True, words_of_last_removal(name)


def _create_policy(drafts: Drafts, parameters: Parameters) -> Change:
    name = parameters["name"]
    if drafts.has_policy(name):
        raise taken(name)
    drafts.add_policy(Policy(name, (), parameters["description"] or ""))
    return True, f"policy {name!r} is created"


def _delete_policy(drafts: Drafts, parameters: Parameters) -> Change:
    name = parameters["name"]
    if not drafts.has_policy(name):
        if not parameters["missing_ok"]:
            raise absent(name)
        return False, f"there is no policy {quote(name)}"
    if drafts.assigned == name and not parameters["unassign"]:
        raise still_assigned(name)
    drafts.delete_policy(name)
    return True, f"policy {name!r} is deleted"


def _assign_policy(drafts: Drafts, parameters: Parameters) -> Change:
    name = parameters["name"]
    words = ", as audits: it blocks nothing" if _draft(drafts, name).before.audit else ""
    if drafts.assigned == name:
        return False, f"policy {name!r} is assigned already{words}"
    drafts.assigned = name
    return True, f"policy {name!r} is assigned{words}"


def _unassign_policy(drafts: Drafts, parameters: Parameters) -> Change:
    name, was = parameters.get("name"), drafts.assigned
    if name is not None and not drafts.has_policy(name):
        raise absent(name)
    if was is None or name not in (None, was):
        what = f"policy {name!r} was not assigned" if name else "nothing was assigned"
        return False, what
    drafts.assigned = None
    return True, f"policy {was!r} is unassigned"


def _draft(drafts: Drafts, name: str) -> PolicyDraft:
    if not drafts.has_policy(name):
        raise absent(name)
    return drafts.policy(name)


POLICY_CHANGES: Mapping[str, Callable[[Drafts, Parameters], Change]] = {
    "PutRules": _put_rules,
    "RemoveRules": _remove_rules,
    "CreatePolicy": _create_policy,
    "DeletePolicy": _delete_policy,
    "AssignPolicy": _assign_policy,
    "UnassignPolicy": _unassign_policy,
}
"""By the names of the methods."""
