"""Owns how two contents of the store of policies differ, in lines for people."""

from __future__ import annotations

from ipsecd.language.differences import Difference
from ipsecd.model.values import Policy
from ipsecd.quoting import quote
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
    if before.assigned != after.assigned:
        lines.append(f"~ assigned: {_name(before.assigned)} → {_name(after.assigned)}")
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"and {len(lines) - MOST_LINES:,} more lines"]
    return lines


def policy_in(loaded: Loaded, name: str) -> Policy | None:
    """The policy of a name; None if there is none."""
    stored = loaded.policies.get(name)
    return stored.policy if stored else None


def _name(name: str | None) -> str:
    return "none" if name is None else quote(name)
