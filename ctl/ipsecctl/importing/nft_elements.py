"""Owns the reading of what stands between the braces of a set or map of nft; knows no field."""

from __future__ import annotations

from dataclasses import dataclass, field

from ipsecctl.importing.nft_words import Word, Words
from ipsecd.errors import LimitExceeded

MAX_ELEMENTS = 200_000


@dataclass(slots=True)
class NamedSet:
    """A set or map of a table: its elements, each with the words of its verdict if it has one."""

    elements: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    unknown: str = ""


def read_elements(words: Words) -> NamedSet:
    """The elements between braces, each a text with its parts, and the words of its verdict."""
    opening = words.expect("{")
    found = NamedSet()
    while True:
        words.skip_ends()
        if words.peek().text == "}" and words.peek().kind == "mark":
            words.take()
            return found
        parts, verdict = _element(words, opening)
        found.elements.append((" ".join(parts), tuple(verdict)))
        if len(found.elements) > MAX_ELEMENTS:
            raise LimitExceeded(f"a set has more than {MAX_ELEMENTS:,} elements", "")


def _element(words: Words, opening: Word) -> tuple[list[str], list[str]]:
    """One element, with the comma behind it."""
    parts: list[str] = []
    verdict: list[str] = []
    into = parts
    while True:
        word = words.peek()
        if words.is_over:
            raise words.wrong("a brace is never closed", opening)
        if word.kind == "mark" and word.text == "}":
            break
        words.take()
        if word.kind == "mark" and word.text == ",":
            break
        if word.kind == "end":
            continue
        if word.text == ":" and word.kind == "word":
            into = verdict
        elif word.text in ("timeout", "expires", "comment") and word.kind == "word" and parts:
            words.take()
        elif word.text == "counter" and word.kind == "word":
            for _ in range(4 if words.peek().text == "packets" else 0):
                words.take()
        else:
            into.append(word.text)
    if not parts:
        raise words.wrong("an element of a set is empty", words.peek())
    return parts, verdict
