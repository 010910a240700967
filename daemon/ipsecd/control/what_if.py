"""Owns proofs about this host: what a change would decide differently, and what has no effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ipsecd.config import Unparsable
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import require_known_state
from ipsecd.engine import Engine
from ipsecd.errors import LimitExceeded, Refused
from ipsecd.host.interfaces import read_host
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import resolved
from ipsecd.model.list_names import lists_in
from ipsecd.model.values import InForce, Policy, Store, filters_of
from ipsecd.proof.changes import Surroundings, changes
from ipsecd.proof.lint import findings_to_json, lint
from ipsecd.proof.words import changes_to_json
from ipsecd.sources.names import policy_with_addresses


def add_verdicts(
    engine: Engine,
    policy: Policy | None,
    names: Mapping[str, tuple[Network, ...]],
    outcome: dict[str, Any],
) -> None:
    """Say in an outcome what is decided differently if `policy` comes into force, None for none.

    Dynamic rules and what the settings protect stay. Nothing is said where that policy would not
    come into force, or where it is not known what is.
    """
    if engine.overriding is not None or engine.stopped or engine.held:
        return
    now: tuple[InForce, ...] = ()
    if policy:
        now = filters_of(policy_with_addresses(policy, {**engine.names, **names}), Store.STATIC)
    in_force = engine.in_force()
    staying = [one for one in in_force if one.origin.volatile or one.origin.protected]
    try:
        outcome["verdicts"] = verdicts(engine, in_force, (*now, *staying))
    except (LimitExceeded, Refused) as error:
        outcome["warnings"].append(f"what is decided differently is not said: {error.message}")


def verdicts(engine: Engine, before: Iterable[InForce], now: Iterable[InForce]) -> dict[str, Any]:
    """What filters decide differently on this host from those `before`, as type ``Verdicts``.

    Raises ``LimitExceeded`` where that would take minutes.
    """
    surroundings = _surroundings(engine)
    old, new = (resolved(filters, engine.inventory) for filters in (before, now))
    return changes_to_json(changes(old, new, surroundings), surroundings)


def _surroundings(engine: Engine) -> Surroundings:
    config, host_state = engine.config, read_host()
    return Surroundings(
        replace(host_state.host, lists=engine.lists),
        config.exemptions,
        host_state.types,
        config.unparsable is Unparsable.DROP,
    )


def _lint(engine: Engine, _: Request) -> dict[str, Any]:
    require_known_state(engine)
    surroundings = _surroundings(engine)
    filters = engine.in_force()
    stored = (each.policy.facts.by_name for each in engine.loaded.policies.values())
    members = [member for rules in stored for rule in rules for member in rule.filters]
    members += [one.filter for one in filters]
    named = frozenset[str]().union(*map(lists_in, members))
    return {
        "findings": findings_to_json(lint(filters, surroundings), surroundings),
        "unused_lists": sorted(engine.lists.keys() - named),
    }


METHODS = (Method("GetFindings", Role.VIEW, Work.LONG, _lint),)
