"""Owns the characters that word processors and web pages make of what was typed.

Commands that were copied from a document look right and are not. It must not know what a text
means, only which character is not what it looks like.
"""

from __future__ import annotations

from ipsecd.language.quoting import wrong
from ipsecd.quoting import quote

_DASH, _QUOTE, _APOSTROPHE, _BLANK = "a plain -", 'a plain "', "a plain '", "a plain blank"
_MEANT = {
    "\N{HYPHEN}": ("a hyphen", _DASH),
    "\N{NON-BREAKING HYPHEN}": ("a hyphen that does not break", _DASH),
    "\N{FIGURE DASH}": ("a dash", _DASH),
    "\N{EN DASH}": ("a dash", _DASH),
    "\N{EM DASH}": ("a dash", _DASH),
    "\N{HORIZONTAL BAR}": ("a dash", _DASH),
    "\N{MINUS SIGN}": ("a minus sign", _DASH),
    "\N{FULLWIDTH HYPHEN-MINUS}": ("a wide hyphen", _DASH),
    "\N{LEFT DOUBLE QUOTATION MARK}": ("a curved quotation mark", _QUOTE),
    "\N{RIGHT DOUBLE QUOTATION MARK}": ("a curved quotation mark", _QUOTE),
    "\N{DOUBLE LOW-9 QUOTATION MARK}": ("a low quotation mark", _QUOTE),
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}": ("an angled quotation mark", _QUOTE),
    "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}": ("an angled quotation mark", _QUOTE),
    "\N{LEFT SINGLE QUOTATION MARK}": ("a curved apostrophe", _APOSTROPHE),
    "\N{RIGHT SINGLE QUOTATION MARK}": ("a curved apostrophe", _APOSTROPHE),
    "\N{SINGLE LOW-9 QUOTATION MARK}": ("a low quotation mark", _APOSTROPHE),
    "\N{NO-BREAK SPACE}": ("a blank that does not break", _BLANK),
    "\N{NARROW NO-BREAK SPACE}": ("a blank that does not break", _BLANK),
    "\N{FIGURE SPACE}": ("a blank of the width of a digit", _BLANK),
    "\N{EN SPACE}": ("a wide blank", _BLANK),
    "\N{EM SPACE}": ("a wide blank", _BLANK),
    "\N{THIN SPACE}": ("a thin blank", _BLANK),
    "\N{IDEOGRAPHIC SPACE}": ("a wide blank", _BLANK),
    "\N{ZERO WIDTH SPACE}": ("a blank without width", "nothing there"),
    "\N{ZERO WIDTH NO-BREAK SPACE}": ("a mark of byte order", "nothing there"),
    "\N{SOFT HYPHEN}": ("a hyphen that is only shown where a line ends", "nothing there"),
}
"""What each is called, and what was meant: names of the Unicode Character Database."""


def refuse_typography(text: str) -> None:
    """Raise ``InvalidInput`` at the first of these characters in `text`."""
    if text.isascii():
        return
    for position, letter in enumerate(text):
        if letter in _MEANT:
            name, meant = _MEANT[letter]
            raise wrong(
                text,
                position,
                f"{quote(text)} has {name} (U+{ord(letter):04X}), as word processors make them",
                f"type {meant}",
            )


def looks_like_switch(text: str) -> bool:
    """Whether `text` begins with what word processors make of the ``-`` before a switch."""
    return _MEANT.get(text[:1], ("", ""))[1] == _DASH
