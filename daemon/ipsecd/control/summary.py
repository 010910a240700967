"""Owns how a changed policy is said in words; the whole of the change goes to programs."""

from __future__ import annotations

from ipsecd.language.documents import diff_policies
from ipsecd.model.values import Policy
from ipsecd.quoting import count, cut

SHOWN_FILTERS, SHOWN_LINES = 10, 40
"""Of a rule, and of a change."""
MAX_LINE = 400


def summary(old: Policy | None, new: Policy) -> str:
    """What changes from `old` to `new`, to stand after "is stored".

    A large change is counted first, and of it the first lines follow.
    """
    lines = diff_policies(old, new, most=SHOWN_FILTERS)
    if not lines:
        return ":\nno rule changes"
    shown = [cut(line, MAX_LINE) for line in lines[:SHOWN_LINES]]
    left = len(lines) - SHOWN_LINES
    if left > 0:
        shown.append(f"and {left:,} more lines")
    rules, filters = _amounts(old, new)
    is_large = left > 0 or any(number > SHOWN_FILTERS for number in filters)
    counted = _counted(rules, filters) if is_large else ""
    return "\n".join([f": {counted}" if counted else ":", *shown])


def _amounts(old: Policy | None, new: Policy) -> tuple[tuple[int, int], tuple[int, int]]:
    """How many rules are new and gone, and how many filters, in all rules, are."""
    before = {rule.name: rule for rule in old.rules} if old else {}
    after = {rule.name: rule for rule in new.rules}
    filters = [0, 0]
    for name in {*before, *after}:
        was, now = before.get(name), after.get(name)
        if was and now and was != now:
            # Only where both are there: telling filters apart takes a microsecond for each.
            filters[0] += len({*now.filters} - {*was.filters})
            filters[1] += len({*was.filters} - {*now.filters})
        elif not was or not now:
            filters[0] += len(now.filters) if now else 0
            filters[1] += len(was.filters) if was else 0
    rules = (len(after.keys() - before.keys()), len(before.keys() - after.keys()))
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
