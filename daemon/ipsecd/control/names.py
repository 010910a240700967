"""Owns the method about DNS names: which are in force, by which addresses, and in which rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.engine import Engine
from ipsecd.language.addresses import format_value
from ipsecd.model.addresses import HostName
from ipsecd.model.values import Filter, Origin


def _list_names(engine: Engine, _: Request) -> dict[str, Any]:
    """Those that were looked up at different times are listed apart: they may differ."""
    unresolved = engine.state.unresolved
    users: dict[tuple[HostName, float | None], dict[Origin, None]] = {}
    for origin, filters, looked_up in _rules(engine):
        for one in filters:
            for end in (one.source, one.destination):
                if isinstance(end.address, HostName):
                    at = looked_up or engine.state.looked_up.get(end.address.name)
                    users.setdefault((end.address, at), {})[origin] = None
    names = [
        {
            "name": name.name,
            "addresses": [format_value(one.family, one.address) for one in name.addresses],
            "looked_up": at,
            "resolved": name.name not in unresolved,
            "rules": [
                {"store": origin.store, "policy": origin.policy, "rule": origin.rule}
                for origin in origins
            ],
        }
        for (name, at), origins in users.items()
    ]
    return {"names": sorted(names, key=lambda one: (one["name"], one["addresses"]))}


def _rules(engine: Engine) -> Iterator[tuple[Origin, tuple[Filter, ...], float | None]]:
    """The rules in force, and when their names were looked up, where they say it themselves."""
    policy, store = engine.policy, engine.state.compiled.store.value
    if policy and not engine.stopped:
        for rule in policy.rules:
            yield Origin(store, policy.name, rule.name), rule.filters, None
    for one in engine.dynamic:
        yield one.origin, one.filters, one.looked_up or one.created


METHODS = (Method("ListNames", Role.VIEW, Work.LONG, _list_names),)
