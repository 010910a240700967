"""Owns the policies, filter lists and filter actions that a run of commands is working on.

Every command costs what it changes, however long a list or a policy is: lists and rules are kept
by name here, and become immutable values once, in ``settle``. Other commands than those of
``netsh`` work on the policies here too, so that lines of both can alternate. Invariants:

1. A command that fails has changed nothing: whatever can fail is found out before the change.
2. After ``settle`` the workspace has everything. It is the workspace that has rules follow the
   lists and actions that they use.

Must not know how commands are written, nor the daemon.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ipsecctl.netsh.draft_values import (
    ListDraft,
    PolicyDraft,
    RuleDraft,
    Users,
    made_policy,
    made_rule,
)
from ipsecctl.netsh.failing import (
    ACTION_EXISTS,
    IN_USE,
    LIST_EXISTS,
    NO_POLICY,
    Conflict,
    Failure,
    absent,
    exists,
)
from ipsecctl.netsh.filters import FindServers, names_servers, refreshed
from ipsecctl.workspace.workspace import Workspace
from ipsecd.model.kinds import Action
from ipsecd.model.shared_filters import (
    FilterAction,
    FilterList,
    SharedFilters,
)
from ipsecd.model.values import Policy, Rule
from ipsecd.quoting import quote


class Drafts:
    """All that is being worked on; see the module."""

    def __init__(self, workspace: Workspace, find: FindServers) -> None:
        """`find` looks for servers anew when filter lists are handed over."""
        self._workspace = workspace
        self._find = find
        self._lists: dict[str, ListDraft | FilterList] = {}
        self._actions: dict[str, FilterAction] = {}
        self._policies: dict[str, PolicyDraft | None] = {}
        self._users: Users | None = None
        self._gone: list[str] = []
        self._is_begun = self._has_shared = False
        self.assigned: str | None = None
        self.assigned_here = False
        """Whether a policy was assigned by one of these commands."""

    # Policies

    def begin(self) -> None:
        """Look at all that is in the workspace, unless that was done since ``settle``."""
        self.begin_policies()
        if not self._has_shared:
            shared = self._workspace.shared
            self._lists, self._actions = dict(shared.lists), dict(shared.actions)
            self._has_shared = True

    def begin_policies(self) -> None:
        """Look at the policies only, for commands that need no filter lists and actions."""
        if self._is_begun:
            return
        self._is_begun = True
        self._policies = dict.fromkeys(self._workspace.names())
        self._users, self._gone = None, []
        self.assigned = self._workspace.assigned

    def policy_names(self) -> list[str]:
        """The names of all policies, in order."""
        return sorted(self._policies)

    def has_policy(self, name: str) -> bool:
        """Whether there is a policy of that name."""
        return name in self._policies

    def policy(self, name: str) -> PolicyDraft:
        """The policy of a name; raises ``Conflict``."""
        if name not in self._policies:
            raise absent("policy", name, self._policies, NO_POLICY)
        draft = self._policies[name]
        if draft is None:
            draft = self._policies[name] = PolicyDraft.of(self._workspace.policy(name))
        return draft

    def add_policy(self, policy: Policy) -> None:
        """Add a policy that is new; raises ``Conflict``."""
        if policy.name in self._policies:
            raise exists("policy", policy.name)
        draft = PolicyDraft.of(policy)
        draft.was, draft.changed = None, True
        self._policies[policy.name] = draft
        if self._users:
            for rule in draft.rules.values():
                self._users.note(draft.name, rule)

    def rename_policy(self, draft: PolicyDraft, name: str) -> None:
        """Give a policy another name, under which it is assigned if it was; raises ``Conflict``."""
        if name == draft.name:
            return
        if name in self._policies:
            raise exists("policy", name)
        before = replace(draft.before, name=name)
        self._without_users(draft)
        del self._policies[draft.name]
        if draft.was is not None:
            self._gone.append(draft.was)
        if self.assigned == draft.name:
            self.assigned = name
        draft.name, draft.before, draft.was, draft.changed = name, before, None, True
        self._policies[name] = draft
        if self._users:
            for rule in draft.rules.values():
                self._users.note(name, rule)

    def delete_policy(self, name: str) -> None:
        """Delete a policy with its rules; one that is assigned is so no more."""
        draft = self._policies.get(name)
        if name not in self._policies:
            raise absent("policy", name, self._policies, NO_POLICY)
        if self._users:
            self._without_users(draft or self.policy(name))
        if draft is None or draft.was is not None:
            self._gone.append(name)
        del self._policies[name]
        if self.assigned == name:
            self.assigned = None

    def assign(self, name: str | None) -> None:
        """Have a policy assigned, or none."""
        self.assigned = name
        self.assigned_here = self.assigned_here or name is not None

    # Rules

    def rule(self, policy: PolicyDraft, name: str) -> RuleDraft:
        """A rule of a policy; raises ``Conflict``."""
        if name not in policy.rules:
            raise absent("rule", name, policy.rules)
        return policy.rules[name]

    def put_rule(self, policy: PolicyDraft, rule: RuleDraft, instead_of: str = "") -> None:
        """Have a rule in a policy, as a new one or in the place of another of it."""
        if rule.name in policy.rules and rule.name != instead_of:
            raise exists("rule", rule.name)
        # What it becomes is found out now, so that nothing is wrong with it later.
        Rule(rule.name, (), Action.BLOCK, rule.conditions, rule.filter_list or rule.name,
             rule.filter_action, rule.description)  # fmt: skip
        if instead_of:
            self.delete_rule(policy, instead_of)
        policy.rules[rule.name], policy.changed = rule, True
        if self._users:
            self._users.note(policy.name, rule)

    def put_made_rule(self, policy: PolicyDraft, rule: Rule) -> bool:
        """Have a rule that shares nothing, as ``Policy.with_rule`` does; whether it is another."""
        there = policy.rules.get(rule.name)
        if there is not None:
            if there.active and made_rule(there) == rule:
                return False
            if self._users:
                self._users.forget(policy.name, there)
            if not there.active:
                del policy.rules[rule.name]
        draft = policy.rules[rule.name] = RuleDraft.of(rule, active=True)
        policy.changed = True
        if self._users:
            self._users.note(policy.name, draft)
        return True

    def delete_rule(self, policy: PolicyDraft, name: str) -> None:
        """Take a rule out of a policy; raises ``Conflict``."""
        rule = self.rule(policy, name)
        if self._users:
            self._users.forget(policy.name, rule)
        del policy.rules[name]
        policy.changed = True

    # Lists and actions

    def list_names(self) -> list[str]:
        """The names of all filter lists, in order."""
        return sorted(self._lists)

    def has_list(self, name: str) -> bool:
        """Whether there is a filter list of that name."""
        return name in self._lists

    def list_of(self, name: str) -> ListDraft:
        """The filter list of a name; raises ``Conflict``."""
        if name not in self._lists:
            raise absent("filter list", name, self._lists)
        draft = self._lists[name]
        if isinstance(draft, FilterList):
            draft = self._lists[name] = ListDraft.of(draft, self._workspace.lists)
        return draft

    def add_list(self, name: str, description: str = "") -> ListDraft:
        """Add an empty filter list; raises ``Conflict``."""
        if name in self._lists:
            raise exists("filter list", name, LIST_EXISTS)
        new = FilterList(name, description)
        draft = self._lists[name] = ListDraft.of(new, self._workspace.lists)
        return draft

    def put_list(self, filter_list: FilterList) -> None:
        """Have a filter list, in the place of the one of its name if there is one."""
        name, lists = filter_list.name, self._workspace.lists
        if name in self._lists:
            self.list_of(name).delete_lists()
        draft = self._lists[name] = ListDraft.of(filter_list, lists)
        draft.changed = True

    def delete_lists(self, names: Iterable[str]) -> None:
        """Delete filter lists; raises ``Conflict`` while a rule uses one of them."""
        for name in (names := list(names)):
            if name not in self._lists:
                raise absent("filter list", name, self._lists)
            _refuse_used("filter list", self._all_users().lists.get(name))
        for name in names:
            self.list_of(name).delete_lists()
            del self._lists[name]

    def rename_list(self, draft: ListDraft, name: str) -> None:
        """Give a filter list another name, in the rules that use it too."""
        if name == draft.name:
            return
        if name in self._lists:
            raise exists("filter list", name, LIST_EXISTS)
        FilterList(name)
        for policy, rule in self._users_with(self._all_users().lists.get(draft.name)):
            self.put_rule(policy, replace(rule, filter_list=name), rule.name)
        del self._lists[draft.name]
        draft.name = name
        self._lists[name] = draft

    def action_names(self) -> list[str]:
        """The names of all filter actions, in order."""
        return sorted(self._actions)

    def action(self, name: str) -> FilterAction:
        """The filter action of a name; raises ``Conflict``."""
        if name not in self._actions:
            raise absent("filter action", name, self._actions)
        return self._actions[name]

    def add_action(self, action: FilterAction) -> None:
        """Add a filter action that is new; raises ``Conflict``, or ``Failure`` for another action.

        Who goes on although there is one of that name means one that does the same.
        """
        there = self._actions.get(action.name)
        if there is not None and there.action is not action.action:
            raise Failure(
                "this filter action exists already, and does something else",
                f"filter action {quote(action.name)} is left as it is, which is to "
                f"{there.action.value}; to have it {action.action.value}, write: set filteraction",
                ACTION_EXISTS,
            )
        if there is not None:
            raise exists("filter action", action.name, ACTION_EXISTS)
        self._actions[action.name] = action

    def put_action(self, action: FilterAction) -> None:
        """Have a filter action, in the place of the one of its name."""
        self._actions[action.name] = action

    def rename_action(self, action: FilterAction, name: str) -> None:
        """Give a filter action another name, in the rules that use it too."""
        if name in self._actions:
            raise exists("filter action", name, ACTION_EXISTS)
        renamed = replace(action, name=name)
        for policy, rule in self._users_with(self._all_users().actions.get(action.name)):
            self.put_rule(policy, replace(rule, filter_action=name), rule.name)
        del self._actions[action.name]
        self._actions[name] = renamed

    def delete_actions(self, names: Iterable[str]) -> None:
        """Delete filter actions; raises ``Conflict`` while a rule uses one of them."""
        for name in (names := list(names)):
            if name not in self._actions:
                raise absent("filter action", name, self._actions)
            _refuse_used("filter action", self._all_users().actions.get(name))
        for name in names:
            del self._actions[name]

    def delete_everything(self) -> None:
        """Delete all policies, filter lists and filter actions."""
        for name in self.policy_names():
            self.delete_policy(name)
        for name in self.list_names():
            self.list_of(name).delete_lists()
        self._lists, self._actions, self._users = {}, {}, None

    # Handing over

    def settle(self) -> None:
        """Have all of it in the workspace, with servers looked for anew."""
        if not self._is_begun:
            return
        if self._has_shared:
            self._refresh(self._find)
            for filter_list in self._lists.values():
                if isinstance(filter_list, ListDraft) and filter_list.changed:
                    self._fold(filter_list)
            lists = map(_made, self._lists.values())
            self._workspace.shared = SharedFilters.of(lists, self._actions.values())
        self._is_begun = self._has_shared = False
        for name in self._gone:
            self._workspace.delete_policy(name)
        for draft in self._policies.values():
            if draft is not None and draft.changed:
                self._workspace.put_policy(made_policy(draft))
        self._workspace.assign(self.assigned)

    def _refresh(self, find: FindServers) -> None:
        for name, filter_list in list(self._lists.items()):
            if any(map(names_servers, filter_list.filters)):
                draft = self.list_of(name)
                filters = tuple(refreshed(flt, find) for flt in draft.filters)
                if filters != tuple(draft.filters):
                    draft.replace_filters(filters)

    def _fold(self, draft: ListDraft) -> None:
        """Have many filters that are alike in a list of addresses, and a few be filters again."""
        draft.unfold_few()
        large = draft.large_groups()
        if large and not self._is_expected_of(draft.name):
            for group, members in large:
                draft.fold(group, members)

    def _is_expected_of(self, name: str) -> bool:
        """Whether a policy that uses a filter list says what is expected of it.

        That is judged without what is in lists, as other hosts may have others.
        """
        users = self._all_users().lists.get(name, ())
        return any(self.policy(policy).before.expect for policy, _ in users)

    def _all_users(self) -> Users:
        """Which rules use which list and action; found out once."""
        if self._users is None:
            users = self._users = Users()
            for name in self.policy_names():
                if self._policies[name] is not None or self._workspace.may_use_shared(name):
                    for rule in self.policy(name).rules.values():
                        users.note(name, rule)
        return self._users

    def _without_users(self, draft: PolicyDraft) -> None:
        if self._users:
            for rule in draft.rules.values():
                self._users.forget(draft.name, rule)

    def _users_with(
        self, users: Iterable[tuple[str, str]] | None
    ) -> Iterator[tuple[PolicyDraft, RuleDraft]]:
        for policy_name, rule_name in sorted(users or ()):
            policy = self.policy(policy_name)
            yield policy, policy.rules[rule_name]


def _made(filter_list: ListDraft | FilterList) -> FilterList:
    return filter_list.made() if isinstance(filter_list, ListDraft) else filter_list


def _refuse_used(noun: str, users: set[tuple[str, str]] | None) -> None:
    if users:
        policy, rule = min(users)
        raise Conflict(
            f"this {noun} is in use",
            f"rule {quote(rule)} of policy {quote(policy)} uses it: delete the rule first",
            IN_USE,
        )
