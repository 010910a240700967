"""Owns the words in which the history says what a change of policies has changed.

No document is read for them: they go by what is known of a policy without its filters.
"""

from __future__ import annotations

from ipsecd.engine.state import State
from ipsecd.model.lists import AddressList
from ipsecd.model.values import Policy
from ipsecd.quoting import count, quote
from ipsecd.sources.history_rows import MOST_WHAT, Manifest
from ipsecd.sources.lists import Lists

MOST_LINES = 50


def differing_lists(before: Lists, after: Lists) -> dict[str, tuple[int, int]]:
    """The lists that are not the same, each with its number of entries before and after."""
    if before is after:
        return {}
    return {
        name: (_entries(before, name), _entries(after, name))
        for name in sorted(before.keys() | after.keys())
        if _addresses(before, name) is not _addresses(after, name)
    }


def _addresses(lists: Lists, name: str) -> AddressList | None:
    return lists[name].addresses if name in lists else None


def _entries(lists: Lists, name: str) -> int:
    addresses = _addresses(lists, name)
    return sum(map(addresses.count, addresses.entries)) if addresses else 0


def what_changed(
    before: Manifest, after: Manifest, was: State | None, is_: State
) -> tuple[str, ...]:
    """What is new, gone or other, a line each."""
    lines = []
    old, new = before.policies, after.policies
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            policy = is_.loaded.policies[name].policy
            lines.append(f"policy {quote(name)} is new: {_size(policy)}")
        elif name not in new:
            lines.append(f"policy {quote(name)} is gone")
        elif old[name] != new[name]:
            stored = was.loaded.policies.get(name) if was else None
            details = _details(stored.policy if stored else None, is_.loaded.policies[name].policy)
            lines.append(f"policy {quote(name)} is changed{details}")
    if before.shared != after.shared:
        lines.append("filter lists and filter actions are changed")
    if before.assigned != after.assigned:
        lines.append(f"assigned: {_name(before.assigned)} → {_name(after.assigned)}")
    if before.domain != after.domain:
        names = [pair[0] if pair else None for pair in (before.domain, after.domain)]
        lines.append(f"policy of the domain: {_name(names[0])} → {_name(names[1])}")
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"and {len(lines) - MOST_LINES:,} more"]
    return tuple(lines or ["the files have other names"])


def _details(old: Policy | None, new: Policy) -> str:
    """Which rules came and went. It goes by what is known of a policy without reading it."""
    if old is None:
        return f": {_size(new)}"
    was, is_ = old.facts.actions, new.facts.actions
    details = [f"+{quote(name)}" for name in is_ if name not in was]
    details += [f"-{quote(name)}" for name in was if name not in is_]
    details += [
        f"{quote(name)}: {action.value}"
        for name, action in is_.items()
        if was.get(name, action) is not action
    ]
    if len(details) > MOST_WHAT:
        details[MOST_WHAT:] = [f"and {len(details) - MOST_WHAT:,} more rules"]
    if old.facts.filters != new.facts.filters:
        details.append(f"{old.facts.filters:,} → {count(new.facts.filters, 'filter')}")
    return f": {', '.join(details)}" if details else ""


def _size(policy: Policy) -> str:
    facts = policy.facts
    return f"{count(len(facts.actions), 'rule')}, {count(facts.filters, 'filter')}"


def _name(name: str | None) -> str:
    return "none" if name is None else quote(name)
