"""Owns what the ``ipseccmd`` and ``ipsecpol`` dialects do; must not know how switches are typed."""

from __future__ import annotations

from ipsecctl import legacy_dynamic
from ipsecctl.client import Client
from ipsecctl.failures import DONE, REFUSED, USAGE, UsageError
from ipsecctl.legacy_computer import check_is_this
from ipsecctl.legacy_switches import Switches, parse_switches
from ipsecctl.presentation import outcome_line, print_warnings
from ipsecd.errors import NotFound, Refused
from ipsecd.language.documents import parse_policy
from ipsecd.model.values import MAX_NAME
from ipsecd.output import ask, say, say_text
from ipsecd.quoting import count, quote

USAGE_TEXT = """\
usage: {0} -w REG -p POLICY[:MINUTES] -r RULE -f FILTER… -n BLOCK|PASS [-x] [-lan|-dialup]
       {0} -w REG -p POLICY [-x | -y | -o | -y -o | -o -x | -r RULE… -o]
       {0} -f "[FILTER]" "(FILTER)"…      dynamic: [..] blocks, (..) permits
       {0} [-p POLICY] [-r RULE] -f FILTER… -n BLOCK|PASS [-x | -y | -o]       dynamic
       {0} -u                             delete every dynamic rule
filter: SOURCE[:PORT]=DESTINATION[:PORT[:PROTOCOL]]; 0 is this host, * is any, + is both ways
-x assigns the policy, -y unassigns it, -o deletes; -confirm asks before anything is changed"""
SHOW_USAGE = "       {0} show {{all|filters|policies|stats|gpo|auth|sas}}…"

_FILES = {
    "export": "ipsecctl backup FILE keeps policies, lists and dynamic rules of this host",
    "import": "ipsecctl restore FILE puts back what ipsecctl backup has kept",
}
_SHOWS = ("filters", "policies", "stats", "gpo", "auth", "sas")


def run(client: Client, args: list[str]) -> int:
    """Carry out one command line of ``ipseccmd``."""
    if args and args[0].lower() in _FILES:
        raise Refused(
            f"{args[0].lower()} is about files of the policy store of Windows, and there is none",
            _FILES[args[0].lower()],
        )
    if args and args[0].lower() == "show":
        return _show(client, args[1:])
    return _run(client, args, f"{USAGE_TEXT}\n{SHOW_USAGE}".format("ipseccmd"))


def run_ipsecpol(client: Client, args: list[str]) -> int:
    """Carry out one command line of ``ipsecpol``, which has no ``show``."""
    return _run(client, args, USAGE_TEXT.format("ipsecpol"))


def _run(client: Client, args: list[str], usage: str) -> int:
    if not args or any(arg in ("-?", "/?", "-h", "--help") for arg in args):
        say_text(usage)
        return DONE if args else USAGE
    switches = parse_switches(args)
    if switches.static:
        _check_static(switches)
    elif "-u" not in switches.flags:
        legacy_dynamic.check(switches)
    check_is_this(client, switches.computer)
    if switches.interval_min is not None:
        say(
            f"Changes act at once: a polling interval of {count(switches.interval_min, 'minute')} "
            "is not needed."
        )
    if "-confirm" in switches.flags and not _confirmed(switches):
        say("Nothing was changed.")
        return REFUSED
    if "-u" in switches.flags:
        removed = client.call("FlushDynamic")["removed"]
        line = f"{count(removed, 'dynamic rule')} deleted, none is in force"
    else:
        line = (_static if switches.static else legacy_dynamic.carry_out)(client, switches)
    say_text(f"The command completed successfully: {line}.")
    return DONE


def _check_static(switches: Switches) -> None:
    """Raise for switches that are missing, or that contradict each other."""
    flags = switches.flags
    if not switches.policy:
        raise Refused("a static rule belongs to a policy", "add -p NAME")
    if {"-x", "-y"} <= flags and "-o" not in flags:
        raise Refused("-x assigns the policy and -y unassigns it", "leave one of them out")
    if switches.filters and len(switches.rules) > 1:
        raise Refused("the filters of -f make one rule, which needs one name", "keep one -r")
    if switches.rules and not switches.had_filters and "-o" not in flags:
        raise Refused("-r names a rule, and nothing says what to do with it", "add -f, or -o")
    if len({action for _, action in switches.filters}) > 1:
        raise Refused("the filters of one rule have one action", "make a rule for each action")


