"""Owns the legacy commands around the agent: ``net``, ``secedit`` and ``gpupdate``."""

from __future__ import annotations

from ipsecctl.client import Client
from ipsecctl.failures import DONE, UsageError
from ipsecctl.presentation import one_line, outcome_line, print_warnings
from ipsecd.errors import Refused
from ipsecd.output import say, say_text
from ipsecd.quoting import quote

NO_DOMAIN = "There is no domain policy on this host"


def net(client: Client, args: list[str]) -> int:
    """Carry out ``net start policyagent`` or ``net stop policyagent``."""
    words = [arg.lower() for arg in args]
    if len(words) != 2 or words[0] not in ("start", "stop") or words[1] != "policyagent":
        raise UsageError(
            f"{quote(' '.join(['net', *args]))} is not known here",
            "there are: net start policyagent, net stop policyagent",
        )
    outcome = client.call("Start" if words[0] == "start" else "Stop")["outcome"]
    print_warnings(outcome["warnings"])
    say_text(f"The IPSec Policy Agent: {outcome_line(outcome)}.")
    return DONE


def gpupdate(client: Client, args: list[str]) -> int:
    """Carry out ``gpupdate [/target:computer] [/force]``."""
    for arg in args:
        if arg.lower().replace("-", "/") not in ("/target:computer", "/force"):
            raise UsageError(
                f"gpupdate does not know {quote(arg)} here", "/target:computer, /force"
            )
    return _refresh(client)


def secedit(client: Client, args: list[str]) -> int:
    """Carry out ``secedit /refreshpolicy machine_policy``."""
    words = [arg.lower() for arg in args if arg.lower() != "/enforce"]
    if words != ["/refreshpolicy", "machine_policy"]:
        raise Refused(
            f"secedit {quote(' '.join(args))} is not supported",
            "only: secedit /refreshpolicy machine_policy",
        )
    return _refresh(client)


def _refresh(client: Client) -> int:
    """Say what is in force, as the daemon has it: there is no domain policy to look for."""
    status = client.call("Status")["status"]
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
