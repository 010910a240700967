"""Owns saying in words what differs between two moments; must not know how it is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ipsecd.engine.recorder.snapshots import (
    INVENTORY,
    LINK,
    LIST,
    ME,
    POLICY,
    PROTECTED,
    RULE,
    SHARED,
    Snapshot,
)
from ipsecd.quoting import count, few, quote

MOST_NAMES = 3


def what_differs(
    before: Snapshot,
    now: Snapshot,
    put: Mapping[str, object],
    drop: Sequence[str],
    edits: Mapping[str, object],
) -> list[str]:
    """What was put, what is gone, and which lists were edited, a few words each."""
    words = []
    if before.state.condition is not now.state.condition:
        words.append(f"the daemon is {now.state.condition.value}")
    if before.backend != now.backend:
        words.append(f"{now.backend} enforces")
    if POLICY in put:
        policy = put[POLICY]
        assert policy is None or isinstance(policy, dict)
        named = f"policy {quote(policy['name'])} ({policy['store']})" if policy else "no policy"
        words.append(f"{named} is in force")
    words += ["what the settings protect"] if PROTECTED in put else []
    words += ["the containers"] if INVENTORY in put else []
    words += _named("put", RULE, "rule", put)
    words += _named("ended", RULE, "rule", drop)
    words += _named("changed", LIST, "list", [*put, *edits])
    words += _named("deleted", LIST, "list", drop)
    if any(key.startswith((ME, SHARED, LINK)) for key in (*put, *drop)):
        words.append("the addresses or interfaces of this host")
    return words


def _named(
    verb: str, kind: str, noun: str, keys: Mapping[str, object] | Sequence[str]
) -> list[str]:
    names = [quote(key.removeprefix(kind)) for key in keys if key.startswith(kind)]
    if not names:
        return []
    if len(names) == 1:
        return [f"{noun} {names[0]} {verb}"]
    return [f"{count(len(names), noun)} {verb}: {few(names, MOST_NAMES)}"]
