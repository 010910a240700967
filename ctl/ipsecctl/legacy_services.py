"""Owns ``net`` and ``sc``, as far as they are about this agent; must not know other services.

Other programs have these names too: ``net`` is Samba's, and ``sc`` a spreadsheet. What is not about
the agent is handed on to the next program of that name on the path, if there is one, and to none
twice: another installation of this program, or a script that calls it, would hand it back.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ipsecctl.client import Client
from ipsecctl.failures import DONE, UnreachableError, UsageError
from ipsecctl.legacy_switches import without_carriage_return
from ipsecctl.presentation import outcome_line, print_warnings
from ipsecd.errors import Refused
from ipsecd.output import flush, say, say_text
from ipsecd.quoting import quote, quote_path

AGENT = ("policyagent", "ipsec services", "ipsec policy agent")
"""The names that the service has had, in lower case."""
_YES = ("/y", "/yes")
_HANDED_ON = "IPSECCTL_HANDED_ON"
"""In the environment of a program that a command was handed on to: itself, and those before it."""
_STATES = {"stopped": "1  STOPPED", "running": "4  RUNNING"}
_ANSWER = """
SERVICE_NAME: {0}
        TYPE               : 20  WIN32_SHARE_PROCESS
        STATE              : {1}
        WIN32_EXIT_CODE    : 0  (0x0)
        SERVICE_EXIT_CODE  : 0  (0x0)
        CHECKPOINT         : 0x0
        WAIT_HINT          : 0x0"""
"""What ``sc query`` prints, which scripts search for the word RUNNING."""


def net(client: Client, args: list[str]) -> int:
    """Carry out ``net start policyagent`` or ``net stop policyagent``, with or without ``/y``."""
    args = without_carriage_return(args)
    words = [arg.lower() for arg in args]
    if len(words) == 3 and words[2] in _YES:
        words.pop()
    if len(words) == 2 and words[0] in ("start", "stop") and words[1] in AGENT:
        return _start_or_stop(client, words[0])
    known = "net start policyagent, net stop policyagent"
    if len(words) >= 2 and words[1] in AGENT:
        raise _unknown("net", args, known)
    return _hand_on("net", args, known)


def sc(client: Client, args: list[str]) -> int:
    """Carry out ``sc query``, ``start``, ``stop`` or ``config`` for this agent."""
    args = without_carriage_return(args)
    words = [arg.lower() for arg in args]
    known = "sc query policyagent, sc start, sc stop, and sc config policyagent start= auto"
    if len(words) >= 2 and words[1] in AGENT:
        if words[0] in ("start", "stop"):
            return _start_or_stop(client, words[0])
        if words[0] in ("query", "queryex", "interrogate") and len(words) == 2:
            return _query(client, args[1])
        if words[0] == "config":
            return _configure(words[2:])
        raise _unknown("sc", args, known)
    return _hand_on("sc", args, known)


def _start_or_stop(client: Client, word: str) -> int:
    outcome = client.call("Start" if word == "start" else "Stop")["outcome"]
    print_warnings(outcome["warnings"])
    say_text(f"The IPSec Policy Agent: {outcome_line(outcome)}.")
    return DONE


def _query(client: Client, name: str) -> int:
    try:
        stopped = client.call("Status")["status"]["state"] == "stopped"
    except UnreachableError:
        stopped = True
    say_text(_ANSWER.format(name, _STATES["stopped" if stopped else "running"]))
    return DONE


def _configure(words: list[str]) -> int:
    """When the agent starts is for systemd to know; what scripts ask for is how it is."""
    setting, _, value = "".join(words).partition("=")
    if setting == "start" and value in ("auto", "delayed-auto"):
        say("[SC] ChangeServiceConfig SUCCESS: systemd starts the agent (systemctl enable ipsecd)")
        return DONE
    if setting == "start" and value in ("demand", "disabled"):
        raise Refused(
            f"systemd knows when the agent starts, and 'start= {value}' is not told to it",
            "to have it start no more: systemctl disable ipsecd ipsecd-boot",
        )
    raise UsageError(f"{quote(' '.join(words))} is no setting of the agent", "start= auto")


def _hand_on(name: str, args: list[str], known: str) -> int:
    """Become the next program called `name` on the path; without one, say what there is here.

    Names that are relative to where somebody stands are left out: root may stand anywhere.
    """
    before = os.environ.get(_HANDED_ON, "").split(os.pathsep)
    had = {Path(sys.argv[0]).resolve(), *map(Path, before)}
    for directory in os.get_exec_path():
        path = Path(directory, name)
        if not path.is_absolute() or path.resolve() in had:
            continue
        if os.access(path, os.X_OK) and path.is_file():
            flush()
            os.environ[_HANDED_ON] = os.pathsep.join(map(str, {*had, path.resolve()}))
            try:
                os.execv(path, [name, *args])  # noqa: S606 - nothing of it is for a shell
            except OSError as error:
                raise UsageError(
                    f"{quote(' '.join([name, *args]))} is for {quote_path(str(path))}, which "
                    f"cannot be run: {error.strerror}",
                    f"here there are: {known}",
                ) from error
    raise _unknown(name, args, known)


def _unknown(name: str, args: list[str], known: str) -> UsageError:
    return UsageError(f"{quote(' '.join([name, *args]))} is not known here", f"there are: {known}")
