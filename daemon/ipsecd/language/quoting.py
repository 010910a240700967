"""Owns handling pieces of the user's text, and errors that point at one."""

from __future__ import annotations

from ipsecd.errors import InvalidInput


def is_number(text: str) -> bool:
    """Whether `text` is one or more ASCII digits and nothing else."""
    return text.isascii() and text.isdigit()


def trim(text: str, start: int, end: int) -> tuple[str, int]:
    """The part of `text` from `start` to `end` without outer white space, and its offset."""
    part = text[start:end]
    shorter = part.lstrip()
    return shorter.rstrip(), start + len(part) - len(shorter)


def wrong(text: str, position: int, message: str, hint: str) -> InvalidInput:
    """The error about the character of `text` at offset `position`."""
    return InvalidInput(message, hint, source=text, position=min(max(position, 0), len(text)))


def wrong_within(error: InvalidInput, text: str, offset: int) -> InvalidInput:
    """The same error, about the part of `text` at `offset` that was read on its own."""
    return wrong(text, offset + max(error.position, 0), error.message, error.hint)
