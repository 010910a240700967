"""Owns how verbs are explained in words: synopses, help, and what somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from ipsecctl.failures import UsageError
from ipsecctl.grammar import JSON, Argument, Option, Verb
from ipsecctl.verbs import DIALECTS, GROUPS, VERBS
from ipsecd.quoting import quote

MOST = 30
"""A word of more characters is not compared with what there is: nobody mistypes so many."""
WIDTH, LINE = 20, 80
"""The widths of the column of names and of a whole line, in characters."""
DETAILS = """
--socket PATH         where the daemon listens, before or after the command;
                      else $IPSECD_SOCKET, else /run/ipsecd/ipsecd.sock
exit                  0 done · 1 refused; 'status': failed or drifted;
                      'diff': different · 2 usage · 3 daemon not reachable"""


def synopsis(verb: Verb) -> str:
    """How a verb without actions, or an action, is written."""
    return " ".join([verb.path, *_arguments(verb), *_options(verb)])


def synopses(verb: Verb) -> list[str]:
    """How `verb` is written, a line for each of its actions."""
    if not verb.actions:
        return [synopsis(verb)]
    lines = []
    for action in verb.actions.values():
        text = synopsis(action)
        if action.name == verb.default:
            text = text.replace(action.path, f"{verb.path} [{action.name}]", 1)
        lines.append(text)
    return lines


def overview() -> str:
    """All verbs, a line each."""
    from textwrap import wrap

    names_of_old = wrap(", ".join(DIALECTS), LINE - len("  "), break_on_hyphens=False)
    lines = ["usage: ipsecctl [--socket PATH] COMMAND …"]
    for title, names in GROUPS.items():
        lines += ["", title, *(f"  {name:<{WIDTH}}{VERBS[name].does}" for name in names)]
    lines += ["", "The old commands, as they were", *(f"  {line}" for line in names_of_old)]
    return "\n".join([*lines, DETAILS, "", "'ipsecctl help COMMAND' explains one of them"])


def help_on(words: list[str]) -> str:
    """The help on the verb or action that `words` name, or on all; raises ``UsageError``."""
    if not words or words[0].lower() in DIALECTS:
        return overview()
    verb = VERBS.get(words[0])
    if verb is None:
        raise no_verb(words[0])
    for word in words[1:]:
        verb = verb.actions.get(word, verb)
    head, *more = synopses(verb)
    lines = [f"usage: {head}", *(f"       {line}" for line in more), ""]
    lines += [f"{verb.does[0].upper()}{verb.does[1:]}.", ""]
    entries = [(action.name, action.does) for action in verb.actions.values()]
    explained: dict[str, Argument | Option] = {}
    every = (verb, *verb.actions.values())
    explained |= {a.name: a for described in every for a in described.arguments}
    explained |= {_named(o): o for described in every for o in described.options if o is not JSON}
    explained[JSON.name] = JSON
    entries += [(name, part.explanation) for name, part in explained.items()]
    lines += [line for name, text in entries for line in _entry(name, text)]
    return "\n".join([*lines, "", f"example: {verb.example}"])


def no_verb(word: str) -> UsageError:
    """The error that there is no verb `word`, which says what may have been meant."""
    if word.startswith("-"):
        return UsageError(
            f"there is no option {quote(word)} before a command",
            "options follow the command, as in: ipsecctl status --json",
        )
    suggestion = meant(word, VERBS.values(), "ipsecctl ")
    if not suggestion and (near := _near(word.lower(), DIALECTS)):
        suggestion = f"did you mean 'ipsecctl {near}'? "
    return UsageError(
        f"there is no command {quote(word)}", f"{suggestion}'ipsecctl help' lists all"
    )


def meant(word: str, things: Iterable[Verb | Option], before: str = "") -> str:
    """The question whether one of `things` was meant by `word`, or nothing if none is like it.

    `before` is what is written before its name.
    """
    names: dict[str, str] = {}
    for thing in things:
        synonyms = thing.also if isinstance(thing, Verb) else ()
        names |= dict.fromkeys((*synonyms, thing.name), thing.name)
    near = _near(word.lower(), names)
    return f"did you mean '{before}{names[near]}'? " if near else ""


def _near(word: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    if len(word) > MOST:
        return ""
    return (get_close_matches(word, names, 1) or [""])[0]


def _entry(name: str, text: str) -> list[str]:
    from textwrap import wrap

    lines = wrap(text, LINE - WIDTH - 2)
    if len(name) >= WIDTH:
        lines = ["", *lines]
    return [
        f"  {name_column:<{WIDTH}}{text_column}".rstrip()
        for name_column, text_column in zip_longest([name], lines, fillvalue="")
    ]


def _named(option: Option) -> str:
    return f"{option.short}, {option.written}" if option.short else option.written


def _arguments(verb: Verb) -> list[str]:
    words = []
    for argument in verb.arguments:
        stand_ins = [option.name for option in verb.options if option.instead == argument.name]
        if stand_ins:
            words.append(f"{{{'|'.join([argument.name, *stand_ins])}}}")
        elif not argument.least:
            words.append(f"[{argument.name}]{'…' if argument.most is None else ''}")
        elif argument.most is None:
            words.append(f"{argument.name}…")
        else:
            words += [argument.name, *[f"[{argument.name}]"] * (argument.most - 1)]
    return words


def _options(verb: Verb) -> list[str]:
    words = []
    names = {option.name for option in verb.options}
    arguments = {argument.name for argument in verb.arguments}
    for option in verb.options:
        if option.within or option.instead in (names | arguments):
            continue
        alternatives = [o.written for o in verb.options if o.instead == option.name]
        inner = [_repeated(o) for o in verb.options if o.within == option.name]
        # What goes with an option stands behind it, and not behind another in its place.
        order = [*alternatives, option.written] if inner else [option.written, *alternatives]
        text = " ".join(["|".join(order), *inner])
        words.append(text if option.required else _optional(option, text))
    return words


def _repeated(option: Option) -> str:
    return option.written if option.required else _optional(option, option.written)


def _optional(option: Option, text: str) -> str:
    return f"[{text}]…" if option.repeats else f"[{text}]"
