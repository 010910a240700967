"""Owns the legacy commands that refresh the policy, and ``ipsecmon``, which is gone."""

from __future__ import annotations

from ipsecctl.client import Client
from ipsecctl.failures import DONE, UsageError
from ipsecctl.legacy_switches import without_carriage_return
from ipsecctl.presentation import one_line, print_warnings
from ipsecd.errors import Refused
from ipsecd.output import say, say_text
from ipsecd.quoting import quote

WAIT_S, MOST_WAIT_S = 600.0, 3600.0
"""For the domain, as the command of old waits, and the longest that the daemon lets one wait."""
GPUPDATE_USAGE = """\
usage: gpupdate [/target:computer|user] [/force] [/wait:SECONDS] [/logoff] [/boot] [/sync]
/target:user      nothing: policies here are for computers
/wait:SECONDS     how long to wait for the domain: 600 if not given, 0 not at all, -1 for an hour
/force /logoff /boot /sync   understood; changes act at once here, whoever is logged in, without a
                  restart, so there is nothing that they would have to bring about"""
NO_USERS = "There is no policy for users here, so there is none to refresh."
NO_DOMAIN = "There is no domain policy on this host"


def gpupdate(client: Client, args: list[str]) -> int:
    """``gpupdate`` with its switches: what is for computers is looked at, now."""
    wait_s, for_computer = WAIT_S, True
    args = without_carriage_return(args)
    if any(arg in ("/?", "-?", "/h", "-h", "/help", "--help") for arg in args):
        say_text(GPUPDATE_USAGE)
        return DONE
    for arg in args:
        switch, colon, value = f"/{arg[1:]}".lower().partition(":")
        if arg[:1] not in ("/", "-"):
            switch = ""
        if switch == "/target" and value in ("computer", "user"):
            for_computer = value == "computer"
        elif switch == "/wait" and _is_wait(value):
            wait_s = float(value) if 0 <= int(value) <= MOST_WAIT_S else MOST_WAIT_S
        elif colon or switch not in ("/force", "/sync", "/boot", "/logoff"):
            raise UsageError(
                f"gpupdate does not know {quote(arg)} here",
                "/target:computer, /target:user, /force, /wait:SECONDS, /sync, /boot, /logoff",
            )
    if not for_computer:
        say(NO_USERS)
        return DONE
    return _refresh(client, wait_s)


def _is_wait(text: str) -> bool:
    """Whether `text` is a number of seconds; -1 is as long as it takes."""
    return text == "-1" or (text.isascii() and text.isdecimal() and len(text) <= 9)


def secedit(client: Client, args: list[str]) -> int:
    """``secedit /refreshpolicy machine_policy [/enforce]``."""
    words = [arg.lower() for arg in without_carriage_return(args)]
    if words[-1:] == ["/enforce"]:
        words.pop()
    if words == ["/refreshpolicy", "user_policy"]:
        say(NO_USERS)
        return DONE
    if words != ["/refreshpolicy", "machine_policy"]:
        raise Refused(
            f"secedit {quote(' '.join(args))} is not supported",
            "only: secedit /refreshpolicy machine_policy|user_policy [/enforce]",
        )
    return _refresh(client, WAIT_S)


def ipsecmon(_client: Client, _args: list[str]) -> int:
    """The window of Windows 2000 that showed security associations."""
    raise Refused(
        "ipsecmon showed what was encrypted, in a window: this system blocks and permits",
        "ipsecctl show has what is in force, ipsecctl stats what was matched",
    )


def _refresh(client: Client, wait_s: float) -> int:
    """Have the domain looked at and say what came, or without one what is in force."""
    status = client.call("Status")["status"]
    if status["domain"] is not None:
        client.wait_longer(wait_s)
        outcome = client.call("RefreshDomain", {"wait_s": wait_s})["outcome"]
        print_warnings(outcome["warnings"])
        say_text(f"The domain was looked at: {outcome['message']}.")
        return DONE
    if status["state"] in ("failed", "drifted"):
        reasons = "; ".join(map(one_line, [*status["failures"], *status["drift"]]))
        raise Refused(
            f"the local policy is not in force as it should be: {reasons}",
            "'ipsecctl status' says what to do",
        )
    if status["state"] == "stopped":
        say(f"{NO_DOMAIN}; the policy agent is stopped and nothing is in force.")
    elif status["assigned"] is None:
        say(f"{NO_DOMAIN}; no local policy is assigned.")
    else:
        say(f"{NO_DOMAIN}; the local policy is in force.")
    return DONE
