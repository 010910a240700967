"""Owns ``learn``: the permits that a policy needs for the packets that its rules noted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from typing import Any

from ipsecctl.client import Client
from ipsecctl.ends import past_of
from ipsecctl.failures import DONE, UsageError
from ipsecctl.noted import AUDIT, Noted, host_of, noted_by_daemon, noted_in_file
from ipsecctl.options import Options
from ipsecctl.presentation import paint, print_outcome
from ipsecd.errors import Refused
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.language.filters import format_filter
from ipsecd.language.layout import edited_text
from ipsecd.model.flows import Flow
from ipsecd.model.kinds import Action
from ipsecd.model.values import Policy, Rule
from ipsecd.output import complain, say, say_json
from ipsecd.proof.learned import Learned, LearnedRule, learn
from ipsecd.quoting import count, few, quote

_MOST_BITS = 32
_NS = 1_000_000_000
_COLOURS = {"+": "green", "-": "red"}


def run(client: Client, options: Options) -> int:
    """Say which permits a policy needs, or with ``--write`` store them."""
    name = options.argument()
    widen = _widen(options.value("--widen"))
    since_ns = _since_ns(options.value("--since"))
    file = client.call("GetPolicyFile", {"name": name})
    policy = parse_policy(file["text"], file["path"])
    host, types = host_of(client.call("ListInterfaces")["interfaces"])
    origin = options.value("--from") or AUDIT
    if origin == AUDIT:
        if options.has("--blocked"):
            raise UsageError("the daemon records only what audit rules noted", "give a file")
        noted = noted_by_daemon(client, policy.name)
    else:
        blocked = options.has("--blocked")
        noted = noted_in_file(origin, policy.name, host, types, blocked=blocked)
    packets = {one.flow: one.packets for one in noted.flows if one.last_ns >= since_ns}
    if not packets:
        raise _nothing(policy)
    learned = learn(policy, _rules(packets), packets, host, types=types, widen=widen)
    answer = _answer(learned, packets, noted, file["text"])
    if options.has("--write") and learned.rules:
        rules = [_rule(learned.policy, rule) for rule in learned.rules]
        asked = {"policy": policy.name, "rules": rules, "create": False, "assign": False}
        outcome = client.call("PutRules", {**asked, "dry_run": None})["outcome"]
        if options.has("--json"):
            say_json({**answer, "outcome": outcome})
        else:
            say(*_summary(learned, packets))
            print_outcome(outcome, as_json=False)
    elif options.has("--json"):
        say_json(answer)
    else:
        say(*_summary(learned, packets), *map(_coloured, answer["diff"]))
    _warn(learned, noted)
    return DONE


def _rules(flows: Iterable[Flow]) -> list[str]:
    return sorted({flow.rule for flow in flows})


def _nothing(policy: Policy) -> Refused:
    """There is nothing to learn from: no packet is no reason to permit nothing."""
    hint = "wait until its audits have seen traffic, or go further back with --since"
    if not any(policy.action_of(rule) is Action.AUDIT for rule in policy.rules):
        hint = "none of its rules is; 'ipsecctl policy assign NAME --audit' tries a policy"
    return Refused(
        f"no packet is known that a rule of policy {quote(policy.name)} noted, so there is "
        "nothing to learn from",
        f"only rules that are audits note packets: {hint}",
    )


def _widen(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:4]) <= _MOST_BITS):
        raise UsageError(f"{quote(text)} is no number of bits from 1 to {_MOST_BITS}")
    return int(text)


def _since_ns(text: str | None) -> int:
    return 0 if text is None else int(past_of(text, time.time()) * _NS)


def _rule(policy: Policy, learned: LearnedRule) -> dict[str, Any]:
    """The whole rule as it is to be, as the interface has it."""
    rule: Rule = next(rule for rule in policy.rules if rule.name == learned.name)
    return {
        "name": rule.name,
        "action": rule.action.value,
        "filters": [format_filter(one) for one in rule.filters],
        "interface": rule.conditions.interface_text,
        "when": rule.conditions.when,
    }


def _answer(learned: Learned, packets: dict[Flow, int], noted: Noted, text: str) -> dict[str, Any]:
    document = edited_text(text, learned.policy) or format_policy(learned.policy)
    return {
        "policy": learned.policy.name,
        "rules": [
            {
                "name": rule.name,
                "audit": rule.audit,
                "filters": [
                    {
                        "filter": format_filter(permit.filter),
                        "flows": len(permit.flows),
                        "packets": sum(packets[flow] for flow in permit.flows),
                    }
                    for permit in rule.permits
                ],
            }
            for rule in learned.rules
        ],
        "document": document,
        "diff": list(_difference(text, document)) if learned.rules else [],
        "settled": len(learned.settled),
        "refused": len(learned.refused),
        "overruled": list(learned.overruled),
        "proven": learned.is_proven,
        "unseen": noted.unseen,
    }


def _difference(before: str, now: str) -> Iterator[str]:
    lines = unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=2)
    return (line for number, line in enumerate(lines) if number > 1)


def _summary(learned: Learned, packets: dict[Flow, int]) -> Iterator[str]:
    if not learned.rules:
        yield "the policy needs no more permits for what was noted"
    for rule in learned.rules:
        yield f"rule {quote(rule.name)} permits what {quote(rule.audit)} noted:"
        for permit in rule.permits:
            number = sum(packets[flow] for flow in permit.flows)
            flows = count(len(permit.flows), "flow")
            yield f"  {format_filter(permit.filter)}  {count(number, 'packet')} of {flows}"


def _coloured(line: str) -> str:
    colour = _COLOURS.get(line[:1])
    return paint(line, colour) if colour else line


def _warn(learned: Learned, noted: Noted) -> None:
    """Say what cannot be known, and what was not proposed."""
    if noted.unseen:
        complain(
            f"warning: nothing is known of {count(noted.unseen, 'packet')} that were dropped or "
            "noted, and not told of: what only they needed is missing here"
        )
    if learned.refused:
        rules = few([quote(name) for name in _rules(learned.refused)], 3)
        complain(
            f"warning: {count(len(learned.refused), 'flow')} cannot be permitted by a filter that "
            f"is narrower than those of {rules}: take them out of there"
        )
    if learned.settled:
        complain(
            f"{count(len(learned.settled), 'flow')} of those that were noted are not decided by "
            "these rules any more, and ask for nothing"
        )
    if learned.overruled:
        rules = few([quote(name) for name in learned.overruled], 3)
        complain(
            f"warning: the permits let through packets that {rules} blocks: see 'ipsecctl diff' "
            "before this is stored"
        )
    if not learned.is_proven:
        complain(
            "warning: whether the permits let through what other rules block is not proven: the "
            "policy is too large for that"
        )
