"""Owns the legacy commands around the agent: ``net``, ``secedit`` and ``gpupdate``."""

from __future__ import annotations

from ipsecctl.client import Client
from ipsecctl.failures import DONE, UsageError
from ipsecd.errors import Refused

NO_DOMAIN = "There is no domain policy on this host; the local policy is in force."


def net(client: Client, args: list[str]) -> int:
    """``net start policyagent`` and ``net stop policyagent``."""
    words = [arg.lower() for arg in args]
    if len(words) != 2 or words[0] not in ("start", "stop") or words[1] != "policyagent":
        raise UsageError(
            f"'net {' '.join(args)}' is not known here",
            "there are: net start policyagent, net stop policyagent",
        )
    outcome = client.call("Start" if words[0] == "start" else "Stop")["outcome"]
    print(f"The IPSec Policy Agent: {outcome['message']}.")
    return DONE


def gpupdate(_client: Client, args: list[str]) -> int:
    """``gpupdate [/target:computer] [/force]``."""
    for arg in args:
        if arg.lower().replace("-", "/") not in ("/target:computer", "/force"):
            raise UsageError(f"gpupdate does not know {arg!r} here", "/target:computer, /force")
    print(NO_DOMAIN)
    return DONE


def secedit(_client: Client, args: list[str]) -> int:
    """``secedit /refreshpolicy machine_policy``."""
    words = [arg.lower() for arg in args if arg.lower() != "/enforce"]
    if words != ["/refreshpolicy", "machine_policy"]:
        raise Refused(
            f"secedit {' '.join(args)!r} is not supported",
            "only: secedit /refreshpolicy machine_policy",
        )
    print(NO_DOMAIN)
    return DONE
