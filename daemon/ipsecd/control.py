"""Owns the methods of ``io.ipsecd.control``: a call's parameters to the engine, and replies.

One method each, named as in the interface description; the table at the end finds them.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from ipsecd import __version__
from ipsecd.absences import absences, filters_by_name, policy_filters
from ipsecd.backend.base import Count
from ipsecd.backend.examination import assess
from ipsecd.backend.nftables import cgroups
from ipsecd.config import BackendChoice
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, InvalidInput, NotFound, Refused
from ipsecd.host import read_host
from ipsecd.language.addresses import format_value, parse_address
from ipsecd.language.documents import diff_policies, format_policy, parse_policy
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.language.packets import format_packet, parse_packet, to_packet
from ipsecd.model.decide import Decision, decide
from ipsecd.model.inventory import MIN_ID
from ipsecd.model.packets import Packet
from ipsecd.model.values import (
    Action,
    Filter,
    InForce,
    InterfaceType,
    Network,
    Policy,
    Process,
    Rule,
)
from ipsecd.quoting import quote
from ipsecd.stores.dynamic import DynamicRule
from ipsecd.stores.names import names_in, names_of, with_addresses
from ipsecd.stores.static import KEEP

Parameters = dict[str, Any]
Names = Mapping[str, tuple[Network, ...]]

_IDS = uuid.UUID("6f1d4c1e-5d0b-4a8e-9d57-3b7b2c1a9e40")
"""The name space of policy ids: an id is the same on every host, for as long as the name is."""
SHOWN_FILTERS, SHOWN_LINES = 10, 40
"""How much of a changed policy is said in words; the whole of it goes to programs."""


class Control:
    """Answers calls with an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._read: tuple[bytes, str, Policy] | None = None
        self.start = engine.start
        self.stop_on_purpose = engine.stop_on_purpose
        self.close = engine.close
        self.next_expiry = engine.next_expiry
        self.expire = engine.expire
        self.watch_fd = engine.watch_fd
        self.watch = engine.watch
        self.ping = engine.ping
        self.follow_senders = engine.follow_senders
        self.set_container_engine = engine.set_container_engine
        self.container_engines = engine.config.container_engines

    def wants_containers(self) -> bool:
        """Whether container engines have to be followed."""
        return self._engine.selects_containers

    def call(
        self,
        method: str,
        parameters: Parameters,
        by: str,
        names: Names,
        document: bytes | None,
    ) -> dict[str, Any]:
        """Carry out one call and give its reply's parameters; raises ``IpsecdError``."""
        request = Request(parameters, by, names, self._policy(document, parameters))
        return _METHODS[method](self._engine, request)

    def assessments(self) -> list[dict[str, Any]]:
        """What speaks for and against each backend, tried out; for any thread, as it takes long."""
        return [
            {
                "name": one.name,
                "usable": one.usable,
                "reasons_for": list(one.reasons_for),
                "reasons_against": list(one.reasons_against),
                "untried": one.untried,
            }
            for one in assess(self._engine.bpffs, read_host().interfaces)
        ]

    def names_needed(
        self, method: str, parameters: Parameters, document: bytes | None
    ) -> frozenset[str]:
        """The DNS names that have to be looked up before `method` can be carried out."""
        if method == "AddDynamic":
            return names_in(map(parse_filter, parameters["filters"]))
        if method == "PutRules":
            texts = [text for rule in parameters["rules"] for text in rule["filters"]]
            return names_in(map(parse_filter, texts))
        if method == "ApplyPolicy":
            policy = self._policy(document, parameters)
            if document is not None and policy:
                self._read = (document, _source(parameters), policy)
            return names_of(policy) if policy else frozenset()
        loaded = self._engine.read_files()
        found: frozenset[str] = frozenset()
        for stored in loaded.policies.values():
            found |= names_of(stored.policy)
        return found if parameters["resolve"] else found - self._engine.names.keys()

    def _policy(self, document: bytes | None, parameters: Parameters) -> Policy | None:
        """The policy in the document of a call, which is read once for names and call."""
        read, self._read = self._read, None
        if document is None:
            return None
        source = _source(parameters)
        if read and read[0] is document and read[1] == source:
            return read[2]
        return parse_policy(document, source)


