"""Owns how text that somebody else wrote is shown: escaped, and not longer than one can read.

Nothing here knows what the text means, nor where it is printed.
"""

from __future__ import annotations

MAX_QUOTED = 80
MAX_PATH = 256
_CUT = "…"


def visible(text: str) -> str:
    """`text` on one line, with an escape for whatever ends lines, hides text or drives a terminal.

    These are control characters (C0, DEL, C1), line and paragraph separators, what sets the
    direction of writing, halves of surrogate pairs, and what has no sign.
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def quote(text: str) -> str:
    """`text` in quotes on one line; its beginning and its length if it is over 80 characters."""
    if len(text) > MAX_QUOTED:
        return f"{text[:MAX_QUOTED] + _CUT!r} ({len(text):,} characters)"
    return repr(text)


def quote_path(path: str) -> str:
    """A path in quotes, cut in the middle if it is very long: its end says most."""
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
    """80 characters of `text` around an offset, and what the offset is in these."""
    if len(text) <= MAX_QUOTED:
        return text, position
    start = min(max(0, position - MAX_QUOTED // 2), len(text) - MAX_QUOTED)
    part = text[start : start + MAX_QUOTED]
    if start:
        part = _CUT + part[1:]
    if start + MAX_QUOTED < len(text):
        part = part[:-1] + _CUT
    return part, position - start


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"
