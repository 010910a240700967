"""Owns one policy, rule or filter list while commands change it, and what it becomes.

Unlike the values that they become, they are changed in place. Must not know what else there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ipsecctl.netsh.filters import Agreement, place_of
from ipsecctl.netsh.folding import (
    Group,
    are_few,
    folded_group,
    groups_of,
    large_groups,
    list_names,
)
from ipsecctl.workspace.address_lists import AddressLists
from ipsecd.model.addresses import Family, ListName, Network
from ipsecd.model.kinds import ALWAYS, Action, Conditions
from ipsecd.model.shared_filters import FilterList, SharedFilter
from ipsecd.model.values import Policy, Rule


@dataclass(slots=True)
class ListDraft:
    """One filter list; ``places`` has its filters by their addresses, once some are deleted.

    Those filters of which there are many are in lists of addresses: ``folded`` has the names of
    these by what is the same in the filters. As long as it has not ``changed``, what is in lists
    stays there, and what is not does too: who only looks changes nothing.
    """

    name: str
    description: str
    filters: dict[SharedFilter, None]
    lists: AddressLists
    folded: dict[Group, str] = field(default_factory=dict)
    places: dict[tuple[object, object], dict[SharedFilter, None]] | None = None
    changed: bool = False

    @classmethod
    def of(cls, given: FilterList, lists: AddressLists) -> ListDraft:
        """The draft of a list."""
        draft = cls(given.name, given.description, {}, lists)
        for flt in given.filters:
            if (found := folded_group(flt)) and found[0] not in draft.folded:
                draft.folded[found[0]] = found[1]
            else:
                draft.filters[flt] = None
        return draft

    def add(self, flt: SharedFilter) -> None:
        """Add a filter; one that matches the same stays as it is."""
        if flt in self.filters:
            return
        self.changed = True
        for group, network in groups_of(replace(flt, description="")) if self.folded else ():
            if name := self.folded.get(group):
                if not flt.description:
                    self.lists.add(name, network)
                    return
                if network in self.lists.entries(name):
                    return
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
        removed = len(gone) + sum(
            self._remove_folded(group, name, agreement) for group, name in self.folded.items()
        )
        self.changed = self.changed or removed > 0
        return removed

    def _remove_folded(self, group: Group, name: str, agreement: Agreement) -> int:
        place, other = agreement.places if group.is_by_source else agreement.places[::-1]
        if other != place_of(group.other.address) or not isinstance(place, tuple):
            return 0
        family, address = place
        networks = [
            Network(family, address, length)
            for length in range(1, Family(family).bits + 1)
            if not address & ((1 << family.bits - length) - 1)
        ]
        entries = self.lists.entries(name)
        gone = [
            network
            for network in networks
            if network in entries and agreement.is_with(group.with_address(network))
        ]
        for network in gone:
            self.lists.remove(name, network)
        return len(gone)

    def replace_filters(self, filters: Iterable[SharedFilter]) -> None:
        """Have these in the place of the filters that are in no list of addresses."""
        self.filters, self.places = dict.fromkeys(filters), None

    def all_filters(self) -> Iterator[SharedFilter]:
        """Every filter, also those that are in lists of addresses."""
        yield from self.filters
        for group, name in self.folded.items():
            for network in sorted(
                self.lists.entries(name), key=lambda each: (each.family, each.address, each.length)
            ):
                yield group.with_address(network)

    def count(self) -> int:
        """How many filters it has, all told."""
        return len(self.filters) + sum(len(self.lists.entries(n)) for n in self.folded.values())

    def unfold_few(self) -> None:
        """Have lists of addresses be filters again that have come to hold only a few."""
        for group, name in list(self.folded.items()):
            # One that nobody has asked for has only got more, and one with ends is left to these.
            if self.lists.is_known(name) and not self.lists.has_ends(name):
                entries = self.lists.entries(name)
                if are_few(len(entries)):
                    for network in entries:
                        self.filters[group.with_address(network)] = None
                    self.places = None
                    del self.folded[group]
                    self.lists.delete(name)

    def large_groups(self) -> list[tuple[Group, dict[Network, SharedFilter]]]:
        """What of it is to be in lists of addresses, and is not yet."""
        return large_groups(self.filters)

    def fold(self, group: Group, members: dict[Network, SharedFilter]) -> None:
        """Have filters in a list of addresses."""
        name = next(name for name in list_names(self.name) if self.lists.is_free(name))
        self.lists.create(name, members)
        self.folded[group] = name
        for flt in members.values():
            del self.filters[flt]
        self.places = None

    def delete_lists(self) -> None:
        """Delete its lists of addresses."""
        for name in self.folded.values():
            self.lists.delete(name)

    def made(self) -> FilterList:
        """The list as it is now."""
        named = (group.with_address(ListName(name)) for group, name in self.folded.items())
        return FilterList(self.name, self.description, (*self.filters, *named))


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
