"""Owns variables of batch files, and putting their values into text; must not know commands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

MAX_LENGTH = 8191
"""How long a command line of Windows may be, and so a value."""
WINDOWS = {
    "systemroot": "C:\\Windows",
    "windir": "C:\\Windows",
    "systemdrive": "C:",
    "programfiles": "C:\\Program Files",
    "programfiles(x86)": "C:\\Program Files (x86)",
    "comspec": "C:\\Windows\\system32\\cmd.exe",
}
"""What stands in paths of programs, whose last part is all that counts here."""
HERE = "~dp0"
"""Where the batch file is, with a slash at the end; scripts put it before the names of files."""
SPECIAL = frozenset("&|<>^")
_PLACE = re.compile(r"%~dp0\\?", re.IGNORECASE)
_ARGUMENT = re.compile(r"%~?[a-z]*[0-9]|%\*", re.IGNORECASE)
_LOOP = re.compile(r"%%(~?)([A-Za-z0-9])")


class Missing(Enum):
    """What becomes of a variable that has no value."""

    REFUSED = "refused"
    KEPT = "kept as it is written"
    EMPTY = "empty, as in cmd"


def with_values(
    text: str,
    values: Mapping[str, str],
    loops: Mapping[str, str],
    missing: Missing = Missing.REFUSED,
) -> str:
    """`text` with the values of variables in their places.

    `values` are by lower-case names, `loops` by the letters of loops. Raises ``InvalidInput``, also
    for a value that would make other commands of the line.
    """
    if "%" not in text:
        return text
    pieces: list[str] = []
    length = at = 0
    while at < len(text):
        sign = text.find("%", at)
        if sign < 0:
            sign = len(text)
        pieces.append(text[at:sign])
        piece, at = _replaced(text, sign, values, loops, missing)
        pieces.append(piece)
        length += len(pieces[-1]) + len(pieces[-2])
        if length > MAX_LENGTH:
            raise InvalidInput(
                f"with the values of its variables this line has more than {MAX_LENGTH:,} "
                "characters",
                "cmd takes no longer ones either",
            )
    return "".join(pieces)


def _replaced(
    text: str,
    sign: int,
    values: Mapping[str, str],
    loops: Mapping[str, str],
    missing: Missing,
) -> tuple[str, int]:
    """What comes in the place of what begins with the percent sign there, and where that ends."""
    if sign >= len(text):
        return "", sign
    if found := _LOOP.match(text, sign):
        if found[2] in loops:
            value = loops[found[2]]
            return _checked(value.strip('"') if found[1] else value, f"%%{found[2]}"), found.end()
        if found[1]:
            raise InvalidInput(
                f"%%~{found[2]} is no variable of a loop here", "%%i and %%~i are taken, in a loop"
            )
    if text.startswith("%%", sign):
        return "%", sign + 2
    if found := _PLACE.match(text, sign):
        return _checked(values.get(HERE, "./"), "%~dp0"), found.end()
    if found := _ARGUMENT.match(text, sign):
        if missing is not Missing.REFUSED:
            return "", found.end()
        raise InvalidInput(
            f"{found[0]} is what somebody writes behind the name of the file, and nobody has",
            "write the value into the file",
        )
    end = text.find("%", sign + 1)
    if end < 0:
        # As cmd has it: a percent sign alone counts for nothing.
        return "", sign + 1
    name = text[sign + 1 : end]
    return _value(name, values, missing), end + 1


def _value(name: str, values: Mapping[str, str], missing: Missing) -> str:
    value = values.get(name.lower())
    if value is not None:
        return _checked(value, f"%{name}%")
    if missing is Missing.KEPT:
        return f"%{name}%"
    if ":" in name:
        raise InvalidInput(
            f"{quote(f'%{name}%')} takes a part of a value, or replaces a part",
            "write the value that it comes to",
        )
    if missing is Missing.EMPTY:
        return ""
    raise InvalidInput(
        f"{quote(f'%{name}%')} has no value",
        "set it in the file, or write the value in its place",
    )


def _checked(value: str, name: str) -> str:
    if not SPECIAL.isdisjoint(value):
        raise InvalidInput(
            f"the value of {name} holds {quote(min(SPECIAL.intersection(value)))}, which would "
            "make another command of the line",
            "write the value in its place",
        )
    return value


def assignment(text: str) -> tuple[str, str]:
    """The name, in lower case, and the value of what follows ``set``; raises ``InvalidInput``."""
    if text.startswith("/"):
        raise InvalidInput(
            f"'set {text[:2].lower()}' works something out, or asks somebody",
            "write the value: set NAME=VALUE",
        )
    if text.startswith('"'):
        # What stands behind the last quote counts for nothing.
        text = text[1:].rpartition('"')[0] if '"' in text[1:] else text[1:]
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise InvalidInput(f"{quote(text)} gives no variable a value", "write: set NAME=VALUE")
    return name.strip().lower(), value