def _confirmed(switches: Switches) -> bool:
    """Whether the person says yes to what is about to be done."""
    for text, action in switches.filters:
        say(f"{action} {text}")
    if switches.policy:
        what = " ".join(sorted(switches.flags - {"-confirm"}))
        say(f"policy {switches.policy!r} {what}".rstrip())
    return ask("Carry this out? [y/N] ").lower() in ("y", "yes")


def _static(client: Client, switches: Switches) -> str:
    name, flags = switches.policy, switches.flags
    # What is written so starts clean, or undoes a rule that the script spells out once more.
    tolerant = bool(flags & {"-x", "-y"}) or switches.had_filters
    if "-o" in flags:
        return _delete(client, switches, tolerant=tolerant)
    if "-y" in flags:
        return _unassign(client, name, tolerant=switches.had_filters)
    if switches.filters:
        rule = {
            "name": switches.rules[0] if switches.rules else _name_of(switches),
            "action": switches.filters[0][1],
            "filters": [text for text, _ in switches.filters],
            "interface": switches.interface,
        }
        parameters = {"policy": name, "rules": [rule], "create": True, "assign": "-x" in flags}
        return _outcome(client, "PutRules", parameters)
    if "-x" in flags:
        return _assign(client, name)
    try:
        client.call("GetPolicy", {"name": name})
    except NotFound:
        return _outcome(client, "CreatePolicy", {"name": name, "description": None})
    return f"policy {name!r} exists already"


def _delete(client: Client, switches: Switches, *, tolerant: bool) -> str:
    """Delete a policy or some of its rules.

    With `tolerant` it is no error if they do not exist: scripts delete what they write anew.
    """
    name = switches.policy
    if not switches.rules:
        parameters = {"name": name, "unassign": True, "missing_ok": tolerant}
        return _outcome(client, "DeletePolicy", parameters)
    rules = list(switches.rules)
    removal = {"policy": name, "rules": rules, "delete_empty": True}
    if tolerant:
        try:
            if "-y" in switches.flags:
                client.call("UnassignPolicy", {"name": name})
            if len(rules) == 1:
                return _outcome(client, "RemoveRules", removal)
            document = client.call("GetPolicy", {"name": name})["document"]
        except NotFound as error:
            return error.message
        stored = {rule.name for rule in parse_policy(document).rules}
        removal["rules"] = [rule for rule in rules if rule in stored]
        if not removal["rules"]:
            return f"policy {name!r} has no such rule"
    return _outcome(client, "RemoveRules", removal)


def _name_of(switches: Switches) -> str:
    """The name of a rule that has none: its filters, so that it is the same rule the next time."""
    name = " ".join(text for text, _ in switches.filters)
    if len(name) > MAX_NAME:
        raise Refused("so many filters need a name of their rule", 'add -r "NAME"')
    return name


def _assign(client: Client, name: str) -> str:
    """Assign a policy; one that is absent is created, if that takes no other out of force."""
    try:
        return _outcome(client, "AssignPolicy", {"name": name})
    except NotFound:
        if client.call("Status")["status"]["assigned"] is not None:
            raise
        parameters = {"policy": name, "rules": [], "create": True, "assign": True}
        return _outcome(client, "PutRules", parameters)


def _unassign(client: Client, name: str, *, tolerant: bool) -> str:
    try:
        return _outcome(client, "UnassignPolicy", {"name": name})
    except NotFound as error:
        if not tolerant:
            raise
        return error.message


def _outcome(client: Client, method: str, parameters: dict[str, object]) -> str:
    outcome = client.call(method, parameters)["outcome"]
    print_warnings(outcome["warnings"])
    return outcome_line(outcome)


def _show(client: Client, args: list[str]) -> int:
    from ipsecctl import show

    words = [arg.lower() for arg in args]
    unknown = set(words) - {"all", *_SHOWS}
    if not words or unknown:
        raise UsageError(
            f"'show' has no {quote(min(unknown))}" if unknown else "'show' needs to know what",
            f"one of: all, {', '.join(_SHOWS)}",
        )
    for word in _SHOWS if "all" in words else dict.fromkeys(words):
        if word in ("filters", "policies"):
            show.show_list(client, word)
        elif word == "stats":
            show.print_stats(client)
        elif word == "gpo":
            show.domain(client)
        else:
            what = "authentication methods" if word == "auth" else "security associations"
            say(f"There are no {what}: this system blocks and permits and does not encrypt.")
    return DONE
