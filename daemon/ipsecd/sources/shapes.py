"""Owns the strict reading of JSON: each node is of the type that was asked for, or an error.

All raise ``ValueError``, which says what was found where what was wanted. Truth values are no
numbers, and no key stands twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isfinite


def decode(content: bytes) -> object:
    """The one JSON text in `content`, which is UTF-8."""
    try:
        found: object = json.loads(content.decode("utf-8"), object_pairs_hook=_members_once)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg}") from None
    return found


def text(node: object, what: str) -> str:
    """A text."""
    if not isinstance(node, str):
        raise _other(node, what, "a text")
    return node


def whole(node: object, what: str, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    if type(node) is not int:
        raise _other(node, what, "a whole number")
    if not least <= node <= most:
        raise ValueError(f"{what} is not between {least} and {most}")
    return node


def number(node: object, what: str) -> float:
    """A number that is finite."""
    if type(node) not in (int, float):
        raise _other(node, what, "a number")
    assert isinstance(node, int | float)
    if not isfinite(node):
        raise ValueError(f"{what} is not finite")
    return float(node)


def flag(node: object, what: str) -> bool:
    """True or false."""
    if not isinstance(node, bool):
        raise _other(node, what, "true or false")
    return node


def items(node: object, what: str, length: int | None = None) -> list[object]:
    """A list, of `length` items if that is given."""
    if not isinstance(node, list):
        raise _other(node, what, "a list")
    if length is not None and len(node) != length:
        raise ValueError(f"{what} has {len(node)} items, where {length} belong")
    return node


def members(node: object, what: str, keys: Iterable[str] | None = None) -> dict[str, object]:
    """An object; with `keys`, of exactly these."""
    if not isinstance(node, dict):
        raise _other(node, what, "an object")
    if keys is not None and node.keys() != set(keys):
        raise ValueError(f"{what} does not have the keys {', '.join(keys)}")
    return node


def _members_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _other(node: object, what: str, wanted: str) -> ValueError:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return ValueError(f"{what} is {kinds.get(type(node), 'a number or null')}, and not {wanted}")
