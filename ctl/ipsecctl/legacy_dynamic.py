"""Owns what ``ipseccmd`` does without ``-w``: dynamic rules, with names or without.

A rule that a command names by ``-p`` and ``-r`` is one dynamic rule, ``POLICY: RULE``, beside all
others. Who names policies without ``-w`` means several that act together until the agent stops.
"""

from __future__ import annotations

from ipsecctl.client import Client
from ipsecctl.legacy_switches import Switches
from ipsecctl.presentation import print_warnings
from ipsecd.errors import IpsecdError, Refused
from ipsecd.quoting import count, few, quote

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any


def check(switches: Switches) -> None:
    """Raise for switches that are missing, or that contradict each other."""
    if switches.filters and _is_named(switches):
        if len(switches.rules) > 1:
            raise Refused("the filters of -f make one rule, which needs one name", "keep one -r")
        if len({action for _, action in switches.filters}) > 1:
            raise Refused("the filters of one rule have one action", "make a rule for each action")
    if not switches.filters and not _is_off(switches) and not switches.policy:
        raise Refused("there is no filter", 'add -f, as in -f "[*=0:80:TCP]"')
    if _is_off(switches) and not _is_named(switches):
        raise Refused(
            "nothing says what is to be switched off", "add -p POLICY, or -u for all dynamic rules"
        )


def carry_out(client: Client, switches: Switches) -> str:
    """Do what the command line says; return what is in force then, in words."""
    if _is_off(switches):
        return _remove(client, switches)
    if not switches.filters:
        return _stay(client, switches)
    if _is_named(switches):
        return _put(client, switches)
    return _add(client, switches)


def _is_named(switches: Switches) -> bool:
    return bool(switches.policy or switches.rules)


def _is_off(switches: Switches) -> bool:
    return bool(switches.flags & {"-y", "-o"})


def _name(policy: str, rule: str) -> str:
    return f"{policy}: {rule}" if policy and rule else policy or rule


def _put(client: Client, switches: Switches) -> str:
    """Put the rule of this name in force, in the place of the one that has it."""
    reply = client.call(
        "AddDynamicRules",
        {
            "filters": [text for text, _ in switches.filters],
            "action": switches.filters[0][1],
            "name": _name(switches.policy, switches.rules[0] if switches.rules else ""),
            "existing": "replace",
            "interface": switches.interface,
        },
    )
    print_warnings(reply["warnings"])
    return _in_force(reply["rules"])


def _stay(client: Client, switches: Switches) -> str:
    """What is in force of a policy that a command assigns, and has no filters for."""
    names = _names_of(client, switches)
    if not names:
        raise Refused(
            f"there is no filter, and no dynamic rule of policy {quote(switches.policy)}",
            "without -w rules are dynamic: add -f; -w REG is for the policies that are stored",
        )
    return f"{count(len(names), 'dynamic rule')} of policy {quote(switches.policy)} in force"


def _remove(client: Client, switches: Switches) -> str:
    """Remove the rules that are named. It is no error if there are none: scripts start clean so."""
    names = _names_of(client, switches)
    if not names:
        what = f"policy {quote(switches.policy)}" if switches.policy else "that name"
        return f"there is no dynamic rule of {what}"
    reply = client.call("RemoveDynamicRules", {"selectors": names})
    return f"{count(len(reply['removed']), 'dynamic rule')} deleted: {few(reply['removed'])}"


def _names_of(client: Client, switches: Switches) -> list[str]:
    """The names of the dynamic rules that the command line speaks of."""
    there = [str(rule["name"]) for rule in client.call("ListDynamic")["rules"]]
    if switches.rules:
        wanted = {_name(switches.policy, rule) for rule in switches.rules}
        return [name for name in there if name in wanted]
    start = _name(switches.policy, " ")[:-1]
    return [name for name in there if name == switches.policy or name.startswith(start)]


def _add(client: Client, switches: Switches) -> str:
    """Add the filters, one rule for each action; permits first: they may keep a login alive."""
    added: list[dict[str, Any]] = []
    try:
        for action in ("permit", "block"):
            filters = [text for text, wanted in switches.filters if wanted == action]
            if filters:
                parameters = {"filters": filters, "action": action, "interface": switches.interface}
                reply = client.call("AddDynamic", parameters)
                added.append(reply["rule"])
                print_warnings(reply["warnings"])
    except IpsecdError as refusal:
        # One command is one change: if its second half fails, its first half must not stay.
        for rule in added:
            _take_back(client, str(rule["name"]), refusal)
        raise
    return _in_force(added)


def _take_back(client: Client, name: str, refusal: IpsecdError) -> None:
    """Remove a dynamic rule, or have `refusal` say that it is still in force."""
    try:
        client.call("RemoveDynamic", {"selector": name})
    except IpsecdError as error:
        raise IpsecdError(
            f"{refusal.message}; and rule {name!r} could not be taken back: {error.message}",
            f"see 'ipsecctl show dynamic', and run 'ipsecctl unblock {name}'",
        ) from error


def _in_force(rules: list[dict[str, Any]]) -> str:
    words = "; ".join(f"{rule['action']} {few(rule['filters'])}" for rule in rules)
    return f"{words} in force until the agent stops"
