"""Owns which command a name stands for; must not know what any of them does."""

from __future__ import annotations

import sys

from ipsecctl.failures import (
    DONE,
    INTERRUPTED,
    USAGE,
    UsageError,
    describe,
    exit_code,
    fields,
)
from ipsecctl.options import find_action, parse_options
from ipsecctl.verbs import DIALECTS, VERBS
from ipsecd.errors import IpsecdError
from ipsecd.output import begin, complain_text, finish, flush, say, say_json, say_text

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (None: ``sys.argv``) and return the exit code."""
    words = list(sys.argv if argv is None else argv)
    begin()
    name = program_name(words[0]) if words else "ipsecctl"
    try:
        code = _dispatch(name, words[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    except IpsecdError as error:
        # What was printed so far is written first, so that it stands before the error.
        flush()
        if name not in DIALECTS:
            say_error(error, words[2:])
        complain_text(describe(error, name))
        code = exit_code(error)
    return finish(code, name)


def say_error(error: IpsecdError, words: list[str]) -> None:
    """Say `error` on standard output, as a JSON document, if the `words` after a verb ask for it.

    Whoever judges packets one after the other gets it as a line, like each of the answers.
    """
    asked = words[: words.index("--")] if "--" in words else words
    if "--json" in asked:
        say_json(fields(error), indent=None if "--offline" in asked else 2)


def program_name(path: str) -> str:
    """The command that a program at `path` is: its base name in lower case without ``.exe``."""
    name = path.rpartition("/")[2].lower().removesuffix(".exe")
    return name if name in DIALECTS else "ipsecctl"


def _dispatch(name: str, args: list[str]) -> int:
    if name in DIALECTS:
        return _run_dialect(name, None, args)
    path, args = _take_socket(args, leading=True)
    if not args:
        from ipsecctl.usage import overview

        complain_text(overview())
        return USAGE
    word, following = args[0], args[1:]
    dialect = word.lower().removesuffix(".exe")
    if dialect in DIALECTS:
        return _run_dialect(dialect, path, following)
    if word in ("help", "--help", "-h", "-?"):
        return _help(following)
    if word in ("--version", "version"):
        from ipsecd import __version__

        say(f"ipsecctl {__version__}")
        return DONE
    verb = VERBS.get(word)
    if verb is None:
        from ipsecctl.usage import no_verb

        raise no_verb(word)
    if "--help" in following or "-h" in following:
        return _help([word, *following])
    later, following = _take_socket(following, leading=False)
    try:
        verb, following = find_action(verb, following)
        options, change = parse_options(verb, following), None
        if verb.changes:
            from ipsecctl.changing import change_of

            change = change_of(options)
        return _run(verb.handler, later or path, options, change)
    except UsageError as error:
        from ipsecctl.usage import synopsis

        raise UsageError(error.message, error.hint or f"write: {synopsis(verb)}") from error


def _help(words: list[str]) -> int:
    from ipsecctl.usage import help_on

    say_text(help_on([word for word in words if not word.startswith("-")]))
    return DONE


def _run_dialect(name: str, path: str | None, args: list[str]) -> int:
    from ipsecctl.changing import change_of_environment

    return _run(DIALECTS[name], path, args, change_of_environment())


def _run(target: str, path: str | None, command_line: object, change: dict[str, Any] | None) -> int:
    from ipsecctl.client import Client

    module, _, function = target.partition(":")
    # Not by importlib: that module takes longer to import than the table of verbs.
    imported = __import__(f"ipsecctl.{module}", fromlist=[function])
    client = Client(path, change=change)
    code: int = getattr(imported, function)(client, command_line)
    if client.waits_to_be_confirmed:
        from ipsecctl.changing import say_what_waits

        say_what_waits(client)
    return code


def _take_socket(args: list[str], *, leading: bool) -> tuple[str | None, list[str]]:
    """The value of ``--socket`` and the arguments without it; with `leading` only at the front."""
    path, remaining = None, list(args)
    at = 0
    while at < len(remaining) and remaining[at] != "--":
        option, equals, value = remaining[at].partition("=")
        if option == "--socket":
            if not equals and at + 1 == len(remaining):
                raise UsageError("option --socket needs a value", "write --socket PATH")
            path = value if equals else remaining[at + 1]
            del remaining[at : at + (1 if equals else 2)]
        elif leading:
            break
        else:
            at += 1
    return path, remaining


if __name__ == "__main__":
    sys.exit(main())
