"""Owns the ``ipseccmd`` and ``ipsecpol`` dialects: their switches, and which calls they mean."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from ipsecctl.client import Client
from ipsecctl.failures import DONE, REFUSED, USAGE, UsageError
from ipsecctl.presentation import outcome_line
from ipsecd.errors import InvalidInput, NotFound, Refused
from ipsecd.language.filters import Spec, format_filter, join_arguments, parse_spec
from ipsecd.model.values import Action

USAGE_TEXT = """\
usage: {0} [-w REG -p POLICY[:INTERVAL] -r RULE… [-x] [-y] [-o]] -f FILTER… [-n BLOCK|PASS]
       {0} -f "[FILTER]" "(FILTER)"…      dynamic: [..] blocks, (..) permits
       {0} -u                             delete every dynamic rule
filter: SOURCE[:PORT]=DESTINATION[:PORT[:PROTOCOL]]; 0 is this host, * is any, + is both ways"""

_IKE = ("-t", "-a", "-soft", "-1s", "-1k", "-1p", "-1f", "-1e")
_SHOWS = ("all", "filters", "policies", "stats", "gpo", "auth", "sas")


@dataclass(slots=True)
class _Command:
    """What the switches said."""

    filters: list[str] = field(default_factory=list)
    action: str = ""
    store: str = ""
    policy: str = ""
    rules: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    interface: str | None = None


def run(client: Client, args: list[str], program: str = "ipseccmd") -> int:
    """Carry out one command line of ``ipseccmd``."""
    if args[:1] and args[0].lower() == "show" and program == "ipseccmd":
        return _show(client, args[1:])
    if not args or any(arg in ("-?", "/?", "-h", "--help") for arg in args):
        print(USAGE_TEXT.format(program))
        return DONE if args else USAGE
    command = _parse(args)
    if "-u" in command.flags:
        if len(args) > 1:
            raise UsageError("-u stands alone", f"{program} -u")
        removed = client.call("FlushDynamic")["removed"]
        print(f"The command completed successfully: {removed} dynamic rules are deleted.")
        return DONE
    static = command.store or command.policy or command.rules or command.flags & {"-x", "-y", "-o"}
    if static:
        return _static(client, command)
    return _dynamic(client, command)


def run_ipsecpol(client: Client, args: list[str]) -> int:
    """Carry out one command line of ``ipsecpol``."""
    return run(client, args, "ipsecpol")


def _parse(args: list[str]) -> _Command:
    command = _Command()
    waiting = list(reversed(args))
    while waiting:
        arg = waiting.pop()
        switch = arg.lower().replace("/", "-", 1) if arg.startswith(("-", "/")) else arg.lower()
        if arg.startswith("\\"):
            host = arg.lstrip("\\")
            raise Refused(
                f"{arg!r} names another computer, and this tool changes this one only",
                f"run it there: ssh {host} ipsecctl …",
            )
        if switch == "-f":
            while waiting and not waiting[-1].startswith("-"):
                command.filters.append(waiting.pop())
        elif switch in ("-n", "-w", "-p", "-r"):
            _value(command, switch, waiting)
        elif switch in ("-x", "-y", "-o", "-u", "-confirm"):
            command.flags.add(switch)
        elif switch in ("-lan", "-dialup"):
            command.interface = switch[1:]
        elif switch.split(":")[0] in _IKE:
            raise Refused(
                f"{arg} asks for IPsec tunnels or keys",
                "this system blocks and permits and does not encrypt; leave it out",
            )
        else:
            raise UsageError(f"there is no switch {arg!r}", "-? shows those there are")
    return command


def _value(command: _Command, switch: str, waiting: list[str]) -> None:
    if not waiting:
        raise UsageError(f"{switch} needs a value")
    value = waiting.pop()
    if switch == "-n":
        command.action = _action(value)
    elif switch == "-w":
        if value.lower() != "reg":
            raise Refused(
                f"-w {value} edits a directory, and policies are kept on this host only",
                "use -w REG",
            )
        command.store = value
    elif switch == "-r":
        command.rules.append(value)
    else:
        name, colon, minutes = value.rpartition(":")
        if colon and minutes.isdecimal():
            print(f"The interval of {minutes} minutes is not needed: changes act at once.")
            value = name
        command.policy = value


def _action(text: str) -> str:
    word = text.upper()
    if word == "BLOCK":
        return "block"
    if word in ("PASS", "PERMIT"):
        return "permit"
    if word == "INPASS" or word.startswith(("ESP", "AH")):
        raise Refused(
            f"-n {text} asks for IPsec protection",
            "this system blocks and permits and does not encrypt: use BLOCK or PASS",
        )
    raise UsageError(f"-n {text} is not an action", "use BLOCK or PASS")


def _specs(command: _Command) -> list[tuple[str, str]]:
    """The filters as pairs of canonical text and action."""
    found = []
    for text in join_arguments(command.filters):
        spec = parse_spec(text)
        found.append((format_filter(spec.filter), _action_of(spec, command, text)))
    return found


def _action_of(spec: Spec, command: _Command, text: str) -> str:
    bracketed = spec.action.value if isinstance(spec.action, Action) else ""
    if bracketed and command.action and bracketed != command.action:
        raise Refused(
            f"the brackets of {text!r} say {bracketed} and -n says {command.action}",
            "leave one of them out",
        )
    if not bracketed and not command.action:
        raise Refused(
            f"nothing says what to do with {text!r}",
            "add -n BLOCK or -n PASS, or write '[FILTER]' to block and '(FILTER)' to permit",
        )
    return bracketed or command.action


def _dynamic(client: Client, command: _Command) -> int:
    specs = _specs(command)
    if not specs:
        raise UsageError("there is no filter", 'begin with -f, as in -f "[*=0:80:TCP]"')
    if "-confirm" in command.flags and not _confirmed(specs):
        print("Nothing was changed.")
        return REFUSED
    for action in ("block", "permit"):
        filters = [text for text, one in specs if one == action]
        if filters:
            given = {"filters": filters, "action": action, "interface": command.interface}
            rule = client.call("AddDynamic", given)["rule"]
            words = " ".join(rule["filters"])
            print(f"The command completed successfully: {action} {words} is in force.")
    return DONE


def _confirmed(specs: list[tuple[str, str]]) -> bool:
    for text, action in specs:
        print(f"{action} {text}")
    print("Put this in force? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _static(client: Client, command: _Command) -> int:
    if not command.store:
        print("warning: -p, -r, -x, -y and -o belong to -w REG, which is assumed", file=sys.stderr)
    if not command.policy:
        raise UsageError("-w REG needs a policy", "add -p NAME")
    flags = command.flags
    if "-x" in flags and flags & {"-y", "-o"}:
        raise UsageError("-x excludes -y and -o", "assign a policy, or unassign and delete it")
    if "-o" in flags:
        line = _delete(client, command, tolerant="-y" in flags)
    elif "-y" in flags:
        line = _outcome(client, "UnassignPolicy", {"name": command.policy})
    elif command.filters:
        line = _put(client, command)
    elif "-x" in flags:
        line = _outcome(client, "AssignPolicy", {"name": command.policy})
    else:
        line = _outcome(client, "CreatePolicy", {"name": command.policy})
    print(f"The command completed successfully: {line}.")
    return DONE


def _put(client: Client, command: _Command) -> str:
    if len(command.rules) != 1:
        raise UsageError("a static filter needs one rule", 'add -r "NAME"')
    specs = _specs(command)
    actions = {action for _, action in specs}
    if len(actions) > 1:
        raise InvalidInput("one rule has one action", "make a rule for each action")
    rule = {
        "name": command.rules[0],
        "action": actions.pop(),
        "filters": [text for text, _ in specs],
        "interface": command.interface,
    }
    given = {
        "policy": command.policy,
        "rules": [rule],
        "create": True,
        "assign": "-x" in command.flags,
    }
    return _outcome(client, "PutRules", given)


def _delete(client: Client, command: _Command, *, tolerant: bool) -> str:
    name = command.policy
    if not command.rules:
        given = {"name": name, "unassign": True, "missing_ok": tolerant}
        return _outcome(client, "DeletePolicy", given)
    try:
        if tolerant:
            client.call("UnassignPolicy", {"name": name})
        given = {"policy": name, "rules": command.rules, "delete_empty": True}
        return _outcome(client, "RemoveRules", given)
    except NotFound as error:
        if not tolerant:
            raise
        return error.message


def _outcome(client: Client, method: str, given: dict[str, object]) -> str:
    return outcome_line(client.call(method, given)["outcome"])


def _show(client: Client, args: list[str]) -> int:
    from ipsecctl import show

    words = [arg.lower() for arg in args]
    if not words or set(words) - set(_SHOWS):
        raise UsageError("show what?", f"one of: {', '.join(_SHOWS)}")
    wanted = _SHOWS[1:] if "all" in words else tuple(words)
    for word in wanted:
        if word in ("filters", "policies"):
            show.run(client, [word])
        elif word == "stats":
            show.stats(client, [])
        elif word == "gpo":
            print("There is no domain policy on this host.")
        else:
            print(f"There are no {word}: this system blocks and permits and does not encrypt.")
    return DONE
