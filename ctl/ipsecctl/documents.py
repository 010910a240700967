"""Owns the verbs on policy documents, which work without a daemon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import DONE, REFUSED, UsageError, describe
from ipsecctl.files import read_bytes, replace_text
from ipsecctl.given_lists import given_lists, missing_lists, words_of_missing
from ipsecctl.options import Options
from ipsecctl.presentation import print_warnings
from ipsecd.errors import InvalidInput, IpsecdError, LimitExceeded, Refused
from ipsecd.language.documents import errors_of_policy, format_policy, parse_policy
from ipsecd.language.expectations import must_be_met
from ipsecd.model.list_names import lists_named_by
from ipsecd.model.values import Policy
from ipsecd.output import change_made, complain_text, say, say_json, say_text
from ipsecd.quoting import count, shorten


def check(_: Client, options: Options) -> int:
    """Say of every file whether it is a policy that can be in force; return 1 if any is not."""
    answers = [_check(options, path) for path in options.arguments]
    if options.has("--json"):
        verdicts = [verdict for verdict, _, _ in answers]
        say_json(verdicts if len(verdicts) > 1 else verdicts[0])
    else:
        for verdict, words, warnings in answers:
            (say_text if verdict["valid"] else complain_text)(words)
            print_warnings(warnings)
    return DONE if all(verdict["valid"] for verdict, _, _ in answers) else REFUSED


def format_document(_: Client, options: Options) -> int:
    """Print the policy of a file in canonical form, or put that into the file."""
    path = options.argument()
    content = read_bytes(path)
    policy = parse_policy(content, _source(path))
    text = format_policy(policy)
    if not options.has("--write"):
        if options.has("--json"):
            say_json({"policy": policy.name, "document": text})
        else:
            say_text(text)
        return DONE
    if path == "-":
        raise UsageError("standard input cannot be written back", "leave --write out")
    changed = content != text.encode("utf-8")
    if changed:
        replace_text(path, text)
        change_made()
    if options.has("--json"):
        say_json({"policy": policy.name, "file": path, "changed": changed})
    else:
        say(f"{path}: {'rewritten' if changed else 'already'} in canonical form")
    return DONE


def _check(options: Options, path: str) -> tuple[dict[str, Any], str, list[str]]:
    """The verdict on the file at `path`: as a JSON object, and in words, with warnings."""
    content = read_bytes(path)
    try:
        policy = parse_policy(content, _source(path))
    except InvalidInput as error:
        return *_all_errors(path, content, error), []
    named = lists_named_by(policy) if policy.expect else frozenset[str]()
    lists = given_lists(options, named)
    missing = missing_lists(named, lists)
    about_lists = {"missing_lists": missing} if missing else {}
    warnings = words_of_missing(missing, _source(path))
    try:
        # A daemon judges as if no list had an entry, so that every host gets one answer.
        must_be_met(policy)
        if named & lists.keys():
            must_be_met(policy, lists)
    except Refused as error:
        verdict = {**_not_valid(path, error, [error]), **about_lists}
        return verdict, describe(error, f"ipsecctl: {_source(path)}"), warnings
    rules, filters = len(policy.rules), sum(len(rule.filters) for rule in policy.rules)
    size = f"{count(rules, 'rule')}, {count(filters, 'filter')}"
    if policy.expect:
        size += f", {count(len(policy.expect), 'expectation')} met"
    verdict = {"file": path, "valid": True, "policy": policy.name, "errors": []}
    numbers = {"rules": rules, "filters": filters, "expectations": len(policy.expect)}
    words = f"{path}: policy {policy.name!r} is valid · {size}"
    warnings += [f"{_source(path)}: {line}" for line in _without_effect(policy, options)]
    return {**verdict, **numbers, **about_lists}, words, warnings


def _without_effect(policy: Policy, options: Options) -> list[str]:
    """What of a policy has no effect, in sentences."""
    from ipsecctl.linting import findings_of

    try:
        return [one["message"] for one in findings_of(policy, options)[0]]
    except LimitExceeded as error:
        return [f"whether all has an effect is not said: {error.message}"]


def _all_errors(path: str, content: bytes, first: InvalidInput) -> tuple[dict[str, Any], str]:
    """The verdict on a file with errors, of which `first` is met first, and all in words."""
    errors = errors_of_policy(content, _source(path))
    words = [describe(error, "ipsecctl") for error in errors.by_line]
    verdict = _not_valid(path, first, errors.by_line)
    if errors.more:
        verdict["more_errors"] = errors.more
        words.append(f"ipsecctl: {shorten(_source(path))}: and {count(errors.more, 'more error')}")
    return verdict, "\n".join(words)


def _not_valid(path: str, first: IpsecdError, errors: Sequence[IpsecdError]) -> dict[str, Any]:
    told = [_fields(error) for error in errors]
    return {"file": path, "valid": False, **_fields(first), "errors": told}


def _fields(error: IpsecdError) -> dict[str, Any]:
    line = error.line if isinstance(error, InvalidInput) else 0
    return {"message": error.message, "hint": error.hint, "line": line}


def _source(path: str) -> str:
    return "<stdin>" if path == "-" else path
