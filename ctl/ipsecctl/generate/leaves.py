"""Owns what the completions of all shells have in common; must not know any shell."""

from __future__ import annotations

from ipsecctl.grammar import Argument, Option, Verb
from ipsecctl.verbs import DIALECTS, VERBS

NAMES = ("policies", "dynamic", "lists")
"""What an argument offers if a shell completes it with names that the daemon knows."""
FILES = ("documents", "files")
WORDS = (*VERBS, *DIALECTS, "help")
READER = """python3 -c '
import json, sys
for one in json.load(sys.stdin):
    print(one["name"])' 2>/dev/null"""
"""Reads the names from the list that ``show … --json`` prints."""


def leaves() -> list[tuple[str, str, Verb]]:
    """Every verb without actions, and every action: the verb's name, the action's, the record."""
    records = []
    for verb in VERBS.values():
        if verb.actions:
            records += [(verb.name, action.name, action) for action in verb.actions.values()]
        else:
            records.append((verb.name, "", verb))
    return records


def offered(thing: Argument | Option) -> tuple[str, ...]:
    """The words that a shell offers for it."""
    return thing.offers if isinstance(thing.offers, tuple) else ()
