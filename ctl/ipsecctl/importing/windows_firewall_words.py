"""Owns the words of commands as cmd and PowerShell take them apart; must not know what they do."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipsecctl.importing.source import InputFile, Line

MAX_LINE = 64 << 10
_ITEM = re.compile(
    r"""\s*(?:(?P<comma>,)|(?P<bracket>@?\(|\))|(?P<end>[|;&>{}#])"""
    r"""|"(?P<double>(?:[^"`]|`.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\s,;|&>(){}"']+))"""
)
_CMD_WORD = re.compile(r'(?:"[^"]*"|[^\s"&|<>])+')


class Unreadable(Exception):
    """A command whose words are known only where it runs; the text says why."""


def logical_lines(file: InputFile) -> Iterator[Line]:
    """The lines, put together where one ends in ``^`` or a backtick, by the number of the first."""
    parts: list[str] = []
    first = 1
    for number, raw in enumerate(file.text.split("\n"), 1):
        if not parts:
            first = number
        text = raw.rstrip()
        goes_on = text.endswith(("^", "`")) and sum(map(len, parts)) < MAX_LINE
        parts.append(text[:-1] if goes_on else text)
        if not goes_on:
            yield Line(file.path, first, " ".join("".join(parts).split()))
            parts = []
    if parts:
        yield Line(file.path, first, " ".join("".join(parts).split()))


def cmd_words(text: str) -> list[str]:
    """The words of a command of cmd, without what is behind it; quotes stay where they were."""
    end = _end_of_command(text)
    return _CMD_WORD.findall(text[:end])


def _end_of_command(text: str) -> int:
    quoted = False
    for at, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif not quoted and letter in "&|<>":
            return at
    return len(text)


def parameters(text: str) -> dict[str, list[str]]:
    """The parameters of a command of PowerShell by their names in lower case, without ``-``.

    Raises ``Unreadable`` for what is known only where it runs.
    """
    found: dict[str, list[str]] = {}
    name = ""
    at = 0
    expects = False
    while at < len(text) and (match := _ITEM.match(text, at)):
        at = match.end()
        kind = match.lastgroup
        value = match[kind] if kind else ""
        if kind == "end":
            break
        if kind == "comma":
            expects = True
        elif kind == "bare" and value.startswith("-") and len(value) > 1 and value[1].isalpha():
            name, _, given = value[1:].lower().partition(":")
            found[name] = [_plain(given)] if given else []
            expects = not given
        elif kind == "bracket":
            expects = True
        elif not name or not (expects or not found[name]):
            raise Unreadable(f"{value[:40]!r} stands where a parameter is expected")
        else:
            found[name].append(value if kind == "single" else _plain(value))
            expects = False
    if text[at:].strip() and text[at - 1 : at] not in set("|;&>{}#"):
        raise Unreadable("a quote in it is not closed")
    return found


def _plain(text: str) -> str:
    """A word without what PowerShell puts in; ``$true`` and ``$false`` are words."""
    if text.lower() in {"$true", "$false"}:
        return text[1:]
    if "$" in text:
        raise Unreadable("it has variables")
    return text.replace("`", "")
