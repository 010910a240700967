"""Owns what the old dialects have no words for, and how their lines stand in a script of sh."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ipsecctl.exporting.gathered import LeftOut
from ipsecd.language.addresses import format_address
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import ListName, Process, Selector
from ipsecd.model.kinds import LinkName
from ipsecd.model.values import Action, Conditions, Filter, Policy, Rule

MAX_LINE = 100_000
"""Bytes of a command; the kernel takes 128 KiB in one argument and 2 MiB in all."""
HEAD = (
    "#!/bin/sh",
    "# Ends at the first command that fails.",
    "set -e",
)


def command(words: Iterable[str]) -> str:
    """A command as a shell reads it."""
    return " ".join(map(shlex.quote, words))


def remark(text: str) -> str:
    """A comment in a script."""
    return f"# {text}"


def script(title: str, lines: Iterable[str], left_out: Iterable[LeftOut]) -> str:
    """A whole script, with what is not in it in comments."""
    notes = [remark(f"Left out: {each}") for each in left_out]
    return "\n".join([*HEAD, remark(title), *notes, *lines]) + "\n"


def of_dynamic(told: Mapping[str, Any]) -> Rule:
    """A dynamic rule, as the daemon tells it."""
    from ipsecd.language.conditions import parse_conditions

    return Rule(
        told["name"],
        tuple(map(parse_filter, told["filters"])),
        Action(told["action"]),
        parse_conditions(told["interface"], told.get("when")),
    )


def why_no_rule(rule: Rule, action: Action) -> str:
    """Why no old dialect has this rule at all; "" if it has."""
    if action is Action.AUDIT:
        return "an audit only counts, and the command knows block and permit"
    return _why_not_under(rule.conditions)


def _why_not_under(conditions: Conditions) -> str:
    if conditions.opening:
        return "the command does not ask whether a packet opens a connection"
    if isinstance(conditions.interface, LinkName):
        return f"the command knows types of interfaces, and not {conditions.interface.pattern!r}"
    return ""


def why_no_filter(flt: Filter) -> str:
    """Why no old dialect has this filter; "" if it has."""
    for end in (flt.source, flt.destination):
        if isinstance(end.address, ListName | Selector | Process):
            return f"the command knows addresses and DNS names, and not {_name(end.address)}"
    return ""


def _name(address: ListName | Selector | Process) -> str:
    return str(address) if isinstance(address, Process) else format_address(address)


def notes_on(policy: Policy, *unsaid: str) -> list[str]:
    """What of a policy decides nothing and is not in a script, if it has any of the `unsaid`."""
    has = {
        "description": policy.description or any(rule.description for rule in policy.rules),
        "expectations": policy.expect,
    }
    lost = [name for name in unsaid if has[name]]
    return [remark(f"Without its {' and '.join(lost)}.")] if lost else []
