"""Owns changes to the lists of addresses, and what else changes with them; must not know files.

1. A change is prepared first, and then put in force as one. Whatever fails on the way, the old
   lists stay.
2. Filters that name lists are compiled anew only if a list has entries of other prefix lengths
   than before: the entries themselves are no part of what is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ipsecd.backend.choice import load_ahead
from ipsecd.backend.lines import at_once
from ipsecd.backend.nftables.ahead import ListAhead
from ipsecd.compiler.rows import Row
from ipsecd.compiler.volatile import NO_CHANGE, Delta
from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import classifier_by_names, rows_for
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.guard import is_guarding, must_spare
from ipsecd.engine.protection import Protection
from ipsecd.engine.state import State
from ipsecd.model.addresses import OF_DOMAIN, check_list_name
from ipsecd.model.counted_lists import with_counting
from ipsecd.model.list_names import lists_in
from ipsecd.model.lists import NO_ENTRIES, AddressList, Form
from ipsecd.model.values import Filter, Origin
from ipsecd.progress import Tell, silent
from ipsecd.sources.domain import Taken
from ipsecd.sources.domain_lists import in_force
from ipsecd.sources.dynamic import DynamicRule

T = TypeVar("T")
LONG = 10_000
"""So many entries take the kernel some milliseconds."""

ListChanges = Mapping[str, AddressList | None]
"""New lists and those with other entries, by name; None for one that is deleted."""


@dataclass(frozen=True, slots=True)
class Lists:
    """Puts lists in force."""

    enforcement: Enforcement
    protection: Protection = field(default_factory=Protection)

    def check(self, changes: ListChanges) -> None:
        """Raise ``Refused`` for a change that would block what must not be; nothing changes."""
        self._check_protected(changes)
        if is_guarding():
            state = self.enforcement.state
            must_spare(state, with_lists(state, changes)[0])

    def change(self, changes: ListChanges, tell: Tell = silent) -> None:
        """Change some lists as one; raises ``IpsecdError``, and then nothing has changed."""
        for name in changes:
            check_list_name(name)

        def following(state: State) -> tuple[State, Delta]:
            self._check_protected(changes)
            return with_lists(state, changes)

        self._change(following, tell)

    def count(self, names: frozenset[str]) -> None:
        """Have these lists count what their entries match, and no others; raises likewise."""
        self._change(lambda state: (with_counting_lists(state, names), NO_CHANGE))

    def _change(
        self, following: Callable[[State], tuple[State, Delta]], tell: Tell = silent
    ) -> None:
        before = self.enforcement.state
        wanted, delta = following(before)
        with Attempt() as attempt:
            attempt.step(
                lambda: self.enforcement.prepare(wanted.classifier, tell),
                lambda _: self.enforcement.discard(),
            )
            self.enforcement.run(lambda: self._switch(following, before, wanted, delta))

    def load_ahead(self, name: str, size: int) -> ListAhead | None:
        """What loads a list while its text of `size` bytes is read; None if that is of no use.

        In the line of changes; whoever has it closes it.
        """
        enforcement = self.enforcement
        if enforcement.run is at_once or not enforcement.state.enforcing:
            return None
        return load_ahead(enforcement.backend, name, size, enforcement.run)

    def missing(self, filters: Iterable[Filter]) -> dict[str, AddressList]:
        """The long lists that filters name and that nothing in force does; for any thread.

        The kernel has no list that nothing names, so these are not there.
        """
        state = self.enforcement.state
        if not state.enforcing:
            return {}
        names = {name for rule_filter in filters for name in lists_in(rule_filter)}
        unloaded = names & state.lists.keys() - state.classifier.lists.keys()
        return {name: state.lists[name] for name in unloaded if len(state.lists[name]) >= LONG}

    def load_and(self, filters: Iterable[Filter], change: Callable[[], T]) -> T:
        """Carry out, in the kernel's line, a change that brings `filters`.

        What is ``missing`` is loaded before, in the line of changes, which this is for.
        """
        missing, now = self.missing(filters), self.enforcement.state.classifier
        with Attempt() as attempt:
            if missing:
                wanted = replace(now, lists={**now.lists, **missing})
                attempt.step(
                    lambda: self.enforcement.prepare(wanted), lambda _: self.enforcement.discard()
                )
            outcome = self.enforcement.run(change)
        if not missing.keys() <= self.enforcement.state.classifier.lists.keys():
            # Some of the filters have not come to be in force.
            self.enforcement.discard()
        return outcome

    def _switch(
        self,
        following: Callable[[State], tuple[State, Delta]],
        before: State,
        new: State,
        delta: Delta,
    ) -> None:
        """Put `new` in force, which `before` becomes; if another state is there now, what it does.

        Rules and containers may have changed while the change was prepared.
        """
        if self.enforcement.state is not before or not new.enforcing:
            new, delta = following(self.enforcement.state)
        if new.enforcing:
            self.enforcement.put_in_force(new, delta)
        else:
            self.enforcement.record_state(new)

    def _check_protected(self, changes: ListChanges) -> None:
        lists = {name: entries for name, entries in changes.items() if entries is not None}
        self.protection.check_lists(self.enforcement.state, lists)


def changes_by_domain(present: Mapping[str, AddressList], taken: Taken) -> ListChanges:
    """What changes if the domain has no lists but those that were taken from it now."""
    wanted = in_force(taken.lists)
    gone = [name for name in present if name.startswith(OF_DOMAIN) and name not in wanted]
    changes: dict[str, AddressList | None] = dict.fromkeys(gone)
    return changes | {
        name: entries for name, entries in wanted.items() if present.get(name) != entries
    }


def with_lists(state: State, changes: ListChanges) -> tuple[State, Delta]:
    """The state with other lists, and how that changes the entries of dynamic rules.

    Its classifier has those of them that are named.
    """
    new, delta, has_other_forms = _with_members(state, changes)
    if not has_other_forms:
        return new, delta
    classifier = classifier_by_names(new.compiled, new.inventory, new.lists)
    return (replace(new, classifier=classifier) if new.enforcing else new).with_used_lists(), delta


def with_members(state: State, changes: ListChanges) -> tuple[State, Delta]:
    """The same, with the classifier as it is: for a state whose policy is compiled anew."""
    new, delta, _ = _with_members(state, changes)
    return new, delta


def _with_members(state: State, changes: ListChanges) -> tuple[State, Delta, bool]:
    """The same, and whether a list has entries of other prefix lengths than before."""
    if not changes:
        return state, NO_CHANGE, False
    lists = {name: entries for name, entries in state.lists.items() if name not in changes}
    lists |= {name: entries for name, entries in changes.items() if entries is not None}
    new = state.with_lists(counting(lists, state.counted_lists))
    if all(_forms(state, name) == _forms(new, name) for name in changes):
        return new, NO_CHANGE, False
    return *with_entries_of_now(new, new.dynamic.listing.values()), True


def with_counting_lists(state: State, names: frozenset[str]) -> State:
    """The state in which the lists of these names count what their entries match."""
    counted = replace(state, counted_lists=names)
    return counted.with_lists(counting(state.lists, names))


def counting(lists: Mapping[str, AddressList], names: Container[str]) -> dict[str, AddressList]:
    """The lists, of which those of these names count what their entries match."""
    return {name: with_counting(each, counts=name in names) for name, each in lists.items()}


def with_entries_of_now(state: State, rules: Iterable[DynamicRule]) -> tuple[State, Delta]:
    """The state in which dynamic rules have the entries for what their names stand for now."""
    removed: list[Origin] = []
    added: list[tuple[Row, float]] = []
    for rule in rules:
        rows = rows_for(rule, state.inventory, state.lists)
        if {(row.table, row.key) for row in rows} != set(state.volatile.rows(rule.origin)):
            removed.append(rule.origin)
            added += [(row, rule.deadline) for row in rows]
    volatile, delta = state.volatile.changed(removed, added)
    return replace(state, volatile=volatile), delta


def _forms(state: State, name: str) -> frozenset[Form]:
    return state.lists.get(name, NO_ENTRIES).forms
