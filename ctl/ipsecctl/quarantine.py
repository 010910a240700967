"""Owns ``quarantine`` and ``release``; that a quarantine holds is the daemon's business."""

from __future__ import annotations

import time

from ipsecctl.batches import canonical_filter
from ipsecctl.client import Client
from ipsecctl.dynamic import rule_line
from ipsecctl.ends import end_of
from ipsecctl.failures import DONE, UsageError
from ipsecctl.options import Options
from ipsecctl.presentation import print_warnings
from ipsecd.language.addresses import format_address, parse_address
from ipsecd.model.addresses import Keyword, Selector
from ipsecd.output import say, say_json
from ipsecd.quoting import quote


def quarantine(client: Client, options: Options) -> int:
    """Block all traffic of a container, or of this host, but what is permitted."""
    lifetime = options.value("--for")
    parameters = {
        "who": _who(options),
        "permits": [canonical_filter(text) for text in options.values.get("--permit", [])],
        "ttl_s": None if lifetime is None else end_of(lifetime, time.time())[0],
    }
    answer = client.call("Quarantine", parameters)
    if options.has("--json"):
        # A daemon that is older does not say, and puts the quarantine anew.
        of_all = {"changed": answer.get("changed", True), "warnings": answer["warnings"]}
        say_json([{**rule, **of_all} for rule in answer["rules"]])
    else:
        for rule in answer["rules"]:
            say(rule_line(rule))
        print_warnings(answer["warnings"])
    return DONE


def release(client: Client, options: Options) -> int:
    """End a quarantine."""
    answer = client.call("Release", {"who": _who(options)})
    if options.has("--json"):
        say_json({"changed": bool(answer["removed"]), "removed": answer["removed"]})
    else:
        say(f"{answer['name']} is released")
    return DONE


def _who(options: Options) -> str:
    if options.has("--host"):
        return format_address(Keyword.ME)
    address = parse_address(options.argument())
    if not isinstance(address, Selector):
        raise UsageError(
            f"{quote(options.argument())} is not a container",
            "write container:NAME; to block an address: ipsecctl block ADDRESS",
        )
    return format_address(address)
