"""Owns how a policy that was chosen gets in force, with what changes beside it.

Must not know where the policy comes from, nor the kernel. Lists, names and dynamic rules that
change with a policy are in force in the same moment as it: a packet meets all of the old or all of
the new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

from ipsecd.compiler.volatile import NOTHING_DYNAMIC
from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import Names, classifier_by_names
from ipsecd.engine.enforcement import Enforcement, replaces_rules
from ipsecd.engine.guard import is_guarding, must_spare
from ipsecd.engine.lists import ListChanges, with_members
from ipsecd.engine.names import StateChange, with_new_addresses
from ipsecd.engine.protection import Protection
from ipsecd.engine.quarantines import with_own_rules
from ipsecd.engine.rules_beside import RulesBeside
from ipsecd.engine.sources import Choice
from ipsecd.engine.state import State
from ipsecd.model.lists import AddressList
from ipsecd.progress import Tell
from ipsecd.sources.kept import KeptFiles

NO_LISTS: ListChanges = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Switching:
    """Prepares what is to be in force, and switches to it."""

    enforcement: Enforcement
    kept_files: KeptFiles
    protection: Protection = field(default_factory=Protection)

    def prepare(
        self,
        attempt: Attempt,
        choice: Choice,
        next_state: Callable[[State], StateChange],
        tell: Tell,
        lists: ListChanges = NO_LISTS,
    ) -> Callable[[], StateChange]:
        """Do in advance what takes long of putting the choice in force, and `lists` with it.

        Returns a function that makes the state to switch to. `next_state` makes all of it but the
        policy and the lists.
        """
        before = self.enforcement.state
        self._check_protected(before, choice, lists)
        wanted, _ = with_members(before, lists)
        classifier = classifier_by_names(choice.compiled, before.inventory, wanted.lists)

        def make_state() -> StateChange:
            # Dynamic rules and containers may have changed since the choice was made.
            now = self.enforcement.state
            self._check_protected(now, choice, lists)
            changed, of_lists = with_members(now, lists)
            current = classifier
            if now.inventory is not before.inventory or now.lists is not before.lists:
                current = classifier_by_names(choice.compiled, now.inventory, changed.lists)
            new, delta, rules = next_state(changed)
            if of_lists:
                delta = now.volatile.difference(new.volatile)
            return new.with_policy(choice.source, choice.compiled, current), delta, rules

        without_own, delta, _ = make_state()
        planned = with_own_rules(without_own)
        # Before anything is written: a change that is refused must not be on disk for a moment.
        if is_guarding():
            must_spare(before, planned)
        # Dynamic rules that come with it may be the first to name a list.
        tables = planned.volatile.tables
        dynamic = NOTHING_DYNAMIC
        # Bans that came since do not count: they are in force already.
        changes = delta or without_own.volatile.difference(planned.volatile)
        if changes and replaces_rules(before, planned):
            dynamic = planned.volatile
        attempt.step(
            lambda: self.enforcement.prepare(
                classifier.with_lists(wanted.lists, tables), tell, dynamic=dynamic
            ),
            lambda _: self.enforcement.discard(),
        )
        return make_state

    def switch(
        self,
        attempt: Attempt,
        make_state: Callable[[], StateChange],
        names: Names,
        beside: RulesBeside | None = None,
    ) -> bool:
        """Save `names` and put the new state in force, as the last steps of an attempt.

        It has the dynamic rules that change `beside` the policy, which the next process gets too.
        Returns whether dynamic rules changed with it.
        """
        before = self.enforcement.state.names
        attempt.step(
            partial(self.kept_files.save_names, names, before),
            lambda _: self.kept_files.save_names(before, names),
        )

        def switch() -> bool:
            now = self.enforcement.state
            new, delta, rules = make_state()
            self.enforcement.put_in_force(new, delta, retry_failures=True)
            for rule in rules:
                self.kept_files.dynamic.added(rule)
            if beside:
                beside.keep(now, new)
            for quarantine in new.quarantines.values():
                if quarantine != now.quarantines.get(quarantine.name):
                    self.kept_files.dynamic.imposed(quarantine)
            return bool(delta)

        return self.enforcement.run(switch)

    def with_addresses(self, state: State, names: Names, looked_up: float) -> StateChange:
        """The state whose dynamic rules have the addresses of `names`."""
        return with_new_addresses(state, names, looked_up, self.protection)

    def note(self, next_state: Callable[[State], State]) -> None:
        """Record a state in which the same is in force."""
        self.enforcement.run(
            lambda: self.enforcement.record_state(next_state(self.enforcement.state))
        )

    def _check_protected(self, state: State, choice: Choice, lists: ListChanges) -> None:
        """Raise ``Refused`` if rules that are to be in force block what is protected, by lists."""
        new: Mapping[str, AddressList] = {
            name: entries for name, entries in lists.items() if entries is not None
        }
        self.protection.check_lists(replace(state, compiled=choice.compiled), new)
