"""Owns the export as lines of ``netsh ipsec``; must not ask the daemon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from ipsecctl.exporting.command_lines import (
    command,
    notes_on,
    of_dynamic,
    remark,
    script,
    why_no_filter,
    why_no_rule,
)
from ipsecctl.exporting.gathered import Exported, LeftOut, Stored, written
from ipsecd.language.addresses import format_value
from ipsecd.model.addresses import Address, Family, HostName, Keyword, Network
from ipsecd.model.values import (
    ICMP,
    TCP,
    UDP,
    Action,
    Filter,
    IcmpOfFamily,
    Policy,
    PortRange,
    Rule,
)

_ACTIONS = {Action.BLOCK: "Block", Action.PERMIT: "Permit"}
"""The names of the filter actions for rules that have none of their own."""
_POLICY_OF_KEYS = "none"
"""A name that ``dynamic add rule`` asks for, of a policy for keys that nothing here uses."""
_PROTOCOLS: dict[int | IcmpOfFamily | None, str] = {
    None: "ANY",
    TCP: "TCP",
    UDP: "UDP",
    ICMP: "ICMP",
}
_TAKEN_FOR_OTHERS = {0: "any protocol", 1: "ICMP of both IP versions"}
"""Numbers of protocols that mean something else to netsh."""


def export(
    stored: Sequence[Stored],
    dynamic: Sequence[Mapping[str, Any]],
    left_out: Sequence[LeftOut] = (),
) -> Exported:
    """A script that makes policies, and dynamic rules, where there is nothing of these names."""
    exported = Exported("", [*left_out])
    shared = _Shared()
    lines: list[str] = []
    for each in stored:
        lines += [
            "",
            remark(f"Policy {each.policy.name!r}"),
            *notes_on(each.policy, "expectations"),
        ]
        lines += _policy(each, shared, exported.left_out)
    if dynamic:
        lines += ["", remark("Dynamic rules, which last until the agent is stopped")]
        made = [line for told in dynamic for line in _dynamic_rule(told, exported.left_out)]
        if made:
            words = ("netsh", "ipsec", "dynamic", "add", "mmpolicy", f"name={_POLICY_OF_KEYS}")
            lines += [command(words), *made]
    exported.text = script("What ipsecd has, for netsh.", lines, exported.left_out)
    return exported


class _Shared:
    """The filter lists and filter actions that the script has made, by their names."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], object] = {}

    def name(self, kind: str, wanted: str, content: object) -> tuple[str, bool]:
        """A name like the `wanted` for what has this content, and whether it is new."""
        number, name = 1, wanted
        while self._made.get((kind, name), content) != content:
            number += 1
            name = f"{wanted} ({number})"
        is_new = (kind, name) not in self._made
        self._made[kind, name] = content
        return name, is_new


def _policy(each: Stored, shared: _Shared, left_out: list[LeftOut]) -> Iterator[str]:
    policy = each.policy
    yield _static("add", "policy", name=policy.name, **_described(policy.description))
    for rule, rests in policy.written_rules():
        action = policy.action_of(rule)
        place = f"policy {policy.name!r}, rule {rule.name!r}"
        filters = list(_filters(rule, action, place, left_out))
        if not filters and (rule.filters or why_no_rule(rule, action)):
            continue
        wanted = rule.filter_action or _ACTIONS[action]
        filter_action, is_new = shared.name("filteraction", wanted, action)
        if is_new:
            yield _static("add", "filteraction", name=filter_action, action=action.value)
        wanted = rule.filter_list or f"{policy.name}: {rule.name}"
        filter_list, is_new = shared.name("filterlist", wanted, filters)
        if is_new:
            yield _static("add", "filterlist", name=filter_list)
            for tags in filters:
                yield _static("add", "filter", filterlist=filter_list, **tags)
        tags = {"name": rule.name, "policy": policy.name, "filterlist": filter_list}
        tags |= {"filteraction": filter_action, **_conntype(rule)}
        tags |= {"activate": "no"} if rests else {}
        yield _static("add", "rule", **tags, **_described(rule.description))
    if each.assigned:
        # Last, so that permits are there before the blocks that they are for.
        yield _static("set", "policy", name=policy.name, assign="y")


