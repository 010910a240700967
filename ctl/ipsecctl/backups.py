"""Owns ``backup`` and ``restore``; must not know what is in a backup."""

from __future__ import annotations

import os
from binascii import a2b_base64

from ipsecctl.client import Client
from ipsecctl.failures import DONE, UsageError
from ipsecctl.files import open_document, write_private
from ipsecctl.options import Options
from ipsecctl.presentation import print_outcome, print_warnings
from ipsecctl.progress import listener
from ipsecd.output import change_made, say, say_json, say_text, write_bytes
from ipsecd.quoting import count


def backup(client: Client, options: Options) -> int:
    """Write what this host blocks and permits into a file, or to standard output for ``-``."""
    path = options.argument()
    if path == "-" and options.has("--json"):
        raise UsageError("the backup and JSON cannot both go to standard output", "name a file")
    if path == "-" and os.isatty(1):
        raise UsageError("a backup is nothing for a terminal", "name a file, or redirect it")
    reply = client.call("GetBackup")
    archive = a2b_base64(reply["archive"])
    if path == "-":
        write_bytes(archive)
    else:
        write_private(path, archive)
        change_made()
        numbers = {key: reply[key] for key in ("policies", "lists", "dynamic_rules")}
        if options.has("--json"):
            told = {"file": path, "bytes": len(archive), **numbers, "warnings": reply["warnings"]}
            say_json(told)
            return DONE
        held = [
            count(reply[key], what)
            for key, what in (
                ("policies", "policy"),
                ("lists", "list"),
                ("dynamic_rules", "dynamic rule"),
            )
        ]
        say(f"{path}: {', '.join(held)}, {len(archive):,} bytes")
    print_warnings(reply["warnings"])
    return DONE


def restore(client: Client, options: Options) -> int:
    """Have policies and lists be those of a backup, and no others."""
    path = options.argument()
    parameters = {
        "source": "<stdin>" if path == "-" else path,
        "dynamic": options.has("--dynamic"),
        "dry_run": options.has("--dry-run"),
    }
    descriptor = open_document(path)
    try:
        outcome = client.call("Restore", parameters, descriptor, listener(options))["outcome"]
    finally:
        os.close(descriptor)
    print_outcome(outcome, as_json=options.has("--json"))
    if outcome["changes"] and not options.has("--json"):
        say_text("\n".join(outcome["changes"]))
    return DONE
