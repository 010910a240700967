"""Owns ``export``: whatever the form, it is printed or written, and what is not in it is said."""

from __future__ import annotations

from dataclasses import replace

from ipsecctl.client import Client
from ipsecctl.exporting import gathered
from ipsecctl.exporting.gathered import Exported, LeftOut
from ipsecctl.failures import DONE, REFUSED
from ipsecctl.files import write_private
from ipsecctl.options import Options
from ipsecd.output import complain, say, say_json, say_text
from ipsecd.quoting import count

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any


def nft(client: Client, options: Options) -> int:
    """A table for nft that decides as what is in force, or as a policy."""
    from ipsecctl.exporting.nft import export

    name = options.arguments[0] if options.arguments else None
    return _out(options, export(gathered.decided(client, name)))


def ipseccmd(client: Client, options: Options) -> int:
    """A script of lines of ``ipseccmd``."""
    from ipsecctl.exporting.ipseccmd import export

    return _out(options, export(*_stored(client, options)))


def netsh(client: Client, options: Options) -> int:
    """A script of lines of ``netsh``."""
    from ipsecctl.exporting.netsh import export

    return _out(options, export(*_stored(client, options)))


def json(client: Client, options: Options) -> int:
    """A document with all that is stored and in force."""
    from ipsecctl.exporting.documents import export

    return _out(options, export(client, options.arguments), is_json=True)


def _stored(
    client: Client, options: Options
) -> tuple[list[gathered.Stored], list[dict[str, Any]], list[LeftOut]]:
    """The policies that are named; or all, with dynamic rules, and what cannot be had of them."""
    names = options.arguments
    stored = [
        replace(each, policy=gathered.without_filter_lists_folded(client, each.policy))
        for each in gathered.stored_policies(client, names)
    ]
    if names:
        return stored, [], []
    return stored, gathered.dynamic_rules(client), gathered.unusable_policies(client)


def _out(options: Options, exported: Exported, *, is_json: bool = False) -> int:
    """Print or write what is exported; 1 if something of it could not be."""
    path = options.value("--output")
    told = [{"rule": each.rule, "what": each.what, "why": each.why} for each in exported.left_out]
    if path is not None:
        write_private(path, exported.text.encode())
    if options.has("--json") and not (is_json and path is None):
        say_json({"text": None if path else exported.text, "file": path, "left_out": told})
    elif path is None:
        say_text(exported.text.removesuffix("\n"))
    else:
        say(f"{path}: written")
    for each in exported.left_out:
        complain(f"ipsecctl: {each}")
    if not exported.left_out:
        return DONE
    complain(f"ipsecctl: {count(len(exported.left_out), 'thing')} could not be exported")
    return REFUSED
