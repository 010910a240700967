"""Owns what ``doctor`` prints: if anything is wrong, what enforces and why, and what else could."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import DONE
from ipsecctl.options import Options
from ipsecctl.presentation import one_line, paint
from ipsecd.output import say, say_json
from ipsecd.quoting import first_lines

TRIAL_S = 60.0


def run(client: Client, options: Options) -> int:
    """Print the examination of this host."""
    found = client.call("Examine")["examination"]
    for one in found["assessments"]:
        if one["untried"]:
            _try_here(one)
    if options.has("--json"):
        say_json(found)
        return DONE
    say(*_verdict(found), "")
    say(f"backend {paint(found['backend'], 'bold')}: {found['why']} (backend: {found['setting']})")
    say(*(f"  {feature}" for feature in found["features"]))
    for one in found["assessments"]:
        can = paint("can be used", "green") if one["usable"] else paint("cannot be used", "red")
        say("", f"{paint(one['name'], 'bold')} {can} here")
        say(*(f"  + {reason}" for reason in one["reasons_for"]))
        say(*(f"  - {reason}" for reason in one["reasons_against"]))
        if one["untried"]:
            say(f"  - not tried: {one['untried']}")
    return DONE


def _verdict(found: dict[str, Any]) -> list[str]:
    """Whether anything is wrong, before all that may be so."""
    wrong = [one_line(trouble) for trouble in found["troubles"]]
    wrong += [
        f"{one['name']} enforces, and cannot be used by what was tried now"
        for one in found["assessments"]
        if one["name"] == found["backend"] and not one["usable"]
    ]
    lines = [paint(line, "red") for line in first_lines([f"WRONG: {line}" for line in wrong])]
    lines += [f"{paint('warning', 'yellow')}: {line}" for line in first_lines(found["warnings"])]
    return lines or [paint("nothing is wrong here", "green")]


def _try_here(one: dict[str, Any]) -> None:
    """Try a backend in the daemon's place, whose service may do less than root; note what came."""
    if os.geteuid() != 0:
        return
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        done = subprocess.run(  # noqa: S603 - a part of the daemon, as the command finds it
            [sys.executable, "-P", "-m", "ipsecd.backend.trial_process", one["name"]],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_S,
            check=False,
        )
        trial = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return
    one["untried"] = trial["untried"]
    if trial["refusal"]:
        one["usable"] = False
        one["reasons_against"].insert(0, f"the kernel refused it: {trial['refusal']}")
    elif trial["done"]:
        tried = [reason for reason in one["reasons_for"] if not reason.startswith("tried: ")]
        one["reasons_for"] = [f"tried: {trial['done']}", *tried]
