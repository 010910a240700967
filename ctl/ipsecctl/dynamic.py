"""Owns the verbs that change dynamic rules; only the daemon knows how long one lives by default."""

from __future__ import annotations

import os
import time

from ipsecctl.batches import MOST_IN_A_CALL, descriptor_of, filters_in
from ipsecctl.client import Client
from ipsecctl.failures import DONE
from ipsecctl.options import Options, conditions_of, dry_run_of
from ipsecctl.presentation import paint_action, print_warnings, span
from ipsecd.output import say, say_json
from ipsecd.quoting import count, few, first_lines

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any


def block(client: Client, options: Options) -> int:
    """Add dynamic rules that block, or that only count what they would block."""
    return _add(client, options, "audit" if options.has("--audit") else "block")


def permit(client: Client, options: Options) -> int:
    """Add dynamic rules that permit."""
    return _add(client, options, "permit")


def unblock(client: Client, options: Options) -> int:
    """Remove dynamic rules by name, and filters of them by filter or by address."""
    parameters = {"selectors": options.arguments, **dry_run_of(options)}
    answer = client.call("RemoveDynamicRules", parameters)
    if options.has("--json"):
        say_json({"changed": bool(answer["removed"] or answer["reduced"]), **answer})
        return DONE
    _say_if_dry(options)
    removed, reduced = answer["removed"], answer["reduced"]
    parts = []
    if removed:
        names = few([*map(repr, removed)])
        parts.append(f"removed {count(len(removed), 'dynamic rule')}: {names}")
    if reduced:
        names = few([*map(repr, reduced)])
        what = "the other filters" if len(reduced) == 1 else "the others"
        filters = count(answer["filters"], "filter") if not removed else "filters"
        parts.append(f"removed {filters} of {names}, of which {what} stay in force")
    say("; ".join(parts))
    say(*first_lines([_still_line(entry) for entry in answer["still_blocked"]]))
    return DONE


def flush(client: Client, options: Options) -> int:
    """Remove every dynamic rule."""
    removed = client.call("FlushDynamic")["removed"]
    if options.has("--json"):
        say_json({"changed": removed > 0, "removed": removed})
    else:
        say(flushed_line(removed))
    return DONE


def rule_line(rule: dict[str, Any]) -> str:
    """A line that says what a dynamic rule does, for how long, on which links and by which name."""
    return f"{_what_line(rule, rule['filters'])} as {rule['name']!r}"


def flushed_line(removed: int) -> str:
    """A line that says how many dynamic rules were removed when all were."""
    if not removed:
        return "there was no dynamic rule; policies stay as they are"
    return f"removed {count(removed, 'dynamic rule')}, which were all; policies stay as they are"


def _what_line(rule: dict[str, Any], filters: list[str]) -> str:
    remaining_s = rule["remaining_s"]
    life = "until the daemon stops" if remaining_s is None else f"for {span(remaining_s)}"
    asked = f" on {rule['interface']} links" if rule["interface"] else ""
    # A daemon that is older does not answer it.
    asked += f" when {rule['when']}" if rule.get("when") else ""
    return f"{paint_action(rule['action'])} {few(filters)}{asked} · in force {life}"


def _add(client: Client, options: Options, action: str) -> int:
    filters = filters_in(options.arguments)
    lifetime = options.value("--for")
    ttl_s, until = None, None
    if lifetime is not None:
        from ipsecctl.ends import end_of

        ttl_s, until = end_of(lifetime, time.time())
    parameters: dict[str, Any] = {
        "action": action,
        "name": options.value("--name"),
        **({"until": until} if until is not None else {"ttl_s": ttl_s}),
        **conditions_of(options),
        **dry_run_of(options),
    }
    for existing in ("replace", "add"):
        if options.has(f"--{existing}"):
            parameters["existing"] = existing
    answer = _call(client, parameters, filters)
    if options.has("--json"):
        rules = answer["rules"]
        say_json({**(rules[0] if len(rules) == 1 else {}), **answer})
        return DONE
    _say_if_dry(options)
    _say_rules(answer)
    say(*first_lines([f"warning: {_outranked_line(each)}" for each in answer["outranked"]]))
    print_warnings(answer["warnings"])
    return DONE


def _call(client: Client, parameters: dict[str, Any], filters: list[str]) -> dict[str, Any]:
    if len(filters) <= MOST_IN_A_CALL:
        return client.call("AddDynamicRules", {**parameters, "filters": filters})
    descriptor = descriptor_of(filters)
    try:
        return client.call("AddDynamicRules", parameters, descriptor)
    finally:
        os.close(descriptor)


def _say_if_dry(options: Options) -> None:
    """Say that what follows is only what would be."""
    if options.has("--dry-run"):
        say("nothing is changed; it would come to this:")


def _say_rules(answer: dict[str, Any]) -> None:
    """Say what is in force now, and how much of it was before."""
    rules = answer["rules"]
    if len(rules) == 1:
        again = "" if answer["changed"] else ", as before"
        say(rule_line(rules[0]) + again)
        return
    filters = [text for rule in rules for text in rule["filters"]]
    names = [repr(rule["name"]) for rule in rules]
    shown = names if len(names) < 3 else [names[0], "…", names[-1]]
    same = len(rules) - answer["added"] - answer["renewed"]
    numbers = [
        f"{number:,} {what}"
        for number, what in (
            (answer["added"], "new"),
            (answer["renewed"], "renewed"),
            (same, "as before"),
        )
        if number
    ]
    # Those that were there before may have other ends only where nothing was asked to change.
    say(
        f"{_what_line(rules[0], filters)} as {count(len(rules), 'rule')} "
        f"({', '.join(numbers)}): {' '.join(shown)}"
    )


def _outranked_line(entry: dict[str, Any]) -> str:
    by = entry["by"]
    passes = "passes" if by["action"] == "permit" else "is blocked"
    return (
        f"{entry['packet']} still {passes}: {by['action']} {by['filter']} of "
        f"{_place(by)} outranks {entry['filter']}"
    )


def _still_line(entry: dict[str, Any]) -> str:
    return f"{entry['address']} is still blocked: {entry['by']['filter']} of {_place(entry['by'])}"


def _place(reference: dict[str, Any]) -> str:
    if reference["store"] == "configuration":
        return f"rule {reference['rule']!r} of the configuration"
    if reference["policy"]:
        return f"rule {reference['rule']!r} of policy {reference['policy']!r}"
    return f"dynamic rule {reference['rule']!r}"
