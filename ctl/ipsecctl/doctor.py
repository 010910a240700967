"""Owns what ``doctor`` prints: what is wrong, what enforces and why, and what else could."""

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
    examination = client.call("Examine")["examination"]
    for assessment in examination["assessments"]:
        if assessment["untried"]:
            _try_here(assessment)
    if options.has("--json"):
        say_json(examination)
        return DONE
    say(*_verdict(examination), "")
    say(
        f"backend {paint(examination['backend'], 'bold')}: {examination['why']}"
        f" (backend: {examination['setting']})"
    )
    say(*(f"  {feature}" for feature in first_lines(examination["features"])))
    for assessment in examination["assessments"]:
        can = (
            paint("can be used", "green")
            if assessment["usable"]
            else paint("cannot be used", "red")
        )
        say("", f"{paint(assessment['name'], 'bold')} {can} here")
        say(*(f"  + {reason}" for reason in assessment["reasons_for"]))
        say(*(f"  - {reason}" for reason in assessment["reasons_against"]))
        if assessment["untried"]:
            say(f"  - not tried: {assessment['untried']}")
    return DONE


def _verdict(examination: dict[str, Any]) -> list[str]:
    """The lines that say what is wrong, then those that warn; one line if all is well."""
    wrong = [one_line(trouble) for trouble in examination["troubles"]]
    wrong += [
        f"{assessment['name']} enforces, and cannot be used by what was tried now"
        for assessment in examination["assessments"]
        if assessment["name"] == examination["backend"] and not assessment["usable"]
    ]
    lines = [paint(line, "red") for line in first_lines([f"WRONG: {line}" for line in wrong])]
    lines += [
        f"{paint('warning', 'yellow')}: {line}"
        for line in first_lines([*examination["gaps"], *examination["warnings"]])
    ]
    return lines or [paint("nothing is wrong here", "green")]


def _try_here(assessment: dict[str, Any]) -> None:
    """Try a backend that the daemon could not try, and note the result in its `assessment`.

    The daemon's service may do less than root, so this does nothing unless root runs it.
    """
    if os.geteuid() != 0:
        return
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        done = subprocess.run(  # noqa: S603 - a part of the daemon, as the command finds it
            [sys.executable, "-P", "-m", "ipsecd.backend.trial_process", assessment["name"]],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_S,
            check=False,
        )
        trial = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return
    assessment["untried"] = trial["untried"]
    if trial["refusal"]:
        assessment["usable"] = False
        assessment["reasons_against"].insert(0, f"the kernel refused it: {trial['refusal']}")
    elif trial["done"]:
        tried = [reason for reason in assessment["reasons_for"] if not reason.startswith("tried: ")]
        assessment["reasons_for"] = [f"tried: {trial['done']}", *tried]
