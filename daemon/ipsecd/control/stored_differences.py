"""Owns how two contents of the store of policies differ, in lines for people."""

from __future__ import annotations

from ipsecd.language.differences import Difference
from ipsecd.model.shared_filters import SharedFilters
from ipsecd.model.values import Policy
from ipsecd.quoting import count, quote
from ipsecd.sources.reading import Loaded

MOST_LINES = 1000


def stored_differences(before: Loaded, after: Loaded) -> list[str]:
    """What changes from one content of the store to another, a line each."""
    lines = []
    for name in sorted(before.policies.keys() | after.policies.keys()):
        old, new = (policy_in(loaded, name) for loaded in (before, after))
        if old is None or new is None:
            lines.append(f"{'+' if old is None else '-'} policy {quote(name)}")
        elif before.policies[name] != after.policies[name]:
            changes = Difference(old, new).lines(most=8) or ("~ comments or layout",)
            lines += [f"policy {quote(name)}:", *changes]
    lines += _of_shared(before, after)
    if before.assigned != after.assigned:
        lines.append(f"~ assigned: {_name(before.assigned)} → {_name(after.assigned)}")
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"and {len(lines) - MOST_LINES:,} more lines"]
    return lines


def _of_shared(before: Loaded, after: Loaded) -> list[str]:
    """What becomes of filter lists and filter actions."""
    old, new = (each.shared.filters if each.shared else SharedFilters() for each in (before, after))
    lines = []
    for name in sorted(old.lists.keys() | new.lists.keys()):
        was, is_ = old.lists.get(name), new.lists.get(name)
        if was is None or is_ is None:
            lines.append(f"{'+' if is_ else '-'} filter list {quote(name)}")
        elif was.filters != is_.filters:
            filters = count(len(is_.filters), "filter")
            coming = len({*is_.filters}.difference(was.filters))
            going = len({*was.filters}.difference(is_.filters))
            lines.append(f"~ filter list {quote(name)}: {filters}, {coming:,} new, {going:,} gone")
        elif was.description != is_.description:
            lines.append(f"~ filter list {quote(name)}: its description")
    for name in sorted(old.actions.keys() | new.actions.keys()):
        was_action, is_action = old.actions.get(name), new.actions.get(name)
        if was_action is None or is_action is None:
            lines.append(f"{'+' if is_action else '-'} filter action {quote(name)}")
        elif was_action != is_action:
            lines.append(f"~ filter action {quote(name)}: {is_action.action.value}")
    return lines


def policy_in(loaded: Loaded, name: str) -> Policy | None:
    """The policy of a name; None if there is none."""
    stored = loaded.policies.get(name)
    return stored.policy if stored else None


def _name(name: str | None) -> str:
    return "none" if name is None else quote(name)
