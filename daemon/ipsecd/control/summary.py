"""Owns the summary of a change to a policy, for people; programs get the whole change."""

from __future__ import annotations

from ipsecd.language.documents import diff_policies
from ipsecd.model.values import Policy
from ipsecd.quoting import count, cut

SHOWN_FILTERS, SHOWN_LINES = 10, 40
"""How many filters of a rule and how many lines of a change are shown."""
MAX_LINE = 400


def summary(old: Policy | None, new: Policy) -> str:
    """What changes from `old` to `new`, to be put after "is stored".

    For a large change, the counts come first, and then the first lines of it.
    """
    lines = diff_policies(old, new, most=SHOWN_FILTERS)
    if not lines:
        return ":\nno rule changes"
    shown = [cut(line, MAX_LINE) for line in lines[:SHOWN_LINES]]
    not_shown = len(lines) - SHOWN_LINES
    if not_shown > 0:
        shown.append(f"and {not_shown:,} more lines")
    rules, filters = _amounts(old, new)
    is_large = not_shown > 0 or any(number > SHOWN_FILTERS for number in filters)
    counted = _counted(rules, filters) if is_large else ""
    return "\n".join([f": {counted}" if counted else ":", *shown])


def _amounts(old: Policy | None, new: Policy) -> tuple[tuple[int, int], tuple[int, int]]:
    """How many rules are new and how many gone, and the same for the filters of all rules."""
    old_rules = {rule.name: rule for rule in old.rules} if old else {}
    new_rules = {rule.name: rule for rule in new.rules}
    filters = [0, 0]
    for name in {*old_rules, *new_rules}:
        old_rule, new_rule = old_rules.get(name), new_rules.get(name)
        if old_rule and new_rule and old_rule != new_rule:
            # Filters are compared only where both rules exist: it takes a microsecond for each.
            filters[0] += len({*new_rule.filters} - {*old_rule.filters})
            filters[1] += len({*old_rule.filters} - {*new_rule.filters})
        elif not old_rule or not new_rule:
            filters[0] += len(new_rule.filters) if new_rule else 0
            filters[1] += len(old_rule.filters) if old_rule else 0
    rules = (
        len(new_rules.keys() - old_rules.keys()),
        len(old_rules.keys() - new_rules.keys()),
    )
    return rules, (filters[0], filters[1])


def _counted(rules: tuple[int, int], filters: tuple[int, int]) -> str:
    parts = []
    for what, of_rules, of_filters in zip(("new", "gone"), rules, filters, strict=True):
        amounts = [(of_rules, "rule"), (of_filters, "filter")]
        words = [count(number, noun) for number, noun in amounts if number]
        if words:
            is_one = of_rules + of_filters == 1
            parts.append(f"{' and '.join(words)} {'is' if is_one else 'are'} {what}")
    return ", ".join(parts)
