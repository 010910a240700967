"""Owns one policy, rule or filter list while commands change it, and what it becomes.

Unlike the values that they become, they are changed in place. Must not know what else there is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ipsecctl.netsh.filters import Agreement, place_of
from ipsecd.model.kinds import ALWAYS, Action, Conditions
from ipsecd.model.shared_filters import FilterList, SharedFilter
from ipsecd.model.values import Policy, Rule


@dataclass(slots=True)
class ListDraft:
    """One filter list; ``places`` has its filters by their addresses, once some are deleted."""

    name: str
    description: str
    filters: dict[SharedFilter, None]
    places: dict[tuple[object, object], dict[SharedFilter, None]] | None = None

    @classmethod
    def of(cls, given: FilterList) -> ListDraft:
        """The draft of a list."""
        return cls(given.name, given.description, dict.fromkeys(given.filters))

    def add(self, flt: SharedFilter) -> None:
        """Add a filter; one that matches the same stays as it is."""
        if flt not in self.filters:
            self.filters[flt] = None
            if self.places is not None:
                self.places.setdefault(_places(flt), {})[flt] = None

    def remove(self, agreement: Agreement) -> int:
        """Remove all filters that agree; how many they were."""
        if self.places is None:
            self.places = {}
            for flt in self.filters:
                self.places.setdefault(_places(flt), {})[flt] = None
        there = self.places.get(agreement.places, {})
        gone = [flt for flt in there if agreement.is_with(flt)]
        for flt in gone:
            del there[flt]
            del self.filters[flt]
        return len(gone)

    def made(self) -> FilterList:
        """The list as it is now."""
        return FilterList(self.name, self.description, tuple(self.filters))


@dataclass(slots=True)
class RuleDraft:
    """One rule. ``rule`` is what it was before, and is what it is as long as it is not changed."""

    name: str
    filter_list: str
    filter_action: str
    conditions: Conditions = ALWAYS
    description: str = ""
    active: bool = True
    rule: Rule | None = None

    @classmethod
    def of(cls, rule: Rule, *, active: bool) -> RuleDraft:
        """The draft of a rule."""
        return cls(
            rule.name,
            rule.filter_list,
            rule.filter_action,
            rule.conditions,
            rule.description,
            active,
            rule,
        )


@dataclass(slots=True)
class PolicyDraft:
    """One policy; ``before`` has what is not touched here, ``was`` is its name in the workspace."""

    name: str
    description: str
    before: Policy
    rules: dict[str, RuleDraft]
    was: str | None = None
    changed: bool = True

    @classmethod
    def of(cls, policy: Policy) -> PolicyDraft:
        """The draft of a policy of the workspace."""
        drafts = [
            *(RuleDraft.of(rule, active=True) for rule in policy.rules),
            *(RuleDraft.of(rule, active=False) for rule in policy.resting),
        ]
        rules = {draft.name: draft for draft in drafts}
        return cls(policy.name, policy.description, policy, rules, policy.name, changed=False)


@dataclass(slots=True)
class Users:
    """Which rules use a list or an action, as pairs of policy and rule."""

    lists: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    actions: dict[str, set[tuple[str, str]]] = field(default_factory=dict)

    def note(self, policy: str, rule: RuleDraft) -> None:
        """Have a rule use its list and its action."""
        self.lists.setdefault(rule.filter_list, set()).add((policy, rule.name))
        self.actions.setdefault(rule.filter_action, set()).add((policy, rule.name))

    def forget(self, policy: str, rule: RuleDraft) -> None:
        """Have a rule use nothing any more."""
        self.lists.get(rule.filter_list, set()).discard((policy, rule.name))
        self.actions.get(rule.filter_action, set()).discard((policy, rule.name))


def made_policy(draft: PolicyDraft) -> Policy:
    """The policy that a draft is; the workspace has its rules follow their lists and actions."""
    made = [(rule.active, made_rule(rule)) for rule in draft.rules.values()]
    return replace(
        draft.before,
        rules=tuple(rule for active, rule in made if active),
        description=draft.description,
        resting=tuple(rule for active, rule in made if not active),
    )


def made_rule(draft: RuleDraft) -> Rule:
    """The rule that a draft is, before it follows its list and its action."""
    before = draft.rule
    return Rule(
        draft.name,
        before.filters if before else (),
        before.action if before else Action.BLOCK,
        draft.conditions,
        draft.filter_list,
        draft.filter_action,
        draft.description,
    )


def _places(flt: SharedFilter) -> tuple[object, object]:
    return place_of(flt.source.address), place_of(flt.destination.address)
