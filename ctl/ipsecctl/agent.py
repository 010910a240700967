"""Owns the legacy commands around the agent: ``net``, ``secedit`` and ``gpupdate``."""

from __future__ import annotations

from ipsecctl.client import Client
from ipsecctl.failures import DONE, UsageError
from ipsecctl.presentation import outcome_line
from ipsecd.errors import Refused

NO_DOMAIN = "There is no domain policy on this host"


def net(client: Client, args: list[str]) -> int:
    """``net start policyagent`` and ``net stop policyagent``."""
    words = [arg.lower() for arg in args]
    if len(words) != 2 or words[0] not in ("start", "stop") or words[1] != "policyagent":
        raise UsageError(
            f"'net {' '.join(args)}' is not known here",
            "there are: net start policyagent, net stop policyagent",
        )
    outcome = client.call("Start" if words[0] == "start" else "Stop")["outcome"]
    print(f"The IPSec Policy Agent: {outcome_line(outcome)}.")
    return DONE


def gpupdate(client: Client, args: list[str]) -> int:
    """``gpupdate [/target:computer] [/force]``."""
    for arg in args:
        if arg.lower().replace("-", "/") not in ("/target:computer", "/force"):
            raise UsageError(f"gpupdate does not know {arg!r} here", "/target:computer, /force")
    return _refresh(client)


def secedit(client: Client, args: list[str]) -> int:
    """``secedit /refreshpolicy machine_policy``."""
    words = [arg.lower() for arg in args if arg.lower() != "/enforce"]
    if words != ["/refreshpolicy", "machine_policy"]:
        raise Refused(
            f"secedit {' '.join(args)!r} is not supported",
            "only: secedit /refreshpolicy machine_policy",
        )
    return _refresh(client)


def _refresh(client: Client) -> int:
    """Say what is in force, as the daemon has it: there is no domain policy to look for."""
    status = client.call("Status")["status"]
    if status["state"] in ("failed", "drifted"):
        reasons = "; ".join([*status["failures"], *status["drift"]])
        raise Refused(
            f"the local policy is not in force as it should be: {reasons}",
            "'ipsecctl status' says what to do",
        )
    if status["state"] == "stopped":
        print(f"{NO_DOMAIN}; the policy agent is stopped and nothing is in force.")
    elif status["assigned"] is None:
        print(f"{NO_DOMAIN}; no local policy is assigned.")
    else:
        print(f"{NO_DOMAIN}; the local policy is in force.")
    return DONE
