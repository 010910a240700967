"""Owns the verbs that change stored policies; must not know how they are stored."""

from __future__ import annotations

import os
from typing import Any

from ipsecctl import show
from ipsecctl.client import Client
from ipsecctl.dry_runs import dry_or_live
from ipsecctl.failures import DONE
from ipsecctl.files import open_document
from ipsecctl.options import Options, conditions_of, dry_run_of
from ipsecctl.presentation import print_outcome
from ipsecctl.progress import listener
from ipsecd.errors import InvalidInput
from ipsecd.output import say_json, say_text
from ipsecd.quoting import count

MAX_SEARCHED = 1 << 20
"""Bytes of a refused document that are searched for more errors, which takes two seconds."""


def apply(client: Client, options: Options) -> int:
    """Store the policy in a file, in the place of the stored policy of the same name."""
    path = options.argument()
    source = "<stdin>" if path == "-" else path
    descriptor = open_document(path)
    try:
        reply = client.call(
            "ApplyPolicy",
            {
                "source": source,
                "assign": options.has("--assign"),
                **_audit_of(options),
                **dry_or_live(client, options),
            },
            descriptor,
            listener(options),
        )
    except InvalidInput as error:
        if error.source == source and error.line:
            error.hint = _with_others(error.hint, descriptor)
        raise
    finally:
        os.close(descriptor)
    print_outcome(reply["outcome"], as_json=options.has("--json"))
    return DONE


def _with_others(hint: str, descriptor: int) -> str:
    """The hint of an error of a document, with how many others there are in it."""
    from ipsecd.language.documents import errors_of_policy

    try:
        content = os.pread(descriptor, MAX_SEARCHED + 1, 0)
    except OSError:
        return hint
    others = errors_of_policy(content).count - 1 if len(content) <= MAX_SEARCHED else 0
    if others < 1:
        return hint
    told = f"ipsecctl check tells of {count(others, 'more error')}"
    return f"{hint}; {told}" if hint else told


def export(client: Client, options: Options) -> int:
    """Print the document of a stored policy, and nothing else."""
    if options.has("--json"):
        return show.policy(client, options)
    say_text(client.call("GetPolicy", {"name": options.argument()})["document"])
    return DONE


def create(client: Client, options: Options) -> int:
    """Store a policy without rules, or with those of a preset."""
    if options.has("--preset"):
        return _create_from_preset(client, options)
    description = options.value("--description")
    parameters = {"name": options.argument(), "description": description}
    return _change(client, options, "CreatePolicy", parameters)


def _create_from_preset(client: Client, options: Options) -> int:
    from ipsecctl.presets import preset_policy
    from ipsecd.language.documents import format_policy

    policy = preset_policy(
        options.argument(),
        str(options.value("--preset")),
        options.values.get("--permit", []),
        options.values.get("--permit-out", []),
        options.value("--description") or "",
    )
    document = format_policy(policy)
    if options.has("--print"):
        if options.has("--json"):
            say_json({"document": document})
        else:
            say_text(document)
        return DONE
    parameters = {
        "document": document,
        "source": f"<{options.value('--preset')}>",
        "assign": options.has("--assign"),
        "dry_run": False,
        "new": True,
    }
    return _change(client, options, "ApplyPolicy", parameters)


def delete(client: Client, options: Options) -> int:
    """Delete a stored policy."""
    unassign = options.has("--unassign")
    parameters = {"name": options.argument(), "unassign": unassign, "missing_ok": False}
    return _change(client, options, "DeletePolicy", parameters)


def assign(client: Client, options: Options) -> int:
    """Have a stored policy in force."""
    parameters: dict[str, Any] = {"name": options.argument()}
    parameters |= _audit_of(options)
    if options.has("--dry-run"):
        parameters |= dry_or_live(client, options)
    return _change(client, options, "AssignPolicy", parameters)


def _audit_of(options: Options) -> dict[str, bool]:
    """Whether blocks are to be audits, if that is asked for; an older daemon does not know it."""
    if options.has("--audit"):
        return {"audit": True}
    return {"audit": False} if options.has("--enforce") else {}


def unassign(client: Client, options: Options) -> int:
    """Have no stored policy in force."""
    name = options.arguments[0] if options.arguments else None
    return _change(client, options, "UnassignPolicy", {"name": name})


def restore(client: Client, options: Options) -> int:
    """Have the file of a policy hold again what it held before somebody wrote into it."""
    from ipsecctl.history import state_of

    name, *state = options.arguments
    parameters = {"name": name, "state": state_of(state[0]) if state else None}
    return _change(client, options, "RestorePolicy", parameters)


def remove_rules(client: Client, options: Options) -> int:
    """Remove rules from a policy."""
    name, *rules = options.arguments
    parameters = {"policy": name, "rules": rules, "delete_empty": options.has("--delete-empty")}
    parameters |= dry_run_of(options)
    return _change(client, options, "RemoveRules", parameters)


def add_rule(client: Client, options: Options) -> int:
    """Store a rule in a policy."""
    from ipsecctl.batches import canonical_filter
    from ipsecctl.services import with_services
    from ipsecd.language.filters import join_arguments

    name, rule_name, *filters = options.arguments
    added = {
        "name": rule_name,
        "action": options.value("--action"),
        "filters": [canonical_filter(text) for text in join_arguments(with_services(filters))],
        **conditions_of(options),
    }
    parameters = {
        "policy": name,
        "rules": [added],
        "create": options.has("--create"),
        "assign": options.has("--assign"),
        **dry_run_of(options),
    }
    return _change(client, options, "PutRules", parameters)


def reload(client: Client, options: Options) -> int:
    """Have the policy files read again."""
    parameters = {"resolve": options.has("--resolve")}
    outcome = client.call("Reload", parameters, hear=listener(options))["outcome"]
    print_outcome(outcome, as_json=options.has("--json"))
    return DONE


def _change(client: Client, options: Options, method: str, parameters: dict[str, Any]) -> int:
    outcome = client.call(method, parameters)["outcome"]
    print_outcome(outcome, as_json=options.has("--json"))
    return DONE
