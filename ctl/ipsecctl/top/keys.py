"""Owns which keys the bytes of a terminal stand for; must not know what keys do.

The sequences are those of ECMA-48 and of xterm; others that begin like them are swallowed whole.
"""

from __future__ import annotations

import codecs
import re

NAMED = {
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace", "\t": "tab",
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[H": "home", "\x1b[F": "end",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOH": "home", "\x1bOF": "end",
    "\x1b[1~": "home", "\x1b[4~": "end", "\x1b[5~": "page up", "\x1b[6~": "page down",
}  # fmt: skip
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO[ -~]")
_BEGUN = re.compile(r"\x1b(\[[0-?]*[ -/]*|O)?")
_LONGEST = 64


class Keys:
    """What was typed, key by key."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting = ""

    def typed(self, data: bytes) -> list[str]:
        """The keys in `data`: the names of some, and the characters of all others.

        What may be the beginning of a sequence waits for the rest of it.
        """
        text, self._waiting = self._waiting + self._decoder.decode(data), ""
        keys = []
        while text:
            sequence = _SEQUENCE.match(text)
            if sequence:
                keys.append(NAMED.get(sequence[0], ""))
                text = text[sequence.end() :]
            elif _BEGUN.fullmatch(text) and len(text) < _LONGEST:
                self._waiting, text = text, ""
            elif text[0] == "\x1b":
                keys.append("escape")
                text = text[1:]
            else:
                keys.append(NAMED.get(text[0], text[0] if text[0].isprintable() else ""))
                text = text[1:]
        return [key for key in keys if key]

    def waits(self) -> bool:
        """Whether a sequence has begun that may never end: the escape key sends its beginning."""
        return bool(self._waiting)

    def no_more(self) -> list[str]:
        """The keys in what has waited, now that nothing came after it."""
        waiting, self._waiting = self._waiting, ""
        return ["escape"] if waiting else []