def _source(parameters: Parameters) -> str:
    return parameters.get("source") or "<document>"


class Request:
    """One call: its parameters, who makes it, resolved names and the policy of a document."""

    def __init__(
        self, parameters: Parameters, by: str, names: Names, policy: Policy | None
    ) -> None:
        self.by = by
        self.names = names
        self.policy = policy
        self._parameters = parameters

    def __getitem__(self, name: str) -> Any:
        return self._parameters.get(name)


# -- reading -------------------------------------------------------------------------------------


def _status(engine: Engine, _: Request) -> dict[str, Any]:
    seen = engine.observe()
    policy = engine.policy
    assigned = engine.loaded.assigned
    dynamic = list(engine.dynamic)
    failures = [*engine.failures, *engine.backend.failures]
    if engine.stopped:
        state = "stopped"
    elif engine.held:
        state = "failed"
    elif seen.drift:
        state = "drifted"
    elif failures:
        state = "failed"
    else:
        state = "enforcing" if policy or dynamic else "idle"
    status = {
        "version": __version__,
        "pid": os.getpid(),
        "since": engine.started,
        "state": state,
        "failures": failures,
        "file_warnings": list(engine.warnings),
        "backend": engine.backend.name,
        "features": list(engine.backend.probe()),
        "assigned": policy.name if policy and not engine.stopped else assigned,
        "policy_path": engine.path_of(assigned) if assigned else None,
        "loaded_from": engine.loaded_from,
        "wanted": "" if engine.stopped else engine.classifier.digest,
        "observed": seen.digest,
        "drift": list(seen.drift),
        "policy_rules": len(policy.rules) if policy and not engine.stopped else 0,
        "policy_filters": (
            sum(len(rule.filters) for rule in policy.rules) if policy and not engine.stopped else 0
        ),
        "dynamic_rules": len(dynamic),
        "dynamic_filters": sum(len(rule.filters) for rule in dynamic),
        "exemptions": _exemptions(engine),
        "unparsable": engine.config.unparsable.value,
        "container_engines": _container_engines(engine),
        "warnings": absences(engine, filters_by_name(engine)),
    }
    return {"status": status}


def _must_be_known(engine: Engine) -> None:
    """Raise ``Refused`` while an earlier daemon's rules are in force and cannot be named."""
    if engine.held:
        raise Refused(
            "what should be in force is not, and what the kernel holds in its place is not known "
            "here",
            "mend what ipsecctl status shows, then run: ipsecctl reload",
        )


def _list_filters(engine: Engine, _: Request) -> dict[str, Any]:
    _must_be_known(engine)
    remaining = {rule.name: _remaining(engine, rule) for rule in engine.dynamic}
    filters = [
        {
            "store": one.origin.store,
            "policy": one.origin.policy,
            "rule": one.origin.rule,
            "filter": format_filter(one.filter),
            "action": one.action.value,
            "interface": one.interface_type.value if one.interface_type else None,
            "remaining_s": remaining.get(one.origin.rule) if one.origin.volatile else None,
        }
        for one in engine.in_force()
    ]
    return {"filters": filters}


def _list_policies(engine: Engine, _: Request) -> dict[str, Any]:
    loaded = engine.loaded
    found = [
        {
            "name": name,
            "description": stored.policy.description,
            "path": engine.path_of(name),
            "assigned": name == loaded.assigned,
            "rules": len(stored.policy.rules),
            "filters": sum(len(rule.filters) for rule in stored.policy.rules),
            "error": None,
        }
        for name, stored in sorted(loaded.policies.items())
    ]
    found += [
        {
            "name": file.path.rpartition("/")[2],
            "description": "",
            "path": file.path,
            "assigned": file.path == loaded.assigned_path,
            "rules": 0,
            "filters": 0,
            "error": str(file.error),
        }
        for file in engine.broken
    ]
    return {"policies": found}


