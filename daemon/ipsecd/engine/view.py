"""Owns questions about a state and their answers; must not change a state."""

from __future__ import annotations

from dataclasses import replace

from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import Volatile
from ipsecd.engine.compiling import ListsByName, Names, policy_rules_by_name
from ipsecd.engine.sources import SourceName
from ipsecd.engine.state import State
from ipsecd.errors import IpsecdError, NotFound, Refused
from ipsecd.model.addresses import Process
from ipsecd.model.inventory import Inventory, has_selectors, resolved
from ipsecd.model.list_names import as_domain_means, changes_by_itself
from ipsecd.model.policy_changes import absent
from ipsecd.model.values import Action, Filter, InForce, Origin, Policy, Store, filters_of
from ipsecd.quoting import quote
from ipsecd.sources.domain import Taken
from ipsecd.sources.dynamic import DynamicRules
from ipsecd.sources.reading import BrokenFile, Loaded


def filters_in_force(state: State) -> tuple[InForce, ...]:
    """Every filter in force: protected ones, those of the policy, then the dynamic ones."""
    if state.stopped:
        return ()
    policy = state.compiled.policy
    all_filters = (
        *state.compiled.protected_in_force,
        *(_filters_of_policy(state, policy) if policy else ()),
        *(rule_filter for rule in state.dynamic for rule_filter in rule.in_force),
    )
    return tuple(
        replace(rule_filter, filter=state.inventory.resolve_if_possible(rule_filter.filter))
        if has_selectors(rule_filter.filter)
        else rule_filter
        for rule_filter in all_filters
    )


def filters_of_rule(state: State, origin: Origin) -> tuple[InForce, ...]:
    """The filters of one rule in force, with the addresses that containers have."""
    policy = state.compiled.policy
    if origin.protected:
        filters = state.compiled.protected_in_force
    elif origin.volatile:
        rule = state.dynamic.get(origin.rule)
        filters = rule.in_force if rule else ()
    elif policy:
        rules = tuple(each for each in policy.rules if each.name == origin.rule)
        filters = _filters_of_policy(state, Policy(policy.name, rules, audit=policy.audit))
    else:
        filters = ()
    return resolved(filters, state.inventory)


def _filters_of_policy(state: State, policy: Policy) -> tuple[InForce, ...]:
    """The filters of the policy in force, or of some of its rules, with the lists they mean."""
    filters = filters_of(policy, state.compiled.store)
    if state.compiled.store is not Store.DOMAIN:
        return filters
    return tuple(
        replace(rule_filter, filter=as_domain_means(rule_filter.filter, state.lists))
        for rule_filter in filters
    )


def rules_in_force(state: State) -> dict[Origin, Action]:
    """Every rule in force with its action. No policy file is read for this."""
    if state.stopped:
        return {}
    return policy_rules_in_force(state) | {rule.origin: rule.action for rule in state.dynamic}


def policy_rules_in_force(state: State) -> dict[Origin, Action]:
    """The same without the dynamic rules."""
    if state.stopped:
        return {}
    policy = state.compiled.policy
    rules = {each.origin: each.action for each in state.compiled.protected_in_force}
    if policy:
        for name, action in policy.facts.actions.items():
            rules[Origin.of(state.compiled.store, policy.name, name, action)] = action
    return rules


def policy_filters_by_name(state: State) -> tuple[Filter, ...]:
    """The filters of the policy in force, and protected ones, that go by names.

    These are names of containers, lists and local processes.
    """
    rules = policy_rules_by_name(state.compiled, state.lists)
    return (
        *filter(changes_by_itself, state.compiled.protected),
        *(rule_filter for rule in rules for rule_filter in rule.filters),
    )


def dynamic_filters_by_name(state: State) -> tuple[Filter, ...]:
    """The filters of dynamic rules that name containers, lists or local processes."""
    rules = {**state.dynamic.selecting, **state.dynamic.listing}
    if any(table.id.process for table in state.volatile.tables):
        rules |= {rule.name: rule for rule in state.dynamic}
    return tuple(
        rule_filter
        for rule in rules.values()
        for rule_filter in rule.filters
        if _goes_by_name(rule_filter)
    )


def _goes_by_name(rule_filter: Filter) -> bool:
    return changes_by_itself(rule_filter) or isinstance(rule_filter.source.address, Process)


