"""Owns changes to the dynamic rules and quarantines, and keeping them for the next process.

Each is one change in the kernel, and costs the same however many rules there are. It is kept on
disk for the next process before the caller has an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from operator import attrgetter

from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import Row
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.config import Config
from ipsecd.engine.additions import Additions, Order, additions
from ipsecd.engine.compiling import rows_by_name, rows_for
from ipsecd.engine.deadlines import Deadlines
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.protection import Protection
from ipsecd.engine.quarantines import change_dynamic_rules, is_of_quarantine
from ipsecd.engine.state import State
from ipsecd.errors import InvalidInput, IpsecdError, Refused
from ipsecd.garbage import collection_paused
from ipsecd.log import record
from ipsecd.model.addresses import Process
from ipsecd.model.list_names import changes_by_itself
from ipsecd.model.quarantine import Quarantine
from ipsecd.model.values import Endpoint, Filter, InForce
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule, Selected
from ipsecd.sources.dynamic_file import DynamicFile


@dataclass(frozen=True, slots=True)
class Change:
    """How many rules were added, put in the place of others, and removed; why some were refused."""

    added: int
    renewed: int
    removed: int
    refused: dict[str, IpsecdError]


@dataclass(frozen=True, slots=True)
class DynamicRuleChanges:
    """Adds, removes and ends dynamic rules; ``clock`` is monotonic, in seconds."""

    enforcement: Enforcement
    file: DynamicFile
    limit: int
    clock: Callable[[], float]
    protection: Protection = field(default_factory=Protection)
    deadlines: Deadlines = field(default_factory=Deadlines)

    @classmethod
    def by_settings(
        cls,
        config: Config,
        enforcement: Enforcement,
        file: DynamicFile,
        clock: Callable[[], float],
    ) -> DynamicRuleChanges:
        """Changes within the limits of the settings, that spare what the settings protect."""
        protection = Protection(config.protected)
        return cls(enforcement, file, config.limits.dynamic_rules, clock, protection)

    def taken_over(self, state: State) -> State:
        """`state` with the dynamic rules that an earlier process left; puts nothing in force."""
        saved = self.file.load(self.clock())
        usable = []
        for rule in saved.rules:
            rows = rows_for(rule, state.inventory, state.lists)
            try:
                if senders := _senders(rule):
                    self.enforcement.backend.check(compile_filters(senders))
            except IpsecdError as error:
                record(logging.ERROR, "dynamic-rule-lost", rule=rule.name, reason=error.message)
                self.file.removed([rule.name])
                continue
            usable.append((rule, rows))
        new, _ = change_dynamic_rules(state, added=usable)
        for rule, _ in usable:
            self.deadlines.add(rule, new.dynamic)
        taken_over = len(usable) + len(saved.quarantines)
        if taken_over:
            record(logging.INFO, "dynamic-rules-taken-over", rules=taken_over)
        quarantines = {quarantine.name: quarantine for quarantine in saved.quarantines}
        unprotecting = self.protection.covering((rule for rule, _ in usable), state)
        return replace(
            new, quarantines=quarantines, taken_over=taken_over, unprotecting=unprotecting
        )

    def add(self, rules: Sequence[DynamicRule]) -> None:
        """Enforce rules, all at once. Each replaces the rule of its name, if there is one."""
        self._change(self.checked_rows(rules, self.enforcement.state))

    def checked_rows(
        self, rules: Sequence[DynamicRule], state: State, removed: int = 0
    ) -> list[tuple[DynamicRule, Sequence[Row]]]:
        """Rules with their rows in `state`, from which so many others are `removed`.

        Raises ``IpsecdError`` if one cannot be enforced, or must not.
        """
        state.must_run()
        state.dynamic.check_room((rule.name for rule in rules), self.limit + removed)
        by_name = rows_by_name(rules, state.inventory, state.lists)
        for rule in rules:
            self._check(state, rule, by_name[rule.name])
        return [(rule, by_name[rule.name]) for rule in rules]

    def order(self, order: Order, *, dry_run: bool = False) -> Additions:
        """Enforce what somebody ordered to block or permit; what that came to, or would."""
        now = self.enforcement.state
        now.must_run()
        if order.name is not None:
            self._check_name(now, order.name)
        # Nothing of what a long list makes is garbage, and looking for some takes long.
        with collection_paused():
            outcome = additions(now.dynamic, order)
            if outcome.changed and dry_run:
                self.checked_rows(outcome.changed, now)
            elif outcome.changed:
                self.add(outcome.changed)
        return outcome

    def change(self, rules: Sequence[DynamicRule], names: Iterable[str]) -> Change:
        """Enforce rules and take others out of force by name, as one change; what came of it.

        A rule replaces the rule of its name. Those that cannot be enforced are left out.
        """
        now = self.enforcement.state
        now.must_run()
        wanted = {rule.name: rule for rule in rules}
        # A pause takes as long as a part of a single ban, and gains nothing there.
        with collection_paused() if len(wanted) > 1 else nullcontext():
            removed = [
                rule for name in set(names).difference(wanted)
                if (rule := now.dynamic.get(name)) and not is_of_quarantine(now, name)
            ]  # fmt: skip
            room = self.limit - len(now.dynamic) + len(removed)
            by_name = rows_by_name([*wanted.values()], now.inventory, now.lists)
            with_rows, new, refused = [], 0, {}
            for name, rule in wanted.items():
                is_new = name not in now.dynamic.by_name
                try:
                    if is_new and new >= room:
                        now.dynamic.check_room([name], 0)
                    self._check(now, rule, by_name[name])
                except IpsecdError as error:
                    refused[name] = error
                    continue
                new += is_new
                with_rows.append((rule, by_name[name]))
            self._change(with_rows, removed)
        return Change(new, len(with_rows) - new, len(removed), refused)

    def _check(self, state: State, rule: DynamicRule, rows: Sequence[Row]) -> None:
        """Raise ``IpsecdError`` if a rule with these rows cannot be enforced, or must not be."""
        self._check_name(state, rule.name)
        self.protection.check(rule, state)
        if senders := _senders(rule):
            self.enforcement.check(compile_filters(senders))
        if not rows and not any(map(changes_by_itself, rule.filters)):
            raise InvalidInput(
                "the filters match nothing: traffic from this host to itself is not filtered",
                "one of the two addresses must be another's",
            )

    def _check_name(self, state: State, name: str) -> None:
        if is_of_quarantine(state, name):
            raise Refused(
                f"{quote(name)} is the name of a rule of a quarantine", "choose another name"
            )

    def remove(self, selection: Iterable[Selected]) -> tuple[Selected, ...]:
        """Take rules, or some of their filters, out of force, all at once.

        The rules of quarantines are left as they are. Returns what was taken out; raises
        ``Refused`` if all is of quarantines.
        """
        now = self.enforcement.state
        selected = tuple(selection)
        if selected:
            now.must_run()
        ordinary = tuple(each for each in selected if not is_of_quarantine(now, each.rule.name))
        if selected and not ordinary:
            raise Refused(
                f"rule {quote(selected[0].rule.name)} belongs to a quarantine",
                "end that with: ipsecctl release",
            )
        shortened = [replace(each.rule, filters=each.kept) for each in ordinary if each.kept]
        with_rows = [(rule, rows_for(rule, now.inventory, now.lists)) for rule in shortened]
        self._change(with_rows, [each.rule for each in ordinary if not each.kept])
        return ordinary

    def flush(self) -> int:
        """Take all rules out of force, end all quarantines. Returns how many rules there were."""
        now = self.enforcement.state
        if now.dynamic:
            now.must_run()
        new = replace(now, quarantines={}, dynamic=now.dynamic.cleared(), volatile=Volatile())
        self._put_in_force(new, Delta(removed=tuple(now.volatile.entries())))
        self.file.removed(rule.name for rule in now.dynamic)
        self.file.released(now.quarantines)
        return len(now.dynamic)

    def impose(self, quarantine: Quarantine) -> tuple[DynamicRule, ...]:
        """Cut off who is in a quarantine, whatever is permitted later. Returns its rules."""
        now = self.enforcement.state
        now.must_run()
        now.dynamic.check_room([quarantine.rule_name("")], self.limit)
        self.protection.check_quarantine(quarantine, now.inventory)
        quarantines = {**now.quarantines, quarantine.name: quarantine}
        new, delta = change_dynamic_rules(
            replace(now, quarantines=quarantines), permits_changed=True
        )
        self.enforcement.put_in_force(new, delta)
        # Ordinary rules may have had these names until now; the quarantine's rules replace them.
        self.file.removed(filter(quarantine.owns, now.dynamic.by_name))
        self.file.imposed(quarantine)
        return tuple(_by_name(rule for rule in new.dynamic if quarantine.owns(rule.name)))

    def release(self, names: Sequence[str]) -> tuple[str, ...]:
        """End quarantines. Returns the names of the rules that they had."""
        now = self.enforcement.state
        ended = [now.quarantines[name] for name in names if name in now.quarantines]
        remaining = {
            name: quarantine for name, quarantine in now.quarantines.items() if name not in names
        }
        rules = _by_name(
            rule for rule in now.dynamic if any(quarantine.owns(rule.name) for quarantine in ended)
        )
        new, delta = change_dynamic_rules(replace(now, quarantines=remaining), rules)
        self._put_in_force(new, delta)
        self.file.released(quarantine.name for quarantine in ended)
        return tuple(rule.name for rule in rules)

    def next_expiry(self) -> float | None:
        """When the next rule or quarantine ends, in monotonic seconds; None if none does."""
        state = self.enforcement.state
        deadlines = [
            quarantine.deadline for quarantine in state.quarantines.values() if quarantine.ends
        ]
        if (next_of_rules := self.deadlines.next(state.dynamic)) is not None:
            deadlines.append(next_of_rules)
        return min(deadlines, default=None)

    def expire(self) -> None:
        """Forget the rules and quarantines that have ended. The kernel ended them by itself."""
        now, state = self.clock(), self.enforcement.state
        ended_quarantines = [
            quarantine.name
            for quarantine in state.quarantines.values()
            if quarantine.deadline <= now
        ]
        if ended_quarantines:
            self.release(ended_quarantines)
            for name in ended_quarantines:
                record(logging.INFO, "quarantine-ended", who=name)
        ended_rules = self.deadlines.ended(self.enforcement.state.dynamic, now)
        if ended_rules:
            self._change((), ended_rules)
            for rule in ended_rules:
                record(logging.INFO, "dynamic-rule-ended", rule=rule.name)

    def _put_in_force(self, new: State, delta: Delta) -> None:
        """Put `new` in force.

        Without a state in force it has fewer rules, and is only recorded: the kernel ends rules by
        itself.
        """
        if new.enforcing:
            self.enforcement.put_in_force(new, delta)
        else:
            self.enforcement.record_state(new)

    def _change(
        self,
        added: Sequence[tuple[DynamicRule, Sequence[Row]]],
        removed: Sequence[DynamicRule] = (),
    ) -> None:
        """Have rules with their rows in force, and others not, as one change."""
        new, delta = change_dynamic_rules(self.enforcement.state, removed, added)
        self._put_in_force(new, delta)
        for rule, _ in added:
            self.deadlines.add(rule, new.dynamic)
        self.file.changed((rule for rule, _ in added), (rule.name for rule in removed))


def _senders(rule: DynamicRule) -> list[InForce]:
    """Filters for all that the local processes send which a rule names.

    Whether a kernel can tell these does not depend on what else the rule names, or stands for now.
    """
    if not any(isinstance(each.source.address, Process) for each in rule.filters):
        return []
    return [
        replace(in_force, filter=Filter(Endpoint(in_force.filter.source.address), Endpoint()))
        for in_force in rule.in_force
        if isinstance(in_force.filter.source.address, Process)
    ]


def _by_name(rules: Iterable[DynamicRule]) -> list[DynamicRule]:
    return sorted(rules, key=attrgetter("name"))
