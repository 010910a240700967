"""Owns ``find`` and ``findstr``, which scripts ask with whether something is there."""

from __future__ import annotations

import re
from collections.abc import Callable

from ipsecctl.running.words import words_of
from ipsecd.errors import Refused
from ipsecd.quoting import quote

_PATTERNS = frozenset("*[]^$\\")
"""What makes a pattern of the text that ``findstr`` looks for."""


def found(name: str, text: str, lines: list[str]) -> list[str]:
    """Those of `lines` that ``find`` or ``findstr``, followed by `text`, would print.

    Raises ``Refused`` for what asks for more than whether something is there.
    """
    matches = _find(text) if name == "find" else _findstr(words_of(text))
    return [line for line in lines if matches(line)]


def _find(text: str) -> Callable[[str], bool]:
    switches, quoted, rest = text.partition('"')
    wanted, closed, files = rest.partition('"')
    words = (switches + files).lower().split()
    if not quoted or not closed or set(words) - {"/i", "/c", "/n"}:
        raise Refused(
            f"{quote(f'find {text}')} is not taken", 'write: | find "TEXT", or | find /i "TEXT"'
        )
    if "/i" in words:
        return lambda line: wanted.lower() in line.lower()
    return lambda line: wanted in line


def _findstr(words: list[str]) -> Callable[[str], bool]:
    literal = ignores_case = False
    wanted: list[str] = []
    rest: list[str] = []
    for word in words:
        switch = word.lower()
        if switch.startswith("/c:"):
            wanted.append(word[len("/c:") :])
        elif switch in ("/i", "/l", "/r", "/n", "/m"):
            literal = literal or switch == "/l"
            ignores_case = ignores_case or switch == "/i"
        elif switch.startswith("/"):
            raise Refused(
                f"findstr {quote(word)} is not taken", "taken are /i, /l, /r, /n, /m and /c:TEXT"
            )
        else:
            rest.append(word)
    if not wanted and rest:
        # One argument is all there is to look for; its words are looked for one by one.
        wanted = rest.pop(0).split()
    if not wanted or rest:
        raise Refused(
            "findstr looks into what is piped to it, for one text", 'write: | findstr "TEXT"'
        )
    if not literal and any(_PATTERNS.intersection(text) for text in wanted):
        raise Refused(
            f"findstr takes {quote(' '.join(wanted))} for a pattern",
            "write: | findstr /l, or | find",
        )
    patterns = [re.escape(text) for text in wanted]
    if not literal:
        patterns = [pattern.replace(re.escape("."), ".") for pattern in patterns]
    pattern = re.compile("|".join(patterns), re.IGNORECASE if ignores_case else 0)
    return lambda line: pattern.search(line) is not None
