"""Owns ``diff``: how policies differ, in their rules and in what they decide."""

from __future__ import annotations

import os
from typing import Any

from ipsecctl.client import Client
from ipsecctl.dry_runs import cuts_between
from ipsecctl.failures import UsageError, describe, fields
from ipsecctl.files import read_bytes
from ipsecctl.history import SIGN, differences, names_states, times_of
from ipsecctl.offline_proofs import given
from ipsecctl.options import Options
from ipsecctl.presentation import paint, print_live, print_verdicts, print_warnings
from ipsecd.errors import IpsecdError, LimitExceeded, NotFound
from ipsecd.language.differences import diff_policies
from ipsecd.language.documents import parse_policy
from ipsecd.model.values import Policy
from ipsecd.output import complain_text, flush, say, say_json
from ipsecd.proof.changes import changes
from ipsecd.proof.words import changes_to_json
from ipsecd.quoting import few, quote

EQUAL, DIFFERENT, TROUBLE = 0, 1, 2
"""The exit codes of ``diff``, as diff(1) has them."""


def diff(client: Client, options: Options) -> int:
    """Compare a policy with the stored one, or two; return 0 if equal, 1 if not, 2 in trouble.

    Arguments such as @2 are all policies at other times.
    """
    try:
        if names_states(options.arguments):
            return _diff_times(client, options)
        return _diff(client, options)
    except UsageError:
        raise
    except IpsecdError as error:
        flush()
        if options.has("--json"):
            say_json(fields(error))
        complain_text(describe(error, "ipsecctl"))
        return TROUBLE


def _diff(client: Client, options: Options) -> int:
    new = _policy(client, options.arguments[-1])
    if len(options.arguments) == 2:
        old: Policy | None = _policy(client, options.arguments[0])
    else:
        old = _stored(client, new.name)
    lines = diff_policies(old, new)
    if old is None:
        lines = (f"+ policy {new.name!r} is not stored yet", *lines)
    verdicts, warnings = _verdicts(options, old, new)
    rules_differ = _differ(old, new)
    answer = {
        "policy": new.name,
        "equal": not lines,
        "changes": list(lines),
        "verdicts": verdicts,
        **_live(client, options, old, new),
    }
    same = f"policy {new.name!r} is the same in both"
    return _say(options, answer, same, warnings, matters=rules_differ)


def _diff_times(client: Client, options: Options) -> int:
    times = times_of(client, options)
    lines = differences(times.old, times.new)
    old, new = _assigned(times.old, times.first), _assigned(times.new, times.second)
    verdicts, warnings = _verdicts(options, old, new)
    answer = {
        "from": times.first,
        "to": times.second,
        "equal": not lines,
        "changes": lines,
        "verdicts": verdicts,
        **_live(client, options, old, new),
    }
    same = f"the policies are the same at {SIGN}{times.first} and {SIGN}{times.second}"
    return _say(options, answer, same, warnings, matters=bool(lines))


def _assigned(state: dict[str, Any], number: int) -> Policy | None:
    """The policy of this host that was assigned at a time."""
    for policy in state["policies"]:
        if policy["assigned"]:
            return parse_policy(policy["document"].encode(), f"{SIGN}{number}")
    return None


def _say(
    options: Options, answer: dict[str, Any], same: str, warnings: list[str], *, matters: bool
) -> int:
    """Print a comparison, with verdicts where something `matters` to them; return the exit code."""
    verdicts, lines = answer["verdicts"], answer["changes"]
    by_verdicts = options.has("--verdicts")
    if options.has("--json"):
        say_json(answer)
    else:
        if not by_verdicts:
            for line in lines:
                say(_coloured(line))
            if not lines:
                say(same)
        if verdicts and (matters or by_verdicts):
            print_verdicts(verdicts)
        if "live" in answer:
            print_live(answer["live"])
        print_warnings(warnings)
    if by_verdicts and verdicts is None:
        return TROUBLE
    is_different = not verdicts["equal"] if by_verdicts and verdicts else bool(lines)
    return DIFFERENT if is_different else EQUAL


def _live(
    client: Client, options: Options, old: Policy | None, new: Policy | None
) -> dict[str, Any]:
    """Which connections of this host are cut, if that is asked."""
    if not options.has("--live"):
        return {}
    return {"live": cuts_between(client, old, new)}


def _differ(old: Policy | None, new: Policy) -> bool:
    """Whether the rules of two policies differ, or whether they block."""
    return new.rules != (old.rules if old else ()) or new.audit != bool(old and old.audit)


def _verdicts(
    options: Options, old: Policy | None, new: Policy | None
) -> tuple[dict[str, Any] | None, list[str]]:
    """What the policies decide differently, None if that cannot be proven; with warnings."""
    (before, now), surroundings, names = given((old, new), options)
    try:
        verdicts = changes_to_json(changes(before, now, surroundings), surroundings)
    except LimitExceeded as error:
        return None, [error.message]
    warnings = []
    if names and (old is None or new is None or _differ(old, new)):
        own = "verdicts are those of a host where each of these is an address of its own: "
        warnings = [own + few(list(names))]
    return verdicts, warnings


def _policy(client: Client, text: str) -> Policy:
    """The policy in a file, or the stored one of a name where there is no such file."""
    if text == "-" or os.path.exists(text) or "/" in text or text.endswith((".yaml", ".yml")):  # noqa: PTH110 - pathlib takes 8 ms to import
        return parse_policy(read_bytes(text), "<stdin>" if text == "-" else text)
    stored = _stored(client, text)
    if stored is None:
        raise NotFound(
            f"{quote(text)} is neither a file nor the name of a stored policy",
            "ipsecctl policy list shows the policies there are",
        )
    return stored


def _stored(client: Client, name: str) -> Policy | None:
    try:
        document = client.call("GetPolicy", {"name": name})["document"]
    except NotFound:
        return None
    return parse_policy(document, f"stored policy {name!r}")


def _coloured(line: str) -> str:
    sign = line.lstrip()[:1]
    return paint(line, {"+": "green", "-": "red"}.get(sign, "yellow")) if sign in "+-~" else line
