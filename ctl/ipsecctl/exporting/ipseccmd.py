"""Owns the export as lines of ``ipseccmd``; must not ask the daemon.

Every line is read by the dialect's own reader before it is written: what that would not take for
the same rule is left out, and said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ipsecctl.exporting.command_lines import (
    MAX_LINE,
    command,
    notes_on,
    of_dynamic,
    remark,
    script,
    why_no_filter,
    why_no_rule,
)
from ipsecctl.exporting.gathered import Exported, LeftOut, Stored, written
from ipsecctl.failures import UsageError
from ipsecctl.legacy_switches import Switches, parse_switches
from ipsecd.errors import InvalidInput, Refused
from ipsecd.model.addresses import Family
from ipsecd.model.values import Action, Filter, Rule

_WORDS = {Action.BLOCK: "BLOCK", Action.PERMIT: "PASS"}


def export(
    stored: Sequence[Stored],
    dynamic: Sequence[Mapping[str, Any]],
    left_out: Sequence[LeftOut] = (),
) -> Exported:
    """A script that makes policies, and dynamic rules, where there are none of these names."""
    exported = Exported("", [*left_out])
    lines: list[str] = []
    for each in stored:
        lines += [
            "",
            remark(f"Policy {each.policy.name!r}"),
            *notes_on(each.policy, "description", "expectations"),
        ]
        lines += _policy(each, exported.left_out)
    if dynamic:
        lines += ["", remark("Dynamic rules, which last until the agent is stopped")]
    for told in dynamic:
        rule = of_dynamic(told)
        place = f"dynamic rule {rule.name!r}"
        if told["remaining_s"] is not None:
            why = "the command cannot end it after a time"
            exported.left_out.append(LeftOut(place, "all of it", why))
        else:
            lines += _rule([], rule, rule.action, place, exported.left_out)
    title = "What ipsecd has, for ipseccmd. Run again, it changes nothing."
    exported.text = script(title, lines, exported.left_out)
    return exported


def _policy(each: Stored, left_out: list[LeftOut]) -> Iterator[str]:
    policy = each.policy
    place = ["-w", "REG", "-p", _policy_word(policy.name)]
    if (why := _why_not(place, policy=policy.name)) or not policy.rules:
        if why:
            left_out.append(LeftOut(f"policy {policy.name!r}", "all of it", why))
            return
        yield command(["ipseccmd", *place])
    for rule in policy.rules:
        name = f"policy {policy.name!r}, rule {rule.name!r}"
        words = [*place, "-r", rule.name]
        if why := _why_not([*words, "-o"], policy=policy.name, rules=(rule.name,)):
            left_out.append(LeftOut(name, "all of it", why))
            continue
        yield from _rule(words, rule, policy.action_of(rule), name, left_out)
    for rule in policy.resting:
        why = "the command cannot switch a rule off"
        left_out.append(LeftOut(f"policy {policy.name!r}, rule {rule.name!r}", "all of it", why))
    if each.assigned:
        # Last, so that permits are there before the blocks that they are for.
        yield command(["ipseccmd", *place, "-x"])


def _rule(
    place: Sequence[str], rule: Rule, action: Action, name: str, left_out: list[LeftOut]
) -> Iterator[str]:
    """The command that makes a rule; nothing if there is none."""
    if why := why_no_rule(rule, action):
        left_out.append(LeftOut(name, "all of it", why))
        return
    filters = []
    for flt in rule.filters:
        if why := why_no_filter(flt):
            left_out.append(LeftOut(name, written(flt), why))
        else:
            filters.append(flt)
    texts = tuple((written(flt), action.value) for flt in filters)
    link = rule.conditions.interface_text
    words = [*place, "-f", *(text for text, _ in texts), "-n", _WORDS[action]]
    words += [f"-{link}"] if link else []
    line = command(["ipseccmd", *words])
    if not filters:
        return
    if len(line.encode()) > MAX_LINE:
        left_out.append(LeftOut(name, "all of it", "its filters are too long for one command"))
    elif why := _why_not(words, filters=texts, interface=link):
        left_out.append(LeftOut(name, "all of it", why))
    else:
        if own := sorted({word for flt in filters for word in _only_ours(flt)}):
            yield remark(f"Only for ipsecd, and not for Windows: {', '.join(own)}")
        yield line


def _policy_word(name: str) -> str:
    """The name as the value of ``-p``, which takes digits behind a colon for an interval."""
    digits = name.rpartition(":")[2]
    return f"{name}:0" if ":" in name and digits.isascii() and digits.isdecimal() else name


def _why_not(words: Sequence[str], **meant: object) -> str:
    """Why the dialect would not take the words for what is meant; "" if it does."""
    try:
        read: Switches = parse_switches([*words])
    except (InvalidInput, Refused, UsageError) as error:
        return f"the command would refuse it: {error.message}"
    wrong = [name for name, value in meant.items() if getattr(read, name) != value]
    return f"the command would read it as another {wrong[0]}" if wrong else ""


def _only_ours(flt: Filter) -> Iterator[str]:
    """What of a filter the commands of Windows did not have."""
    ports = (*flt.source.ports, *flt.destination.ports)
    if len(flt.source.ports) > 1 or len(flt.destination.ports) > 1:
        yield "lists of ports"
    if any(each.width > 1 for each in ports):
        yield "ranges of ports"
    if flt.message is not None:
        yield "messages of ICMP"
    if flt.families == {Family.IPV6}:
        yield "IPv6"