def _get_policy(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    return {
        "document": format_policy(engine.stored(name)),
        "path": engine.path_of(name),
        "assigned": name == engine.loaded.assigned,
        "id": str(uuid.uuid5(_IDS, name)),
    }


def _list_dynamic(engine: Engine, _: Request) -> dict[str, Any]:
    return {"rules": [_dynamic(engine, rule) for rule in engine.dynamic]}


def _list_interfaces(_engine: Engine, _: Request) -> dict[str, Any]:
    interfaces = [
        {
            "name": one.name,
            "index": one.index,
            "type": one.type.value if one.type else "loopback",
            "up": one.up,
            "addresses": list(one.addresses),
        }
        for one in read_host().interfaces
    ]
    return {"interfaces": interfaces}


def _container_engines(engine: Engine) -> list[dict[str, Any]]:
    return [
        {"socket": source, "state": state}
        for source, state in sorted(engine.container_engines.items())
    ]


def _list_containers(engine: Engine, _: Request) -> dict[str, Any]:
    engine.ask_for_containers()
    containers = [
        {
            "id": one.id[:MIN_ID],
            "name": one.name,
            "labels": [f"{key}={value}" for key, value in sorted(one.labels)],
            "networks": [
                {"name": name, "addresses": [_host_text(n) for n in found]}
                for name, found in sorted(one.networks.items())
            ],
        }
        for one in sorted(engine.inventory.containers, key=lambda one: one.name)
        if one.networks
    ]
    return {"containers": containers, "engines": _container_engines(engine)}


def _announce_container(engine: Engine, request: Request) -> dict[str, Any]:
    addresses = []
    for text in request["addresses"]:
        address = parse_address(f"[{text}]" if ":" in text else text)
        if not isinstance(address, Network) or address.length != address.family.bits:
            raise InvalidInput(
                f"{quote(text)} is not an address", "write it without a prefix length"
            )
        addresses.append(address)
    if not engine.announce(request["id"], tuple(addresses)):
        raise NotFound(
            f"no container engine has told of container {quote(request['id'][:MIN_ID])} yet",
            "try again in a moment",
        )
    return {}


def _host_text(network: Network) -> str:
    return format_value(network.family, network.address)


def _list_exemptions(engine: Engine, _: Request) -> dict[str, Any]:
    return {"exemptions": _exemptions(engine)}


def _examine(engine: Engine, _: Request) -> dict[str, Any]:
    setting = engine.config.backend
    why = (
        "the configuration names it"
        if setting is not BackendChoice.AUTO
        else "auto stands for it: it needs nothing that a host may lack, and no packet waits for it"
    )
    return {
        "examination": {
            "setting": setting.value,
            "backend": engine.backend.name,
            "why": why,
            "features": list(engine.backend.probe()),
            "troubles": _troubles(engine),
            "warnings": absences(engine, filters_by_name(engine)),
            "assessments": [],
        }
    }


def _troubles(engine: Engine) -> list[str]:
    """What is wrong with what is in force, in words."""
    if engine.stopped:
        return ["enforcement is stopped, so nothing is in force: ipsecctl net start policyagent"]
    drift = engine.observe().drift
    failures = (*engine.failures, *engine.backend.failures)
    return [*failures, *(f"the kernel does not hold what it should: {one}" for one in drift)]


def _stats(engine: Engine, _: Request) -> dict[str, Any]:
    if engine.stopped:
        return {"rules": [], "unparsable": 0}
    counts = engine.backend.counts()
    places = engine.backend.volatile_counts()
    rules = []
    for origin, action in dict.fromkeys((one.origin, one.action) for one in engine.in_force()):
        count = counts.get(origin, Count())
        for place in engine.volatile.rows(origin):
            count += places.get(place, Count())
        rules.append(
            {
                "store": origin.store,
                "policy": origin.policy,
                "rule": origin.rule,
                "action": action.value,
                "packets": count.packets,
                "bytes": count.bytes,
            }
        )
    return {"rules": rules, "unparsable": engine.backend.unparsable()}


def _explain(engine: Engine, request: Request) -> dict[str, Any]:
    _must_be_known(engine)
    state = read_host()
    filters = engine.in_force()
    text = parse_packet(request["packet"])
    packet = to_packet(text, state.host, state.types, engine.inventory.addresses)
    if text.sender:
        named = {one.filter.source.address for one in filters}
        senders = {p for p in named if isinstance(p, Process) and cgroups.holds(p, text.sender)}
        packet = replace(packet, processes=packet.processes | senders)
    exemptions = () if engine.stopped else engine.config.exemptions
    found = decide(filters, packet, state.host, exemptions)
    leaving = packet.leaving(state.host) if found.action is Action.PERMIT else None
    judged = (
        _judgement(decide(filters, leaving, state.host, exemptions), leaving) if leaving else None
    )
    return {"explanation": {**_judgement(found, packet), "leaving": judged}}


def _judgement(found: Decision, packet: Packet) -> dict[str, Any]:
    return {
        "decision": found.action.value,
        "reason": found.reason,
        "by": _reference(found.by) if found.by else None,
        "beaten": [_reference(one) for one in found.beaten],
        "packet": format_packet(packet),
    }


# -- dynamic rules -------------------------------------------------------------------------------


def _add_dynamic(engine: Engine, request: Request) -> dict[str, Any]:
    filters = _filters(request["filters"], request.names)
    ttl_s = request["ttl_s"]
    if ttl_s is not None and not 0.001 <= ttl_s <= 10 * 365 * 86400:
        raise InvalidInput(
            f"a time to live of {ttl_s:g} s is not between a millisecond and ten years",
            "leave it out for a rule that stays until it is removed",
        )
    rule = DynamicRule(
        request["name"] or engine.dynamic.free_name(),
        filters,
        _action(request["action"]),
        _interface(request["interface"]),
        inf if ttl_s is None else engine.now() + ttl_s,
        time.time(),
        request.by,
    )
    engine.add_dynamic(rule)
    return {"rule": _dynamic(engine, rule), "warnings": absences(engine, rule.filters)}


def _remove_dynamic(engine: Engine, request: Request) -> dict[str, Any]:
    found = engine.dynamic.find(request["selector"])
    if not found:
        raise NotFound(
            f"no dynamic rule is called {quote(request['selector'])} "
            "or has it as filter or address",
            "ipsecctl show dynamic lists those there are",
        )
    engine.remove_dynamic(found)
    return {"removed": [rule.name for rule in found]}


def _flush_dynamic(engine: Engine, _: Request) -> dict[str, Any]:
    return {"removed": engine.flush()}


# -- policies ------------------------------------------------------------------------------------


def _apply_policy(engine: Engine, request: Request) -> dict[str, Any]:
    policy = request.policy
    if policy is None:
        raise InvalidInput("there is no document", "pass one, or the file that holds it")
    known = engine.loaded.policies.get(policy.name)
    lines = diff_policies(known.policy if known else None, policy)
    assign = bool(request["assign"])
    changed = (
        bool(lines)
        or known is None
        or (assign and engine.loaded.assigned != policy.name)
        or not engine.is_on_disk(policy.name)
        or (engine.is_due and engine.loaded.assigned == policy.name)
    )
    short = diff_policies(known.policy if known else None, policy, most=SHOWN_FILTERS)
    summary = "\n".join(short[:SHOWN_LINES]) or "no rule changes"
    if len(short) > SHOWN_LINES:
        summary += f"\nand {len(short) - SHOWN_LINES:,} more lines"
    if request["dry_run"]:
        message = f"policy {policy.name!r} would be stored:\n{summary}"
        return _outcome(engine, message, changed=False, changes=lines)
    kept: tuple[str, ...] = ()
    if changed:
        assigned = policy.name if assign else KEEP
        kept = engine.change(put=[policy], assign=assigned, names=request.names, repair=True)
    replaced = "".join(f"\nthe file that could not be used is kept as {name!r}" for name in kept)
    message = f"policy {policy.name!r} is stored:\n{summary}{replaced}"
    return _outcome(engine, message, changed=changed, changes=lines, warns=True)


def _create_policy(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    if name in engine.loaded.policies:
        raise Refused(
            f"there is a policy {quote(name)} already", "choose another name, or add rules"
        )
    engine.change(put=[Policy(name, (), request["description"] or "")])
    return _outcome(engine, f"policy {name!r} is created")


def _delete_policy(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    if name not in engine.loaded.policies and request["missing_ok"]:
        return _outcome(engine, f"there is no policy {quote(name)}", changed=False)
    engine.stored(name)
    assigned = engine.loaded.assigned == name
    if assigned and not request["unassign"]:
        raise Refused(
            f"policy {name!r} is assigned", f"run first: ipsecctl policy unassign {name!r}"
        )
    if assigned:
        engine.change(delete=[name], assign=None)
    else:
        engine.change(delete=[name])
    return _outcome(engine, f"policy {name!r} is deleted")


def _assign_policy(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    engine.stored(name)
    if engine.loaded.assigned == name and not engine.is_due:
        return _outcome(engine, f"policy {name!r} is assigned already", changed=False)
    engine.change(assign=name)
    return _outcome(engine, f"policy {name!r} is assigned", warns=True)


def _unassign_policy(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    if name is not None:
        engine.stored(name)
    if engine.loaded.link is None or name not in (None, engine.loaded.assigned):
        what = f"policy {name!r} was not assigned" if name else "nothing was assigned"
        return _outcome(engine, what, changed=False)
    was = engine.loaded.assigned or engine.loaded.link
    engine.change(assign=None)
    return _outcome(engine, f"policy {was!r} is unassigned")


def _put_rules(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["policy"]
    known = engine.loaded.policies.get(name)
    if known is None and not request["create"]:
        engine.stored(name)
    policy = known.policy if known else Policy(name)
    for given in request["rules"]:
        # Names are resolved apart, and stored beside the policy: the document keeps the name.
        rule = Rule(
            given["name"],
            tuple(map(parse_filter, given["filters"])),
            _action(given["action"]),
            _interface(given.get("interface")),
        )
        policy = policy.with_rule(rule)
    engine.change(put=[policy], assign=name if request["assign"] else KEEP, names=request.names)
    rules = ", ".join(repr(rule["name"]) for rule in request["rules"])
    return _outcome(engine, f"rule {rules} is stored in policy {name!r}", warns=True)


def _remove_rules(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["policy"]
    policy = engine.stored(name)
    names = frozenset(request["rules"])
    missing = sorted(names - {rule.name for rule in policy.rules})
    if missing:
        raise NotFound(
            f"policy {name!r} has no rule {quote(missing[0])}",
            f"run: ipsecctl policy show {name!r}",
        )
    rest = policy.without_rules(names)
    if rest.rules or not request["delete_empty"]:
        engine.change(put=[rest])
        return _outcome(engine, f"{len(names)} rules are removed from policy {name!r}")
    if engine.loaded.assigned == name:
        engine.change(delete=[name], assign=None)
    else:
        engine.change(delete=[name])
    return _outcome(engine, f"policy {name!r} is deleted with all its rules")


def _reload(engine: Engine, request: Request) -> dict[str, Any]:
    changed, wrong = engine.reload(request.names)
    message = "the policy files are loaded" if changed else "nothing has changed"
    if wrong:
        message += "; these cannot be used:\n" + "\n".join(wrong)
    return _outcome(engine, message, changed=changed, warns=True)


def _stop(engine: Engine, _: Request) -> dict[str, Any]:
    changed = not engine.stopped
    engine.stop()
    return _outcome(engine, "enforcement is stopped; nothing is in force", changed=changed)


def _start(engine: Engine, _: Request) -> dict[str, Any]:
    if not engine.stopped and not engine.held:
        return _outcome(engine, "enforcement is running already", changed=False)
    engine.start()
    if engine.held:
        reason = engine.failures[0].partition("\n")[0]
        raise BackendFailed(
            f"enforcement is started, and what should be in force is not: {reason}",
            "mend what ipsecctl status shows, then run: ipsecctl reload",
        )
    return _outcome(engine, "enforcement is started", warns=True)


# -- parts of replies ----------------------------------------------------------------------------


def _outcome(
    engine: Engine,
    message: str,
    *,
    changed: bool = True,
    changes: Sequence[str] = (),
    warns: bool = False,
) -> dict[str, Any]:
    """What a change did; with `warns` also which filters of the policy match nothing by it."""
    outcome = {
        "changed": changed,
        "message": message,
        "changes": list(changes),
        "assigned": engine.loaded.assigned,
        "warnings": absences(engine, policy_filters(engine)) if warns else [],
    }
    return {"outcome": outcome}


def _reference(one: InForce) -> dict[str, str]:
    return {
        "store": one.origin.store,
        "policy": one.origin.policy,
        "rule": one.origin.rule,
        "filter": format_filter(one.filter),
        "action": one.action.value,
    }


def _dynamic(engine: Engine, rule: DynamicRule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "action": rule.action.value,
        "filters": [format_filter(one) for one in rule.filters],
        "interface": rule.interface_type.value if rule.interface_type else None,
        "remaining_s": _remaining(engine, rule),
        "by": rule.by,
        "created": rule.created,
    }


def _remaining(engine: Engine, rule: DynamicRule) -> float | None:
    return None if rule.deadline == inf else max(0.0, rule.deadline - engine.now())


def _exemptions(engine: Engine) -> list[dict[str, str]]:
    return [{"name": one.name, "reason": one.reason} for one in engine.config.exemptions]


def _filters(texts: list[str], names: Names) -> tuple[Filter, ...]:
    return tuple(with_addresses(parse_filter(text), names) for text in texts)


def _action(text: str) -> Action:
    try:
        return Action(text.lower())
    except ValueError:
        raise InvalidInput(f"{quote(text)} is not an action", "write block or permit") from None


def _interface(text: str | None) -> InterfaceType | None:
    try:
        return InterfaceType(text.lower()) if text else None
    except ValueError:
        raise InvalidInput(
            f"{quote(str(text))} is not an interface type", "write lan or dialup"
        ) from None


_METHODS: dict[str, Callable[[Engine, Request], dict[str, Any]]] = {
    "Status": _status,
    "ListFilters": _list_filters,
    "ListPolicies": _list_policies,
    "GetPolicy": _get_policy,
    "ListDynamic": _list_dynamic,
    "ListInterfaces": _list_interfaces,
    "ListExemptions": _list_exemptions,
    "ListContainers": _list_containers,
    "AnnounceContainer": _announce_container,
    "Examine": _examine,
    "Stats": _stats,
    "Explain": _explain,
    "AddDynamic": _add_dynamic,
    "RemoveDynamic": _remove_dynamic,
    "FlushDynamic": _flush_dynamic,
    "ApplyPolicy": _apply_policy,
    "CreatePolicy": _create_policy,
    "DeletePolicy": _delete_policy,
    "AssignPolicy": _assign_policy,
    "UnassignPolicy": _unassign_policy,
    "PutRules": _put_rules,
    "RemoveRules": _remove_rules,
    "Reload": _reload,
    "Stop": _stop,
    "Start": _start,
}