class View:
    """Answers questions about a state."""

    @property
    def state(self) -> State:
        """What is in force, as a value that stays as it is; for any thread."""
        raise NotImplementedError

    @property
    def stopped(self) -> bool:
        """Whether nothing is in force because somebody wants that."""
        return self.state.stopped

    @property
    def held(self) -> bool:
        """Whether it is not known here what the kernel holds."""
        return self.state.held

    @property
    def assigned_is_not_in_force(self) -> bool:
        """Whether the assigned policy is not in force, so that the next change should try it."""
        state = self.state
        return not state.stopped and (state.held or state.source is SourceName.LAST_GOOD)

    @property
    def loaded_from(self) -> str:
        """The name of the source of what is in force."""
        return self.state.source.value

    @property
    def policy(self) -> Policy | None:
        """The policy in force, its DNS names resolved; None if none is."""
        return self.state.compiled.policy

    @property
    def domain(self) -> Taken:
        """What was taken from the domain last."""
        return self.state.domain or Taken()

    @property
    def overriding(self) -> str | None:
        """The name of the domain policy, if it is in force in the place of those of this host."""
        state = self.state
        is_domain = not state.stopped and state.compiled.store is Store.DOMAIN
        return state.compiled.policy.name if is_domain and state.compiled.policy else None

    @property
    def classifier(self) -> Classifier:
        """The classifier in force, with the addresses that containers have now."""
        return self.state.classifier

    @property
    def failures(self) -> tuple[str, ...]:
        """Why what should be in force is not, in words."""
        return self.state.failures

    @property
    def names(self) -> Names:
        """The addresses of DNS names, as they were last looked up."""
        return self.state.names

    def in_force(self) -> tuple[InForce, ...]:
        """Every filter in force: protected ones, those of the policy, then the dynamic ones."""
        return filters_in_force(self.state)

    def rules(self) -> dict[Origin, Action]:
        """Every rule in force with its action. No policy file is read for this."""
        return rules_in_force(self.state)

    @property
    def loaded(self) -> Loaded:
        """What the static store holds."""
        return self.state.loaded

    @property
    def broken(self) -> tuple[BrokenFile, ...]:
        """The files that could not be used when they were last read."""
        return (self.state.refused or self.state.loaded).broken

    @property
    def file_errors(self) -> tuple[IpsecdError, ...]:
        """What is wrong with files, and why the assigned policy cannot be put in force."""
        read = self.state.refused or self.state.loaded
        assigned = [read.assigned_error] if read.assigned_error else []
        return (*(file.error for file in read.broken), *assigned)

    def stored(self, name: str) -> Policy:
        """The stored policy called `name`; raises ``NotFound``.

        A file that cannot be used, as a copy cannot, is listed by its own name, and ``Refused``.
        """
        if name not in self.loaded.policies:
            for file in self.broken:
                if file.path.rpartition("/")[2] == name:
                    raise Refused(file.error.message, file.error.hint)
            if name == self.overriding:
                raise NotFound(
                    f"policy {quote(name)} is the domain's, and this host has none of that name",
                    "whoever publishes it changes or withdraws it: ipsecctl domain status",
                )
            raise absent(name)
        return self.loaded.policies[name].policy

    def warnings_of_files(self) -> tuple[str, ...]:
        """What is wrong with files and DNS names although all that should be in force is."""
        reported = "\n".join(self.failures)
        broken = [text for text in map(str, self.file_errors) if text not in reported]
        unresolved = [
            f"DNS name {quote(name)} could not be looked up: it has the addresses that it had\n"
            "  hint: the log says why; then run: ipsecctl reload --resolve"
            for name in sorted(self.state.unresolved)
        ]
        return (*dict.fromkeys(broken), *unresolved)

    @property
    def dynamic(self) -> DynamicRules:
        """The dynamic rules."""
        return self.state.dynamic

    @property
    def volatile(self) -> Volatile:
        """The dynamic rules, compiled."""
        return self.state.volatile

    @property
    def taken_over(self) -> int:
        """How many dynamic rules and quarantines an earlier process had left."""
        return self.state.taken_over

    @property
    def inventory(self) -> Inventory:
        """The containers that are known, with what was announced."""
        return self.state.inventory

    @property
    def lists(self) -> ListsByName:
        """The lists of addresses, by name, also those that no filter names."""
        return self.state.lists

    def policy_filters_by_name(self) -> tuple[Filter, ...]:
        """The filters of the policy in force, and protected ones, that go by names."""
        return policy_filters_by_name(self.state)

    def dynamic_filters_by_name(self) -> tuple[Filter, ...]:
        """The filters of dynamic rules that name containers, lists or local processes."""
        return dynamic_filters_by_name(self.state)
