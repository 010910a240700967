"""Owns the strict reading of JSON: each value has the type that was asked for, or is an error.

Each function raises ``ValueError``, which says what the value is and what it should be; `what` is
what to call the value there. True and false are not numbers, and no key may occur twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isfinite


def decode(content: bytes) -> object:
    """Decode `content`, a JSON text in UTF-8."""
    try:
        decoded: object = json.loads(content.decode("utf-8"), object_pairs_hook=_members_once)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg}") from None
    return decoded


def text(value: object, what: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise _wrong_type(value, what, "a text")
    return value


def integer(value: object, what: str, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    if type(value) is not int:
        raise _wrong_type(value, what, "a whole number")
    if not least <= value <= most:
        raise ValueError(f"{what} is not between {least} and {most}")
    return value


def number(value: object, what: str) -> float:
    """A number that is finite."""
    if type(value) not in (int, float):
        raise _wrong_type(value, what, "a number")
    assert isinstance(value, int | float)
    try:
        finite = isfinite(value)
    except OverflowError:
        # A whole number may have thousands of digits.
        finite = False
    if not finite:
        raise ValueError(f"{what} is not finite")
    return float(value)


def flag(value: object, what: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise _wrong_type(value, what, "true or false")
    return value


def items(value: object, what: str, length: int | None = None) -> list[object]:
    """A list, of `length` items if that is given."""
    if not isinstance(value, list):
        raise _wrong_type(value, what, "a list")
    if length is not None and len(value) != length:
        raise ValueError(f"{what} has {len(value)} items, where {length} belong")
    return value


def members(value: object, what: str, keys: Iterable[str] | None = None) -> dict[str, object]:
    """An object; if `keys` are given, with exactly these."""
    if not isinstance(value, dict):
        raise _wrong_type(value, what, "an object")
    if keys is not None and value.keys() != set(keys):
        raise ValueError(f"{what} does not have the keys {', '.join(keys)}")
    return value


def _members_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members_by_key = dict(pairs)
    if len(members_by_key) != len(pairs):
        raise ValueError("a key stands twice")
    return members_by_key


def _wrong_type(value: object, what: str, wanted: str) -> ValueError:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return ValueError(f"{what} is {kinds.get(type(value), 'a number or null')}, and not {wanted}")