def _dynamic_rule(told: Mapping[str, Any], left_out: list[LeftOut]) -> Iterator[str]:
    rule = of_dynamic(told)
    name = f"dynamic rule {rule.name!r}"
    if told["remaining_s"] is not None:
        left_out.append(LeftOut(name, "all of it", "the command cannot end it after a time"))
        return
    for tags in _filters(rule, rule.action, name, left_out):
        words = {
            **tags,
            "mmpolicy": _POLICY_OF_KEYS,
            **_conntype(rule),
            "actioninbound": rule.action.value,
            "actionoutbound": rule.action.value,
        }
        tagged = (f"{tag}={value}" for tag, value in words.items())
        yield command(("netsh", "ipsec", "dynamic", "add", "rule", *tagged))


def _filters(
    rule: Rule, action: Action, name: str, left_out: list[LeftOut]
) -> Iterator[dict[str, str]]:
    """The tags of each filter of a rule that has words."""
    if why := why_no_rule(rule, action):
        left_out.append(LeftOut(name, "all of it", why))
        return
    for flt in rule.filters:
        if why := why_no_filter(flt) or _why_not(flt):
            left_out.append(LeftOut(name, written(flt), why))
        else:
            yield from _tags(flt)


def _why_not(flt: Filter) -> str:
    """Why netsh has no words for a filter that other dialects may have; "" if it has."""
    if any(ports.width > 1 for ports in (*flt.source.ports, *flt.destination.ports)):
        return "the command has single ports, and no ranges of them"
    if flt.message is not None:
        return "the command has no types of ICMP"
    if flt.has_ports and flt.protocol not in (None, TCP, UDP):
        return "the command has ports of TCP and UDP only"
    if isinstance(flt.protocol, int) and flt.protocol in _TAKEN_FOR_OTHERS:
        return f"the command takes protocol {flt.protocol} for {_TAKEN_FOR_OTHERS[flt.protocol]}"
    for end in (flt.source, flt.destination):
        if isinstance(end.address, Network) and end.address.length == 0:
            return f"the command has no word for any address of IPv{end.address.family.value}"
        if isinstance(end.address, HostName) and end.address.name.lower() in _SERVERS:
            return f"the command takes {end.address.name} for servers of the host"
    return ""


_SERVERS = frozenset({"dns", "wins", "dhcp", "gateway", "localhost", "me", "any"})
"""What netsh takes for something else than a DNS name."""


def _tags(flt: Filter) -> Iterator[dict[str, str]]:
    """A filter as tags, once for each protocol and each pair of ports."""
    sources: Sequence[PortRange | None] = flt.source.ports or (None,)
    destinations: Sequence[PortRange | None] = flt.destination.ports or (None,)
    for protocol, source, destination in product(flt.protocols, sources, destinations):
        tags = {
            **_side("src", flt.source.address),
            **_side("dst", flt.destination.address),
            "protocol": _PROTOCOLS.get(protocol, str(protocol)),
            "mirrored": "yes" if flt.mirrored else "no",
        }
        if source:
            tags["srcport"] = str(source.first)
        if destination:
            tags["dstport"] = str(destination.first)
        yield tags


def _side(side: str, address: Address) -> dict[str, str]:
    if isinstance(address, Network):
        value = format_value(address.family, address.address)
        if address.length == address.family.bits:
            return {f"{side}addr": value}
        if address.family is Family.IPV6:
            return {f"{side}addr": f"{value}/{address.length}"}
        return {f"{side}addr": value, f"{side}mask": str(address.length)}
    if isinstance(address, HostName):
        return {f"{side}addr": address.name}
    return {f"{side}addr": "me" if address is Keyword.ME else "any"}


def _described(text: str) -> dict[str, str]:
    """The tag for a description; none if it holds line breaks or the like.

    A value of netsh has no blanks around it.
    """
    return {"description": text.strip()} if text.strip() and text.isprintable() else {}


def _has_plain_words(policy: Policy) -> bool:
    """Whether every description in a policy can stand in a command."""
    texts = (policy.description, *(rule.description for rule, _ in policy.written_rules()))
    return all(map(str.isprintable, texts))


def _conntype(rule: Rule) -> dict[str, str]:
    link = rule.conditions.interface_text
    return {"conntype": link} if link else {}


def _static(verb: str, what: str, **tags: str) -> str:
    tagged = (f"{tag}={value}" for tag, value in tags.items())
    return command(("netsh", "ipsec", "static", verb, what, *tagged))
