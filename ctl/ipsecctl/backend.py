"""Owns ``backend``: which one enforces, and the change to another."""

from __future__ import annotations

from ipsecctl.client import Client
from ipsecctl.failures import DONE
from ipsecctl.options import Options
from ipsecd.output import say, say_json


def run(client: Client, options: Options) -> int:
    """Say which backend enforces, or have the one that is named do so."""
    if not options.arguments:
        name = client.call("Status")["status"]["backend"]
        if options.has("--json"):
            say_json({"backend": name})
        else:
            say(name)
        return DONE
    reply = client.call("SetBackend", {"name": options.argument()})
    if options.has("--json"):
        say_json({"changed": reply["name"] != reply["before"], **reply})
        return DONE
    name, before = reply["name"], reply["before"]
    if name == before:
        say(f"{name} enforces already")
    else:
        say(f"{name} enforces now, in the place of {before}")
    if not reply["kept"]:
        say(
            f"the next start takes {reply['setting']} again, as the daemon's settings name it: "
            "change backend in ipsecd.yaml, or write auto there"
        )
    return DONE
