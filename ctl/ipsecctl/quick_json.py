"""Owns JSON for commands that live for a moment; must not know what it says.

The package ``json`` imports regular expressions, enumerations and more, which takes longer than all
that is ours in a command. What it does its work with is used here directly, where Python has it.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any

try:
    from _json import encode_basestring, make_scanner
except ImportError:
    from json.encoder import encode_basestring
    from json.scanner import make_scanner

_SPACE = " \t\n\r"


class _Decoder:
    """What the scanner of ``json`` wants to know of a decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan = make_scanner(_Decoder())  # type: ignore[arg-type]


def loads(text: str) -> Any:
    """The value in `text`; raises ``ValueError``."""
    text = text.strip(_SPACE)
    try:
        value, end = _scan(text, 0)
    except StopIteration as error:
        raise ValueError(f"there is no value at {error.value}") from error
    if end != len(text):
        raise ValueError(f"there is something after the value, at {end}")
    return value


def dumps(value: Any) -> str:
    """`value`, made of what JSON has, in the shortest form."""
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict):
        members = [f"{encode_basestring(key)}:{dumps(member)}" for key, member in value.items()]
        return f"{{{','.join(members)}}}"
    return f"[{','.join(map(dumps, value))}]"
