"""Owns a copy of what scripts change: policies, which is assigned, shared filters, lists, rules.

It is changed at will in memory, and nothing of that is in force. A policy's document is read only
when the policy is asked for. A rule that has a filter list or a filter action follows these: it is
brought up to date when its policy is asked for, so that a long run of changes to one list costs
no more than its length. Must not know the daemon: ``exchange`` talks with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ipsecctl.workspace.address_lists import AddressLists
from ipsecctl.workspace.dynamic_rules import DynamicRule, DynamicRules
from ipsecd.errors import InvalidInput, Refused
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.language.shared_filters import expanded, format_shared_filters, parse_shared_filters
from ipsecd.model.policy_changes import absent
from ipsecd.model.shared_filters import SharedFilters
from ipsecd.model.values import Filter, Policy, Rule

SHARED_FILTERS = "shared-filters.yaml"
_MARKS = ("filter-list:", "filter-action:")
"""What stands in the document of every policy that uses shared filters."""


class Workspace:
    """What scripts change, as it was loaded and then changed here; see the module."""

    def __init__(
        self,
        policies: Mapping[str, str] | None = None,
        assigned: str | None = None,
        shared_filters: str = "",
        dynamic: Iterable[DynamicRule] = (),
        fingerprint: str | None = None,
        lists: AddressLists | None = None,
    ) -> None:
        """`policies` are documents by the names of policies, `shared_filters` is a document."""
        self.lists = lists or AddressLists()
        self.fingerprint = fingerprint
        """What the daemon calls the state that this began as."""
        self.revision = 0
        """Another number after whatever changed a dynamic rule."""
        self._assigned = assigned
        self.dynamic = DynamicRules([*dynamic])
        self._assigned_before = assigned
        self._documents = dict(policies or {})
        self._policies: dict[str, Policy | None] = dict.fromkeys(self._documents)
        self._shared_text = shared_filters
        self._shared: SharedFilters | None = None
        self._shared_before: SharedFilters | None = None
        self._current: dict[str, SharedFilters] = {}
        """The shared filters that the rules of a policy were last brought up to date with."""
        self._expanded: dict[str, tuple[object, tuple[Filter, ...]]] = {}
        """Filter lists by their names, each with the filters that it comes to."""

    @property
    def shared(self) -> SharedFilters:
        """The filter lists and filter actions; raises ``Refused`` if they cannot be read."""
        if self._shared is None:
            try:
                self._shared = parse_shared_filters(self._shared_text, SHARED_FILTERS)
            except InvalidInput as error:
                raise Refused(
                    f"the filter lists and filter actions cannot be read: {error.where}"
                    f"{error.message}",
                    f"mend {SHARED_FILTERS}, then run: ipsecctl reload",
                ) from error
            self._shared_before = self._shared
        return self._shared

    @shared.setter
    def shared(self, value: SharedFilters) -> None:
        # What was there before is read first, so that it is not overwritten unread.
        if value is not self.shared:
            self._shared = value

    @property
    def assigned(self) -> str | None:
        """The name of the policy that is assigned."""
        return self._assigned

    def names(self) -> list[str]:
        """The names of the policies, in order."""
        return sorted(self._policies)

    def has(self, name: str) -> bool:
        """Whether there is a policy of this name."""
        return name in self._policies

    def policy(self, name: str) -> Policy:
        """The policy called `name`; raises ``NotFound``."""
        if name not in self._policies:
            raise absent(name)
        policy = self._policies[name]
        if policy is None:
            policy = self._policies[name] = parse_policy(self._documents[name], name)
        return self._up_to_date(policy)

    def put_policy(self, policy: Policy) -> None:
        """Have `policy` in the place of the one of its name, or as a new one."""
        if self._policies.get(policy.name) == policy:
            return
        self._policies[policy.name] = policy
        self._current.pop(policy.name, None)

    def delete_policy(self, name: str) -> None:
        """Delete a policy. One that is assigned is so no more. Raises ``NotFound``."""
        if name not in self._policies:
            raise absent(name)
        del self._policies[name]
        self._current.pop(name, None)
        if self._assigned == name:
            self._assigned = None

    def assign(self, name: str | None) -> None:
        """Have a policy assigned, or none; raises ``NotFound``."""
        if name is not None and name not in self._policies:
            raise absent(name)
        self._assigned = name

    def put_dynamic(self, rule: DynamicRule) -> None:
        """Have a dynamic rule in the place of the one of its name, or as a new one."""
        self.revision += not rule.is_same(self.dynamic.get(rule.name))
        self.dynamic.put(rule)

    def remove_dynamic(self, name: str) -> None:
        """Take a dynamic rule away; it is no error if there is none."""
        self.revision += self.dynamic.get(name) is not None
        self.dynamic.remove(name)

    def clear_dynamic(self) -> int:
        """Take all dynamic rules away. Returns how many there were."""
        self.revision += bool(len(self.dynamic))
        return self.dynamic.clear()

    def users_of(self, *, filter_list: str = "", filter_action: str = "") -> list[tuple[str, str]]:
        """The rules that use a filter list, or a filter action: names of policy and rule."""
        return [
            (name, rule.name)
            for name in self.names()
            if self.may_use_shared(name)
            for policy in (self.policy(name),)
            for rule, _ in policy.written_rules()
            if (filter_list and rule.filter_list == filter_list)
            or (filter_action and rule.filter_action == filter_action)
        ]

    def differences(self) -> dict[str, object]:
        """What differs from what was loaded, as parameters of ``ChangeTogether``; empty if nothing.

        It takes as long as to read and write all policies that are changed.
        """
        deleted = [name for name in self._documents if name not in self._policies]
        shared = None
        if self._shared is not self._shared_before:
            # As text, because two filters are equal whatever describes them.
            before, shared = map(
                format_shared_filters, (self._shared_before or SharedFilters(), self.shared)
            )
            shared = None if shared == before else shared
        put = [
            {"name": name, "document": format_policy(policy)}
            for name in self.names()
            if (policy := self._changed(name)) is not None
        ]
        texts = {**self._documents, **{each["name"]: each["document"] for each in put}}
        texts = {name: text for name, text in texts.items() if name in self._policies}
        filters = tuple(text for rule in self.dynamic for text in rule.filters)

        def is_named(name: str) -> bool:
            mention = re.compile(rf"@{re.escape(name)}(?![\w.-])")
            of_shared = self._shared_text if shared is None else shared
            return any(map(mention.search, (*texts.values(), of_shared, *filters)))

        moved = self.assigned != self._assigned_before
        is_gone = self._assigned_before in deleted
        asked = {
            "put": put,
            "delete": deleted,
            "assign": self.assigned if moved else None,
            "unassign": moved and self.assigned is None and not is_gone,
            "shared_filters": shared,
            "put_rules": [rule.wanted() for rule in self.dynamic.changed()],
            "remove_rules": self.dynamic.removed(),
            "lists": self.lists.differences(is_named),
        }
        return asked if any(value not in (None, False, []) for value in asked.values()) else {}

    def _changed(self, name: str) -> Policy | None:
        """A policy that is another than it was; None if it is not."""
        if self._policies[name] is None and not (
            self._shared is not self._shared_before and self.may_use_shared(name)
        ):
            return None
        policy = self.policy(name)
        document = self._documents.get(name)
        if document is not None and parse_policy(document, name) == policy:
            return None
        return policy

    def may_use_shared(self, name: str) -> bool:
        """Whether rules of a policy may have filter lists or filter actions."""
        policy = self._policies[name]
        if policy is None:
            return any(mark in self._documents[name] for mark in _MARKS)
        return any(rule.filter_list or rule.filter_action for rule, _ in policy.written_rules())

    def _up_to_date(self, policy: Policy) -> Policy:
        """`policy` with the filters and actions that its rules share."""
        if self._shared is None or self._shared is self._shared_before:
            return policy
        if self._current.get(policy.name) is self._shared:
            return policy
        rules = tuple(map(self._following, policy.rules))
        resting = tuple(map(self._following, policy.resting))
        if any(a is not b for a, b in zip(rules, policy.rules, strict=True)) or any(
            a is not b for a, b in zip(resting, policy.resting, strict=True)
        ):
            policy = policy.with_rules(rules, resting)
        self._policies[policy.name] = policy
        self._current[policy.name] = self._shared
        return policy

    def _following(self, rule: Rule) -> Rule:
        """`rule` with what its filter list and its filter action say now."""
        shared_list = self.shared.lists.get(rule.filter_list)
        shared_action = self.shared.actions.get(rule.filter_action)
        filters = rule.filters
        if shared_list is not None:
            known = self._expanded.get(rule.filter_list)
            if known is None or known[0] is not shared_list:
                known = (shared_list, expanded(shared_list))
                self._expanded[rule.filter_list] = known
            filters = known[1]
        action = shared_action.action if shared_action else rule.action
        if filters is rule.filters and action is rule.action:
            return rule
        followed = Rule(
            rule.name,
            filters,
            action,
            rule.conditions,
            rule.filter_list,
            rule.filter_action,
            rule.description,
        )
        return rule if followed == rule else followed
