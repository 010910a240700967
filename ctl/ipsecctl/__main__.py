"""Owns which command a name stands for; must not know what any of them does."""

from __future__ import annotations

import sys
from importlib import import_module

from ipsecctl.failures import DONE, INTERRUPTED, USAGE, UsageError, describe, exit_code
from ipsecd.errors import IpsecdError
from ipsecd.output import begin, complain_text, finish, flush, say, say_text
from ipsecd.quoting import quote

VERBS = {
    "status": "status:run",
    "show": "show:run",
    "stats": "show:stats",
    "block": "dynamic:block",
    "permit": "dynamic:permit",
    "unblock": "dynamic:unblock",
    "flush": "dynamic:flush",
    "quarantine": "quarantine:quarantine",
    "release": "quarantine:release",
    "apply": "policies:apply",
    "policy": "policies:policy",
    "rule": "policies:rule",
    "reload": "policies:reload",
    "check": "documents:check",
    "format": "documents:format_document",
    "diff": "documents:diff",
    "explain": "explain:run",
    "doctor": "doctor:run",
}
DIALECTS = {
    "ipseccmd": "ipseccmd:run",
    "ipsecpol": "ipseccmd:run_ipsecpol",
    "netdiag": "netdiag:run",
    "secedit": "agent:secedit",
    "gpupdate": "agent:gpupdate",
    "net": "agent:net",
}
"""The legacy commands; under their own names as after ``ipsecctl``, in any letter case."""


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` (``sys.argv``) is; the exit code."""
    words = list(sys.argv if argv is None else argv)
    begin()
    name = program_name(words[0]) if words else "ipsecctl"
    try:
        code = _dispatch(name, words[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    except IpsecdError as error:
        # What was said before stands before it.
        flush()
        complain_text(describe(error, name))
        code = exit_code(error)
    return finish(code, name)


def program_name(path: str) -> str:
    """The command that a program at `path` is: its base name in lower case without ``.exe``."""
    name = path.rpartition("/")[2].lower().removesuffix(".exe")
    return name if name in DIALECTS else "ipsecctl"


def _dispatch(name: str, args: list[str]) -> int:
    if name in DIALECTS:
        return _run(DIALECTS[name], None, args)
    path, args = _take_socket(args, leading=True)
    if not args:
        from ipsecctl.usage import overview

        complain_text(overview())
        return USAGE
    verb, rest = args[0], args[1:]
    dialect = verb.lower().removesuffix(".exe")
    if dialect in DIALECTS:
        return _run(DIALECTS[dialect], path, rest)
    if verb in ("help", "--help", "-h", "-?"):
        from ipsecctl.usage import help_on

        say_text(help_on(rest[0] if rest else None))
        return DONE
    if verb in ("--version", "version"):
        from ipsecd import __version__

        say(f"ipsecctl {__version__}")
        return DONE
    if verb not in VERBS:
        raise UsageError(f"there is no command {quote(verb)}", "'ipsecctl help' lists all")
    if "--help" in rest or "-h" in rest:
        from ipsecctl.usage import help_on

        say_text(help_on(verb))
        return DONE
    later, rest = _take_socket(rest, leading=False)
    try:
        return _run(VERBS[verb], later or path, rest)
    except UsageError as error:
        from ipsecctl.usage import synopsis

        raise UsageError(error.message, error.hint or synopsis(verb)) from error


def _run(target: str, path: str | None, args: list[str]) -> int:
    from ipsecctl.client import Client

    module, _, function = target.partition(":")
    code: int = getattr(import_module(f"ipsecctl.{module}"), function)(Client(path), args)
    return code


def _take_socket(args: list[str], *, leading: bool) -> tuple[str | None, list[str]]:
    """The value of ``--socket`` and the arguments without it; with `leading` only at the front."""
    path, rest = None, list(args)
    at = 0
    while at < len(rest) and rest[at] != "--":
        option, given, value = rest[at].partition("=")
        if option == "--socket":
            if not given and at + 1 == len(rest):
                raise UsageError("option --socket needs a value")
            path = value if given else rest[at + 1]
            del rest[at : at + (1 if given else 2)]
        elif leading:
            break
        else:
            at += 1
    return path, rest


if __name__ == "__main__":
    sys.exit(main())
