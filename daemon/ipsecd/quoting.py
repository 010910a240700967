"""Owns showing text of others: escaped and shortened; also lists, shortened and counted.

Must not know what the text means, nor where it is printed.
"""

from __future__ import annotations

MAX_QUOTED = 80
MAX_PATH = 256
MAX_LINES = 10
_CUT = "…"
_HIDDEN = f":{_CUT}@"


def visible(text: str) -> str:
    """`text` on one line. Characters that end lines, hide text or control a terminal are escaped.

    These are control characters (C0, DEL, C1), line and paragraph separators, characters that set
    the direction of writing, halves of surrogate pairs, and characters without a glyph.
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def quote(text: str) -> str:
    """`text` in quotes on one line; its beginning and its length if it is over 80 characters."""
    if len(text) > MAX_QUOTED:
        return f"{text[:MAX_QUOTED] + _CUT!r} ({len(text):,} characters)"
    return repr(text)


def quote_path(path: str) -> str:
    """A path in quotes, cut in the middle if it is very long, since its end says most."""
    return repr(cut(path, MAX_PATH))


def shorten(text: str) -> str:
    """`text` as ``visible`` shows it, cut in the middle if it is very long."""
    return visible(cut(text, MAX_PATH))


def cut(text: str, most: int) -> str:
    """`text`, without its middle if it has more characters than `most`."""
    if len(text) <= most:
        return text
    half = most // 2
    return text[:half] + _CUT + text[-half:]


def excerpt(text: str, position: int) -> tuple[str, int]:
    """80 characters of `text` around an offset, and the same offset in them."""
    if len(text) <= MAX_QUOTED:
        return text, position
    start = min(max(0, position - MAX_QUOTED // 2), len(text) - MAX_QUOTED)
    part = text[start : start + MAX_QUOTED]
    if start:
        part = _CUT + part[1:]
    if start + MAX_QUOTED < len(text):
        part = part[:-1] + _CUT
    return part, position - start


def count(number: int, noun: str) -> str:
    """``1 rule``, ``2 rules``, ``2 policies``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def few(items: list[str], most: int = 8) -> str:
    """The first of `items` on a line, and how many more there are."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def first_lines(lines: list[str]) -> list[str]:
    """The first ten of `lines`, and how many more there are."""
    not_shown = len(lines) - MAX_LINES
    return [*lines[:MAX_LINES], f"and {not_shown:,} more"] if not_shown > 0 else lines


def without_password(url: str) -> str:
    """A URL as everybody may see it: with a mark in the place of a password."""
    scheme, _, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    user = login.partition(":")[0]
    return f"{scheme}://{user}{_HIDDEN}{place}" if at else url


def is_without_password(url: str) -> bool:
    """Whether `url` has such a mark, so that it can be shown and not used."""
    return _HIDDEN in url


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"
