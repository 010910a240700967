"""Owns the verbs about the history: what changed, the policies at another time, and going back.

``@0`` are the policies now, ``@1`` those before the last change of policies, and so on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ipsecctl.client import Client
from ipsecctl.dry_runs import dry_or_live
from ipsecctl.failures import DONE, UsageError
from ipsecctl.options import Options
from ipsecctl.presentation import paint, print_outcome
from ipsecd.output import say, say_json, say_text
from ipsecd.quoting import count, few, quote

SIGN = "@"


def run(client: Client, options: Options) -> int:
    """Print the changes that were made, the newest first."""
    rows = client.call("GetHistory")["rows"]
    if options.has("--json"):
        say_json(rows)
    elif rows:
        for row in rows:
            _say_row(row)
    else:
        say("nothing has changed yet")
    return DONE


def show_state(client: Client, options: Options) -> int:
    """Print the policies as they were at another time."""
    state = state_of(options.argument())
    reply = client.call("GetState", {"state": state})
    if options.has("--json"):
        say_json({"state": state, **reply})
        return DONE
    if not reply["policies"]:
        say(f"# no policy is stored at {SIGN}{state}")
    for policy in reply["policies"]:
        is_assigned = "assigned" if policy["assigned"] else "not assigned"
        say(f"# {is_assigned} at {SIGN}{state}, stored in {policy['path']}")
        say_text(policy["document"])
    if reply["domain"] is not None:
        say(f"# policy {quote(reply['domain'])} of the domain is in force in their place")
    return DONE


class Times(NamedTuple):
    """Two times whose policies are compared, and what the daemon has of each."""

    first: int
    second: int
    old: dict[str, Any]
    new: dict[str, Any]


def times_of(client: Client, options: Options) -> Times:
    """The times that the arguments name, and the policies of then; with one, the other is now."""
    states = [state_of(text) for text in options.arguments]
    first, second = states if len(states) == 2 else (states[0], 0)
    old, new = (client.call("GetState", {"state": state}) for state in (first, second))
    return Times(first, second, old, new)


def rollback(client: Client, options: Options) -> int:
    """Have the policies be again what they were."""
    state = state_of(options.arguments[0]) if options.arguments else 1
    parameters = {"state": state, **dry_or_live(client, options)}
    outcome = client.call("Rollback", parameters)["outcome"]
    print_outcome(outcome, as_json=options.has("--json"))
    if outcome["changes"] and not options.has("--json"):
        say_text("\n".join(outcome["changes"]))
    return DONE


def names_states(arguments: list[str]) -> bool:
    """Whether arguments name policies at other times, and no files."""
    named = [_is_state(text) for text in arguments]
    if any(named) and not all(named):
        raise UsageError(
            "a file cannot be compared with an earlier state",
            f"write the state to a file, with: ipsecctl show {arguments[named.index(True)]}",
        )
    return all(named)


def _is_state(text: str) -> bool:
    return text.startswith(SIGN) and text[1:].isascii() and text[1:].isdecimal()


def state_of(text: str) -> int:
    """The number of the state that ``@N`` or ``N`` names; raises ``UsageError``."""
    number = text.removeprefix(SIGN)
    if not (number.isascii() and number.isdecimal() and len(number) < 7):
        raise UsageError(
            f"{quote(text)} is no state", "write @1 for the policies before the last change"
        )
    return int(number)


def _say_row(row: dict[str, Any]) -> None:
    state = "" if row["state"] is None else f"{SIGN}{row['state']}"
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["at"]))
    message = f" · {row['message']}" if row["message"] else ""
    say(f"{paint(state.rjust(4), 'bold')}  {at}  {author_of(row)}  {source_of(row)}{message}")
    for line in what_of(row):
        say(f"      {line}")


def author_of(row: Mapping[str, Any]) -> str:
    """Who made a change: the user, and who had logged in, if that is another."""
    if not row["pid"]:
        return "ipsecd"
    who = row["user"] or f"uid {row['uid']}"
    if row["login_uid"] not in (None, row["uid"]):
        who += f" (login {row['login_user'] or row['login_uid']})"
    elif row["sudo_user"] not in ("", row["user"]):
        who += f" (sudo by {row['sudo_user']})"
    return who


def source_of(row: Mapping[str, Any]) -> str:
    """How a change was made: by a method, and by which command if that is known."""
    source: str = row["source"]
    if source != "command":
        return source
    return f"{row['method']} by {row['command']}" if row["command"] else str(row["method"])


def what_of(row: Mapping[str, Any]) -> list[str]:
    """What a change was, a line each."""
    lines = list(row["what"])
    if row["kind"] == "rules":
        counts = [
            f"{count(row[key], 'rule')} {word}"
            for key, word in (("put", "put"), ("removed", "removed"))
            if row[key]
        ]
        changes = f" in {count(row['changes'], 'change')}" if row["changes"] > 1 else ""
        return [f"{', '.join(counts) or 'rules'}{changes}: {few(lines, 4)}"] if lines else counts
    lines += [
        f"list {quote(each['name'])}: {each['before']:,} → {count(each['after'], 'entry')}"
        for each in row["lists"]
    ]
    return lines


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What is different in the policies of two times, a line each."""
    from ipsecd.language.differences import diff_policies
    from ipsecd.language.documents import parse_policy

    before, after = (
        {policy["name"]: policy["document"] for policy in state["policies"]} for state in (old, new)
    )
    lines: list[str] = []
    for name in sorted(before.keys() | after.keys()):
        texts = before.get(name), after.get(name)
        if texts[0] == texts[1]:
            continue
        policies = [parse_policy(text.encode()) if text is not None else None for text in texts]
        rules = diff_policies(policies[0], policies[1])
        lines.append(f"policy {quote(name)}:")
        lines += rules or _text_changes(str(texts[0]), str(texts[1]))
    lines += [
        f"~ {what}: {_name(old[key])} → {_name(new[key])}"
        for key, what in (("assigned", "assigned"), ("domain", "policy of the domain"))
        if old[key] != new[key]
    ]
    return lines


def _text_changes(old: str, new: str) -> list[str]:
    """The lines that differ, where the rules are the same."""
    from difflib import unified_diff

    lines = list(unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0))
    return [line for line in lines[2:] if not line.startswith("@@")]


def _name(name: str | None) -> str:
    return "none" if name is None else quote(name)
