"""Owns the words of what ``nft list ruleset`` prints, with their lines; knows no meaning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ipsecctl.importing.source import InputFile
from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.quoting import quote

MAX_WORDS = 2_000_000
_PART = re.compile(
    r'(?P<space>[ \t\r]+|\\\n|#[^\n]*)|(?P<end>\n|;)|"(?P<text>[^"\n]*)"'
    r"|(?P<mark>[{},]|[!=<>]=?|&|\|)"
    r'|(?P<word>[^\s{};,"=!<>&|#]+)'
)


class Word(NamedTuple):
    """A word, and the line that it stands on. ``kind`` is "word", "text", "mark" or "end"."""

    text: str
    kind: str
    line: int


class Words:
    """The words of a file, one after the other."""

    def __init__(self, file: InputFile) -> None:
        self.file = file
        self._words: Sequence[Word] = _split(file)
        self._at = 0
        self._lines = file.text.split("\n")

    def peek(self, ahead: int = 0) -> Word:
        """The next word, or one behind it, which stays; the end of the file ends for ever."""
        at = self._at + ahead
        if at < len(self._words):
            return self._words[at]
        return Word("", "end", len(self._lines))

    def take(self) -> Word:
        """The next word."""
        word = self.peek()
        self._at += 1
        return word

    @property
    def is_over(self) -> bool:
        """Whether there is no word left."""
        return self._at >= len(self._words)

    def skip_ends(self) -> None:
        """Go over ends of lines."""
        while not self.is_over and self.peek().kind == "end":
            self._at += 1

    def expect(self, text: str) -> Word:
        """Take a word that must be there."""
        word = self.take()
        if word.text != text:
            raise self.wrong(
                f"{quote(word.text or 'the end')} stands where {quote(text)} should be", word
            )
        return word

    def take_line(self) -> list[str]:
        """What is left of a statement, up to its end or to the ``}`` behind it."""
        said = []
        while self.peek().kind != "end" and self.peek().text != "}":
            said.append(self.take().text)
        return said

    def skip_block(self) -> None:
        """Go over all from the next ``{`` to the ``}`` that it is closed by."""
        self.close_block(self.expect("{"))

    def close_block(self, opening: Word) -> None:
        """Go over what is left of a block that began at `opening`."""
        depth = 1
        while depth:
            if self.is_over:
                raise self.wrong("a brace is never closed", opening)
            word = self.take()
            depth += (word.text == "{") - (word.text == "}") if word.kind == "mark" else 0

    def text_of(self, first: int, last: int) -> str:
        """Lines as they are written, without what is around them."""
        return " ".join(line.strip() for line in self._lines[first - 1 : min(last, first + 5)])

    def wrong(self, what: str, word: Word) -> InvalidInput:
        """The error that something is not what nft prints."""
        return InvalidInput(
            what, "give what 'nft list ruleset' prints", source=self.file.path, line=word.line
        )


def _split(file: InputFile) -> list[Word]:
    words: list[Word] = []
    line, at = 1, 0
    text = file.text
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise InvalidInput(
                f"{quote(text[at])} is not understood here",
                "give what 'nft list ruleset' prints",
                source=file.path,
                line=line,
            )
        kind = part.lastgroup or ""
        if kind != "space":
            words.append(Word(part[kind], kind, line))
        line += part[0].count("\n")
        at = part.end()
        if len(words) > MAX_WORDS:
            raise LimitExceeded(f"{quote(file.path)} has more than {MAX_WORDS:,} words", "")
    return words
