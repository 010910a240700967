"""Owns how dynamic rules become again what they were before a change; must not know why.

Rules come and go all the time. So what is put back are those rules alone that the change has put,
replaced or removed, and only if nobody has changed them since.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TypeVar

from ipsecd.engine.compiling import rows_for
from ipsecd.engine.dynamic import DynamicRuleChanges
from ipsecd.engine.quarantines import change_dynamic_rules, is_of_quarantine
from ipsecd.engine.state import Condition, State
from ipsecd.errors import IpsecdError
from ipsecd.log import record
from ipsecd.model.quarantine import Quarantine
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule, DynamicRules
from ipsecd.sources.dynamic_file import (
    are_the_same,
    names_of_keys,
    read_record,
    records_of,
    with_lookups_of,
)
from ipsecd.sources.record_file import Record

Records = Mapping[str, Record]
Value = TypeVar("Value")
MAX_TOLD = 3
"""How many rules that were not put back are named in words; the log names all."""


@dataclass(frozen=True, slots=True)
class NotPutBack:
    """A rule that was not put back, and why; ``instead`` is the rule that has its name now."""

    name: str
    reason: str
    deadline: float = inf
    instead: DynamicRule | None = None

    def counts(self, rules: DynamicRules, now: float) -> bool:
        """Whether it would be in force now, and nobody has made a rule of its name since."""
        present = rules.get(self.name)
        made = None if present is None else present.created
        made_before = None if self.instead is None else self.instead.created
        return self.deadline > now and made == made_before


def in_words(not_put_back: Sequence[NotPutBack]) -> str:
    """The rules that were not put back, and why."""
    named = "; ".join(f"{quote(each.name)}: {each.reason}" for each in not_put_back[:MAX_TOLD])
    unnamed = len(not_put_back) - MAX_TOLD
    return f"{named}; and {unnamed:,} more" if unnamed > 0 else named


def warning(missing: Sequence[NotPutBack]) -> str:
    """That these rules were not put back, and what to do."""
    return (
        f"of an unconfirmed change that was put back not all could be: {in_words(missing)}\n"
        "  hint: see what is in force with: ipsecctl show dynamic; make again what is missing"
    )


def records_in(state: State) -> Records:
    """All dynamic rules and quarantines of a state, as records."""
    rules = (rule for rule in state.dynamic if not is_of_quarantine(state, rule.name))
    return records_of(rules, state.quarantines.values())


def differing(before: Records, after: Records) -> tuple[Records, Records]:
    """Those records of both that are not the same in both."""
    keys = _differing_keys(before, after)
    return (
        {key: before[key] for key in keys if key in before},
        {key: after[key] for key in keys if key in after},
    )


def records_changed(before: State, after: State) -> tuple[Records, Records]:
    """The records of two states that are not the same in both.

    What is one value in both costs next to nothing, however many rules there are.
    """
    names = _replaced(before.dynamic.by_name, after.dynamic.by_name)
    quarantine_names = _replaced(before.quarantines, after.quarantines)

    def records(state: State) -> Records:
        rules = (state.dynamic.get(name) for name in names if not is_of_quarantine(state, name))
        quarantines = (state.quarantines.get(name) for name in quarantine_names)
        return records_of(filter(None, rules), filter(None, quarantines))

    return differing(records(before), records(after))


def joined(
    first: tuple[Records, Records], then: tuple[Records, Records]
) -> tuple[Records, Records]:
    """What two changes, one after the other, differ in as one: the records before, and after."""
    keys = first[0].keys() | first[1].keys()
    before = {key: record for key, record in then[0].items() if key not in keys}
    after = {key: record for key, record in first[1].items() if key not in then[0]}
    return {**first[0], **before}, {**after, **then[1]}


def are_others(before: Records, put: Records, state: State) -> bool:
    """Whether rules that a change was to `put` in the place of others are not as `before` it."""
    rule_names, quarantine_names = names_of_keys(before.keys() | put.keys())
    rules = (state.dynamic.get(name) for name in rule_names if not is_of_quarantine(state, name))
    quarantines = (state.quarantines.get(name) for name in quarantine_names)
    current = records_of(filter(None, rules), filter(None, quarantines))
    return any(
        not are_the_same(before.get(key), current.get(key)) for key in before.keys() | put.keys()
    )


def _replaced(before: Mapping[str, Value], after: Mapping[str, Value]) -> list[str]:
    """The keys under which the two have not one and the same value."""
    gone = [name for name, value in before.items() if after.get(name) is not value]
    return gone + [name for name in after if name not in before]


def rules_to_put_back(
    changes: DynamicRuleChanges, before: Records, put: Records
) -> tuple[list[DynamicRule], list[str]]:
    """The rules as they were `before` a change, and the names of those that it has touched.

    Quarantines are left out, and what somebody has changed since.
    """
    current, now = records_in(changes.enforcement.state), changes.clock()
    keys = [
        key
        for key in _differing_keys(before, put)
        if _is_still(current.get(key), put.get(key), now)
    ]
    restored = [_restored(key, before[key], now) for key in keys if key in before]
    rules = [each for each in restored if isinstance(each, DynamicRule)]
    return rules, names_of_keys(keys)[0]


def put_rules_back(
    changes: DynamicRuleChanges, before: Records, put: Records | None
) -> tuple[NotPutBack, ...]:
    """Have the rules be as they were `before` a change that has `put` others in their place.

    Returns those that are refused now, as where there are too many others.

    Without `put` it is not known, and all that are not as they were before are taken for the
    change's. What the kernel refused at the start is tried again with the rules as they were then.
    It is called in the kernel's line. Raises ``IpsecdError``, also where it is not known what the
    kernel holds, so that this is tried again.
    """
    state = changes.enforcement.state
    if state.stopped:
        return ()
    is_tried_again = state.condition is Condition.FAILED
    if not is_tried_again:
        state.must_run()
    current = records_in(state)
    put = current if put is None else put
    now = changes.clock()
    keys = [
        key
        for key in _differing_keys(before, put)
        if _is_still(current.get(key), put.get(key), now)
    ]
    restored = [
        each
        for key in keys
        if key in before
        and (each := _restored(key, with_lookups_of(current.get(key), before[key]), now))
    ]
    rules = [each for each in restored if isinstance(each, DynamicRule)]
    quarantines = [each for each in restored if isinstance(each, Quarantine)]
    not_put_back = [each for each in restored if isinstance(each, NotPutBack)]
    names, quarantine_names = names_of_keys(keys)
    if is_tried_again:
        _note_put_back(changes, rules, names, quarantines, quarantine_names)
    else:
        not_put_back += _carry_out(changes, rules, names, quarantines, quarantine_names)
    for each in not_put_back:
        record(logging.ERROR, "rule-not-put-back", rule=each.name, reason=each.reason)
    return tuple(not_put_back)


def _carry_out(
    changes: DynamicRuleChanges,
    rules: Sequence[DynamicRule],
    names: Sequence[str],
    quarantines: Sequence[Quarantine],
    quarantine_names: Sequence[str],
) -> list[NotPutBack]:
    """Have rules and quarantines in force in the place of those named; what is refused."""
    kept = {quarantine.name for quarantine in quarantines}
    if gone := [name for name in quarantine_names if name not in kept]:
        changes.release(gone)
    refused = changes.change(rules, names).refused if names else {}
    present = changes.enforcement.state.dynamic
    for quarantine in quarantines:
        changes.impose(quarantine)
    return [
        NotPutBack(rule.name, refused[rule.name].message, rule.deadline, present.get(rule.name))
        for rule in rules
        if rule.name in refused
    ]


def _note_put_back(
    changes: DynamicRuleChanges,
    rules: Sequence[DynamicRule],
    names: Iterable[str],
    quarantines: Sequence[Quarantine],
    quarantine_names: Sequence[str],
) -> None:
    """Have rules and quarantines in the state that is tried again, in the place of those named.

    As for those that an earlier process left, no limit counts.
    """
    state = changes.enforcement.state
    ended = [state.quarantines[name] for name in quarantine_names if name in state.quarantines]
    gone = set(names).difference(rule.name for rule in rules)
    removed = [
        rule
        for rule in state.dynamic
        if any(quarantine.owns(rule.name) for quarantine in ended)
        or (rule.name in gone and not is_of_quarantine(state, rule.name))
    ]
    after = {name: each for name, each in state.quarantines.items() if name not in quarantine_names}
    after |= {quarantine.name: quarantine for quarantine in quarantines}
    added = [(rule, rows_for(rule, state.inventory, state.lists)) for rule in rules]
    new, _ = change_dynamic_rules(
        replace(state, quarantines=after), removed, added, permits_changed=True
    )
    changes.enforcement.record_state(new)
    for rule in rules:
        changes.deadlines.add(rule, new.dynamic)
    changes.file.changed(rules, gone)
    changes.file.released(name for name in quarantine_names if name not in after)
    for quarantine in quarantines:
        changes.file.imposed(quarantine)


def _differing_keys(before: Records, after: Records) -> list[str]:
    keys = before.keys() | after.keys()
    return sorted(key for key in keys if not are_the_same(before.get(key), after.get(key)))


def _is_still(current: Record | None, put: Record | None, now: float) -> bool:
    """Whether a rule is as the change has put it, or has ended since.

    What has become another rule is somebody else's.
    """
    if current is None and put is not None:
        ends = put.get("ends")
        return isinstance(ends, int | float) and ends <= now
    return are_the_same(current, put)


def _restored(
    key: str, content: Record, now: float
) -> DynamicRule | Quarantine | NotPutBack | None:
    """The rule or quarantine to put back; None if it has ended meanwhile."""
    try:
        rule_or_quarantine = read_record(key, content)
    except (ValueError, IpsecdError) as error:
        return NotPutBack(key, error.message if isinstance(error, IpsecdError) else str(error))
    return rule_or_quarantine if rule_or_quarantine.deadline > now else None
