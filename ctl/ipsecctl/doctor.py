"""Owns what ``doctor`` prints: what enforces the rules on this host, why, and what else could."""

from __future__ import annotations

from ipsecctl.client import Client
from ipsecctl.failures import DONE
from ipsecctl.options import parse_options
from ipsecctl.presentation import paint, print_json


def run(client: Client, args: list[str]) -> int:
    """Print the examination of this host."""
    options = parse_options(args, ("--json",), most=0)
    found = client.call("Examine")["examination"]
    if options.has("--json"):
        print_json(found)
        return DONE
    print(
        f"backend {paint(found['backend'], 'bold')}: {found['why']} (backend: {found['setting']})"
    )
    for feature in found["features"]:
        print(f"  {feature}")
    for one in found["assessments"]:
        can = paint("can be used", "green") if one["usable"] else paint("cannot be used", "red")
        print(f"\n{paint(one['name'], 'bold')} {can} here")
        for reason in one["reasons_for"]:
            print(f"  + {reason}")
        for reason in one["reasons_against"]:
            print(f"  - {reason}")
    return DONE
