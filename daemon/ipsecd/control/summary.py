"""Owns the summary of a change to a policy, for people; programs get the whole change."""

from __future__ import annotations

from ipsecd.language.differences import Difference
from ipsecd.quoting import count, cut

SHOWN_FILTERS, SHOWN_LINES = 10, 40
"""How many filters of a rule and how many lines of a change are shown."""
MAX_LINE = 400


def summary(difference: Difference) -> str:
    """What changes, to be put after "is stored".

    For a large change, the counts come first, and then the first lines of it.
    """
    lines = difference.lines(most=SHOWN_FILTERS)
    if not lines:
        return ":\nno rule changes"
    shown = [cut(line, MAX_LINE) for line in lines[:SHOWN_LINES]]
    not_shown = len(lines) - SHOWN_LINES
    if not_shown > 0:
        shown.append(f"and {not_shown:,} more lines")
    filters = difference.filters_new_and_gone
    is_large = not_shown > 0 or any(number > SHOWN_FILTERS for number in filters)
    counted = _counted(difference.rules_new_and_gone, filters) if is_large else ""
    return "\n".join([f": {counted}" if counted else ":", *shown])


def _counted(rules: tuple[int, int], filters: tuple[int, int]) -> str:
    parts = []
    for what, of_rules, of_filters in zip(("new", "gone"), rules, filters, strict=True):
        amounts = [(of_rules, "rule"), (of_filters, "filter")]
        words = [count(number, noun) for number, noun in amounts if number]
        if words:
            is_one = of_rules + of_filters == 1
            parts.append(f"{' and '.join(words)} {'is' if is_one else 'are'} {what}")
    return ", ".join(parts)
