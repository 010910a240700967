"""Owns which command a name stands for; must not know what any of them does."""

from __future__ import annotations

import sys

from ipsecctl.failures import DONE, INTERRUPTED, USAGE, UsageError, describe, exit_code
from ipsecctl.options import find_action, parse_options
from ipsecctl.verbs import DIALECTS, VERBS
from ipsecd.errors import IpsecdError
from ipsecd.output import begin, complain_text, finish, flush, say, say_text


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
    word, rest = args[0], args[1:]
    dialect = word.lower().removesuffix(".exe")
    if dialect in DIALECTS:
        return _run(DIALECTS[dialect], path, rest)
    if word in ("help", "--help", "-h", "-?"):
        return _help(rest)
    if word in ("--version", "version"):
        from ipsecd import __version__

        say(f"ipsecctl {__version__}")
        return DONE
    verb = VERBS.get(word)
    if verb is None:
        from ipsecctl.usage import no_verb

        raise no_verb(word)
    if "--help" in rest or "-h" in rest:
        return _help([word, *rest])
    later, rest = _take_socket(rest, leading=False)
    try:
        verb, rest = find_action(verb, rest)
        return _run(verb.handler, later or path, parse_options(verb, rest))
    except UsageError as error:
        from ipsecctl.usage import synopsis

        raise UsageError(error.message, error.hint or f"write: {synopsis(verb)}") from error


def _help(words: list[str]) -> int:
    from ipsecctl.usage import help_on

    say_text(help_on([word for word in words if not word.startswith("-")]))
    return DONE


def _run(target: str, path: str | None, given: object) -> int:
    from ipsecctl.client import Client

    module, _, function = target.partition(":")
    # The module importlib would take longer to import than the table of verbs.
    imported = __import__(f"ipsecctl.{module}", fromlist=[function])
    code: int = getattr(imported, function)(Client(path), given)
    return code


def _take_socket(args: list[str], *, leading: bool) -> tuple[str | None, list[str]]:
    """The value of ``--socket`` and the arguments without it; with `leading` only at the front."""
    path, rest = None, list(args)
    at = 0
    while at < len(rest) and rest[at] != "--":
        option, given, value = rest[at].partition("=")
        if option == "--socket":
            if not given and at + 1 == len(rest):
                raise UsageError("option --socket needs a value", "write --socket PATH")
            path = value if given else rest[at + 1]
            del rest[at : at + (1 if given else 2)]
        elif leading:
            break
        else:
            at += 1
    return path, rest


if __name__ == "__main__":
    sys.exit(main())
