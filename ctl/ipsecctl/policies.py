"""Owns the verbs that change stored policies; must not know how they are stored."""

from __future__ import annotations

import os
import stat

from ipsecctl.client import Client
from ipsecctl.failures import DONE, UsageError
from ipsecctl.files import file_error, read_bytes
from ipsecctl.options import interface_of, parse_options
from ipsecctl.presentation import print_outcome
from ipsecctl.show import show_list, show_policy
from ipsecd.output import say_text
from ipsecd.quoting import quote


def apply(client: Client, args: list[str]) -> int:
    """Store the policy of a file, in the place of the policy of its name."""
    options = parse_options(args, ("--assign", "--dry-run", "--json"), least=1, most=1)
    path = options.rest[0]
    descriptor = _open(path)
    try:
        reply = client.call(
            "ApplyPolicy",
            {
                "source": "<stdin>" if path == "-" else path,
                "assign": options.has("--assign"),
                "dry_run": options.has("--dry-run"),
            },
            descriptor,
        )
    finally:
        os.close(descriptor)
    print_outcome(reply["outcome"], as_json=options.has("--json"))
    return DONE


def policy(client: Client, args: list[str]) -> int:
    """List, show, create, delete, assign, unassign or export policies."""
    if not args:
        raise UsageError("'policy' needs to know what to do")
    action, rest = args[0], args[1:]
    if action == "list":
        show_list(client, "policies", as_json=parse_options(rest, ("--json",)).has("--json"))
        return DONE
    if action in ("show", "export"):
        options = parse_options(rest, ("--json",), least=1, most=1)
        if action == "show" or options.has("--json"):
            return show_policy(client, options.rest[0], as_json=options.has("--json"))
        say_text(client.call("GetPolicy", {"name": options.rest[0]})["document"])
        return DONE
    if action not in ("create", "delete", "assign", "unassign"):
        raise UsageError(f"'policy' cannot {quote(action)}")
    flags = ("--unassign", "--json") if action == "delete" else ("--json",)
    values = ("--description",) if action == "create" else ()
    options = parse_options(rest, flags, values, least=int(action != "unassign"), most=1)
    name = options.rest[0] if options.rest else None
    parameters: dict[str, str | bool | None] = {"name": name}
    if action == "create":
        parameters["description"] = options.value("--description")
    elif action == "delete":
        parameters |= {"unassign": options.has("--unassign"), "missing_ok": False}
    reply = client.call(f"{action.capitalize()}Policy", parameters)
    print_outcome(reply["outcome"], as_json=options.has("--json"))
    return DONE


def rule(client: Client, args: list[str]) -> int:
    """Add a rule to a policy, or remove rules from one."""
    action, rest = (args[0], args[1:]) if args else ("", [])
    if action == "add":
        return _add_rule(client, rest)
    if action != "remove":
        raise UsageError(
            f"'rule' cannot {quote(action)}" if action else "'rule' needs add or remove"
        )
    options = parse_options(rest, ("--delete-empty", "--json"), least=2, most=None)
    reply = client.call(
        "RemoveRules",
        {
            "policy": options.rest[0],
            "rules": options.rest[1:],
            "delete_empty": options.has("--delete-empty"),
        },
    )
    print_outcome(reply["outcome"], as_json=options.has("--json"))
    return DONE


def reload(client: Client, args: list[str]) -> int:
    """Have the policy files read again."""
    options = parse_options(args, ("--resolve", "--json"))
    outcome = client.call("Reload", {"resolve": options.has("--resolve")})["outcome"]
    print_outcome(outcome, as_json=options.has("--json"))
    return DONE


def _add_rule(client: Client, args: list[str]) -> int:
    from ipsecctl.dynamic import canonical_filter
    from ipsecd.language.filters import join_arguments

    options = parse_options(
        args,
        ("--lan", "--dialup", "--create", "--assign", "--json"),
        ("--action",),
        least=3,
        most=None,
    )
    action = (options.value("--action") or "").lower()
    if action not in ("block", "permit"):
        raise UsageError("a rule needs --action block or --action permit")
    name, rule_name, *filters = options.rest
    added = {
        "name": rule_name,
        "action": action,
        "filters": [canonical_filter(text) for text in join_arguments(filters)],
        "interface": interface_of(options),
    }
    reply = client.call(
        "PutRules",
        {
            "policy": name,
            "rules": [added],
            "create": options.has("--create"),
            "assign": options.has("--assign"),
        },
    )
    print_outcome(reply["outcome"], as_json=options.has("--json"))
    return DONE


def _open(path: str) -> int:
    """A descriptor of the document at `path`, at its start; ``-`` is standard input.

    What is no regular file is copied: the daemon must not wait for whoever writes into a pipe.
    """
    if path == "-":
        return _copied(read_bytes(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        with os.fdopen(descriptor, "rb") as pipe:
            return _copied(pipe.read())
    except OSError as error:
        raise file_error("read", path, error) from error


def _copied(content: bytes) -> int:
    """A descriptor of a file in memory that holds `content`, at its start."""
    descriptor = os.memfd_create("policy")
    with os.fdopen(os.dup(descriptor), "wb") as copy:
        copy.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
