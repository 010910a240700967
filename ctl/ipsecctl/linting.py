"""Owns ``lint``: what of policies has no effect, of files or of what is in force."""

from __future__ import annotations

from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import DONE, REFUSED
from ipsecctl.files import list_files, read_bytes
from ipsecctl.offline_proofs import given
from ipsecctl.options import Options
from ipsecctl.presentation import print_warnings
from ipsecd.language.documents import parse_policy
from ipsecd.model.list_names import lists_named_by
from ipsecd.model.values import Policy
from ipsecd.output import say, say_json
from ipsecd.proof.lint import findings_to_json, lint
from ipsecd.quoting import few


def run(client: Client, options: Options) -> int:
    """Say what has no effect; return 1 if there is anything."""
    if options.arguments:
        answer, warnings = _of_files(options)
    else:
        answer, warnings = client.call("GetFindings"), []
    found, unused = answer["findings"], answer["unused_lists"]
    if options.has("--json"):
        say_json(answer)
    else:
        for one in found:
            say(f"{one.get('file', '')}: {one['message']}" if "file" in one else one["message"])
        for name in unused:
            say(f"list @{name} is named by no filter")
        if not found and not unused:
            say("everything has an effect, which is proven")
        print_warnings(warnings)
    return REFUSED if found or unused else DONE


def findings_of(policy: Policy, options: Options) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """What of a policy has no effect, and the names that stand for addresses of their own."""
    (filters,), surroundings, names = given([policy], options)
    return findings_to_json(lint(filters, surroundings), surroundings), names


def _of_files(options: Options) -> tuple[dict[str, Any], list[str]]:
    found: list[dict[str, Any]] = []
    named: set[str] = set()
    unknown: set[str] = set()
    for path in options.arguments:
        source = "<stdin>" if path == "-" else path
        policy = parse_policy(read_bytes(path), source)
        named |= lists_named_by(policy)
        of_policy, names = findings_of(policy, options)
        found += ({"file": source, **one} for one in of_policy)
        unknown.update(names)
    directory = options.value("--lists")
    unused = [name for name in list_files(directory) if name not in named] if directory else []
    warnings = []
    if unknown:
        words = "this is said of a host where each of these is an address of its own: "
        warnings = [words + few(sorted(unknown))]
    return {"findings": found, "unused_lists": unused}, warnings
