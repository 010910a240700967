"""Owns what decides about packets at one moment, as named values, and how two moments differ.

It must not know where it is written. Lists and the policy's document are not among the values:
they may be long, and are kept apart. A key and its value:

- ``state``: whether what should be in force is, where it is from, the backend, and settings;
- ``policy``: the policy in force, by the digest of its document, and its DNS names' addresses;
- ``protected``, ``inventory``: the filters of the settings, and the containers;
- ``rule NAME``: a dynamic rule as its file has it, with its place ``n`` in the order of making;
- ``me ADDRESS``, ``shared ADDRESS``, ``link NAME``: an address of this host, one that others have
  too, and the type of an interface.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ipsecd.config import Config
from ipsecd.engine.state import State
from ipsecd.language.filters import format_filter
from ipsecd.model.addresses import Family
from ipsecd.model.host_names import host_names_in
from ipsecd.model.kinds import InterfaceType
from ipsecd.model.packets import Host
from ipsecd.model.values import Policy
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.dynamic_file import records_of
from ipsecd.sources.inventory_file import inventory_to_json
from ipsecd.sources.names_file import names_to_json
from ipsecd.sources.ring import Json

STATE, POLICY, PROTECTED, INVENTORY = "state", "policy", "protected", "inventory"
RULE, LIST, ME, SHARED, LINK = "rule ", "list ", "me ", "shared ", "link "


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of this host decides beside its rules: addresses, and the type of each interface."""

    host: Host = field(default_factory=Host)
    types: Mapping[str, InterfaceType | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that decides at one moment."""

    state: State
    surroundings: Surroundings
    backend: str
    config: Config

    @property
    def named_addresses(self) -> str:
        """The DNS names of the policy with the addresses that they have in it, as JSON."""
        return names_of(self.state.compiled.policy)


def names_of(policy: Policy | None) -> str:
    """The DNS names of a policy with the addresses that they have in it, as JSON."""
    if policy is None or not policy.facts.names:
        return "{}"
    filters = (each for rule in policy.rules for each in rule.filters)
    names = {name.name: name.addresses for name in host_names_in(filters) if name.addresses}
    return names_to_json(names).decode()


def all_values(now: Snapshot) -> Iterator[tuple[str, object]]:
    """Every key with its value, but for lists and the policy."""
    nothing = Snapshot(State(), Surroundings(), "", now.config)
    yield STATE, _state(now)
    yield PROTECTED, _protected(now)
    yield INVENTORY, inventory_to_json(now.state.inventory)
    yield from ((key, value) for key, value in _rules(nothing, now) if value is not None)
    yield from ((key, value) for key, value in _around(nothing, now) if value is not None)


def differences(before: Snapshot, now: Snapshot) -> Iterator[tuple[str, object | None]]:
    """The keys whose values differ, but for lists and the policy, with what they are now.

    None stands for a key that is gone.
    """
    was, is_ = before.state, now.state
    if (state := _state(now)) != _state(before):
        yield STATE, state
    if was.compiled is not is_.compiled and (protected := _protected(now)) != _protected(before):
        yield PROTECTED, protected
    if was.inventory is not is_.inventory and was.inventory != is_.inventory:
        yield INVENTORY, inventory_to_json(is_.inventory)
    yield from _rules(before, now)
    yield from _around(before, now)


def _state(now: Snapshot) -> Json:
    config = now.config
    return {
        "condition": now.state.condition.value,
        "source": now.state.source.value,
        "backend": now.backend,
        "essentials": list(config.essentials),
        "default_exempt": config.default_exempt,
    }


def _protected(now: Snapshot) -> list[str]:
    return [format_filter(each) for each in now.state.compiled.protected]


def _rules(before: Snapshot, now: Snapshot) -> Iterator[tuple[str, object | None]]:
    was, is_ = before.state.dynamic.by_name, now.state.dynamic.by_name
    if was is is_:
        return
    for name, _, there in was.differences(is_):
        yield RULE + name, None if there is None else _rule(*there)


def _rule(number: int, rule: DynamicRule) -> Json:
    record = records_of([rule], ())[RULE + rule.name]
    return {"n": number, "rule": record}


def _around(before: Snapshot, now: Snapshot) -> Iterator[tuple[str, object | None]]:
    was, is_ = before.surroundings, now.surroundings
    if was is is_:
        return
    pairs = (
        (ME, was.host.addresses, is_.host.addresses),
        (SHARED, was.host.broadcasts, is_.host.broadcasts),
    )
    for kind, old, new in pairs:
        yield from ((kind + text, None) for text in sorted(map(_address, old - new)))
        yield from ((kind + text, 1) for text in sorted(map(_address, new - old)))
    for name in sorted(was.types.keys() - is_.types.keys()):
        yield LINK + name, None
    for name, kind_of_link in sorted(is_.types.items()):
        if name not in was.types or was.types[name] is not kind_of_link:
            yield LINK + name, "loopback" if kind_of_link is None else kind_of_link.value


def _address(address: tuple[Family, int]) -> str:
    return f"{int(address[0])} {address[1]:x}"


def address_of(text: str) -> tuple[Family, int]:
    """The inverse of what stands behind ``me``; raises ``ValueError``."""
    family, _, digits = text.partition(" ")
    return Family(int(family)), int(digits, 16)


def type_of(value: object) -> InterfaceType | None:
    """The inverse of the value of a link; raises ``ValueError``."""
    return None if value == "loopback" else InterfaceType(value)
