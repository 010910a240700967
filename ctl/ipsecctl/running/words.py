"""Owns how Windows takes command lines apart; must not know what words mean."""

from __future__ import annotations

BLANKS = " \t\v\f"
_ENDINGS = (".exe", ".com")


def words_of(text: str) -> list[str]:
    """The words of a command line, as the C run-time library of Windows gives them to a program.

    https://learn.microsoft.com/cpp/c-language/parsing-c-command-line-arguments: quotes hold blanks
    together; backslashes mean themselves unless a quote follows, which one of them makes a plain
    one.
    """
    words: list[str] = []
    word: list[str] = []
    has_begun = quoted = False
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            end = at
            while end < len(text) and text[end] == "\\":
                end += 1
            number = end - at
            if end < len(text) and text[end] == '"':
                word.append("\\" * (number // 2))
                if number % 2:
                    word.append('"')
                    end += 1
            else:
                word.append("\\" * number)
            has_begun = True
            at = end
            continue
        if char == '"':
            has_begun = True
            if quoted and text.startswith('""', at):
                word.append('"')
                at += 1
            else:
                quoted = not quoted
        elif char in BLANKS and not quoted:
            if has_begun:
                words.append("".join(word))
            word, has_begun = [], False
        else:
            word.append(char)
            has_begun = True
        at += 1
    if has_begun:
        words.append("".join(word))
    return words


def program_of(word: str) -> str:
    """The name of the program that a word calls: in lower case, without its path and ``.exe``."""
    name = word.replace("/", "\\").rpartition("\\")[2].lower()
    return next((name[: -len(end)] for end in _ENDINGS if name.endswith(end)), name)
