"""Owns the methods about DNS names: which are in force, by which addresses, and in which rules.

Who looks them up speaks with the service, which alone knows what is to be looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.engine import Engine
from ipsecd.language.resolved import addresses_of
from ipsecd.model.addresses import HostName
from ipsecd.model.host_names import host_names_in
from ipsecd.model.values import Filter, Origin


def _list_names(engine: Engine, _: Request) -> dict[str, Any]:
    """List the names. A name has an entry for each time it was looked up: addresses may differ."""
    unresolved = engine.state.unresolved
    origins_by_name: dict[tuple[HostName, float | None], dict[Origin, None]] = {}
    for origin, filters, looked_up in _rules(engine):
        for name in host_names_in(filters):
            at = looked_up or engine.state.looked_up.get(name.name)
            origins_by_name.setdefault((name, at), {})[origin] = None
    names = [
        {
            "name": name.name,
            "addresses": addresses_of(name),
            "looked_up": at,
            "resolved": name.name not in unresolved,
            "rules": [
                {"store": origin.store, "policy": origin.policy, "rule": origin.rule}
                for origin in origins
            ],
        }
        for (name, at), origins in origins_by_name.items()
    ]
    return {"names": sorted(names, key=lambda entry: (entry["name"], entry["addresses"]))}


def _rules(engine: Engine) -> Iterator[tuple[Origin, tuple[Filter, ...], float | None]]:
    """The rules in force, and when their names were looked up, where they say it themselves."""
    policy, store = engine.policy, engine.state.compiled.store.value
    if policy and not engine.stopped:
        for rule in policy.rules:
            yield Origin(store, policy.name, rule.name), rule.filters, None
    for dynamic_rule in engine.dynamic:
        looked_up = dynamic_rule.looked_up or dynamic_rule.created
        yield dynamic_rule.origin, dynamic_rule.filters, looked_up


def _await_names(_: Engine, __: Request) -> dict[str, Any]:
    return {"number": 0, "names": []}


def _answer_names(_: Engine, __: Request) -> dict[str, Any]:
    return {}


METHODS = (
    Method("ListNames", Role.VIEW, Work.LONG, _list_names),
    Method("AwaitNames", Role.FETCH, Work.QUICK, _await_names, for_fetcher=True),
    Method("AnswerNames", Role.FETCH, Work.QUICK, _answer_names, for_fetcher=True),
)
