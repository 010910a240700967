"""Owns the export as one JSON document, as docs/export.schema.json describes it.

Members may be added with later versions, and none is taken away while ``version`` is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ipsecctl.client import Client
from ipsecctl.exporting.command_lines import of_dynamic
from ipsecctl.exporting.gathered import Exported, Stored, dynamic_rules, stored_policies, written
from ipsecd.language.addresses import format_value
from ipsecd.language.documents import rule_keys
from ipsecd.language.expectations import format_expectation
from ipsecd.model.addresses import Address, HostName, Keyword, ListName, Network, Process, Selector
from ipsecd.model.values import Action, Endpoint, Filter, IcmpOfFamily, Policy, Rule

VERSION = 1


def export(client: Client, names: Sequence[str]) -> Exported:
    """Policies by name; or without any all that are stored, with dynamic rules and lists."""
    status = client.call("Status")["status"]
    told = client.call("ListPolicies")["policies"]
    wanted = names or [each["name"] for each in told if each["error"] is None]
    stored = stored_policies(client, wanted) if wanted else []
    document: dict[str, Any] = {
        "format": "ipsecd-export",
        "version": VERSION,
        "ipsecd": status["version"],
        "in_force": status["assigned"] if status["state"] != "stopped" else None,
        "policies": [_policy(each) for each in stored],
    }
    if not names:
        document["unusable"] = [
            {"name": each["name"], "path": each["path"], "error": each["error"]}
            for each in told
            if each["error"] is not None
        ]
        document["dynamic"] = [_dynamic(rule) for rule in dynamic_rules(client)]
        document["lists"] = [_list(each) for each in client.call("ListLists")["lists"]]
    # As everywhere, in ASCII: JSON may hold this one letter as it is, and a terminal may not.
    return Exported(json.dumps(document, indent=2).replace("\x7f", "\\u007f") + "\n")


def policy_document(policy: Policy) -> dict[str, Any]:
    """A policy as ``ipsecctl apply`` takes it, which reads JSON as it reads YAML."""
    document: dict[str, Any] = {"policy": policy.name}
    if policy.description:
        document["description"] = policy.description
    if policy.audit:
        document["audit"] = True
    document["rules"] = [
        _rule_document(rule, rests=rests) for rule, rests in policy.written_rules()
    ]
    if policy.expect:
        document["expect"] = [
            {
                "packet": expected.text,
                "verdict": expected.action.value,
                "reason": expected.reason,
            }
            if expected.reason
            else format_expectation(expected)
            for expected in policy.expect
        ]
    return document


def _rule_document(rule: Rule, *, rests: bool) -> dict[str, Any]:
    keys: dict[str, Any] = {k: v for k, v in rule_keys(rule, rests=rests).items() if v}
    if rests:
        keys["enabled"] = False
    head = {"rule": rule.name, "action": rule.action.value}
    return {**head, **keys, "filters": [written(flt) for flt in rule.filters]}


def _policy(each: Stored) -> dict[str, Any]:
    policy = each.policy
    return {
        "name": policy.name,
        "store": each.store.value,
        "assigned": each.assigned,
        "document": policy_document(policy),
        "rules": [
            {**_rule(rule, policy.action_of(rule)), "enabled": not rests}
            for rule, rests in policy.written_rules()
        ],
    }


def _rule(rule: Rule, action: Action) -> dict[str, Any]:
    return {
        "name": rule.name,
        "action": action.value,
        "interface": rule.conditions.interface_text,
        "when": rule.conditions.when,
        "filters": [_filter(flt) for flt in rule.filters],
    }


def _dynamic(told: Mapping[str, Any]) -> dict[str, Any]:
    rule = of_dynamic(told)
    names = {each["name"]: each["addresses"] for each in told.get("names") or ()}
    return {
        **_rule(rule, rule.action),
        "remaining_s": told["remaining_s"],
        "by": told["by"],
        "created": told["created"],
        "addresses": names,
    }


def _list(told: Mapping[str, Any]) -> dict[str, Any]:
    """A list without its entries, which ``ipsecctl backup`` has."""
    members: Iterable[str] = ("name", "entries", "ipv4", "ipv6", "domain")
    return {member: told[member] for member in members}


def _filter(flt: Filter) -> dict[str, Any]:
    protocol = flt.protocol
    message = flt.message
    return {
        "text": written(flt),
        "source": _endpoint(flt.source),
        "destination": _endpoint(flt.destination),
        "protocol": protocol.value if isinstance(protocol, IcmpOfFamily) else protocol,
        "mirrored": flt.mirrored,
        "icmp": message
        and {"ipv4_type": message.ipv4, "ipv6_type": message.ipv6, "code": message.code},
        "families": sorted(family.value for family in flt.families),
    }


def _endpoint(end: Endpoint) -> dict[str, Any]:
    return {
        "address": _address(end.address),
        "ports": [[ports.first, ports.last] for ports in end.ports],
    }


def _address(address: Address) -> dict[str, Any]:
    """An address by its kind, and whatever tells it apart from others of this kind."""
    if isinstance(address, Network):
        value = format_value(address.family, address.address)
        return {"kind": "network", "address": value, "length": address.length}
    if isinstance(address, HostName):
        return {"kind": "dns", "name": address.name}
    if isinstance(address, ListName):
        return {"kind": "list", "name": address.name}
    if isinstance(address, Selector):
        named = {"name": address.name, "network": address.network or None}
        return {"kind": address.kind.value, **named}
    if isinstance(address, Process):
        return {"kind": address.kind, "name": address.name}
    return {"kind": "me" if address is Keyword.ME else "any"}
