r"""Finds the commands of this system that a page in Markdown names; knows none of them.

A page that compares has tables whose last column is called ``here``: what stands there in code is
typed as it is. A bar in it is written as ``\|``, which a table needs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

COLUMN = "here"
COMMANDS = ("ipsecctl", "netsh", "ipseccmd", "ipsecpol", "net ")
_CODE = re.compile(r"`([^`]+)`")
_CELLS = re.compile(r"(?<!\\)\|")
_PROMPT = re.compile(r"^(?:[a-z][\w-]*)?[#$] ")
_END_OF_COMMAND = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "(", ")"}


@dataclass(frozen=True)
class Line:
    """A command line, and where it stands."""

    line: int
    text: str


def of_tables(text: str) -> Iterator[Line]:
    """The command lines in the last column of tables that compare, in order."""
    ours = False
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in _CELLS.split(line)[1:-1]]
        if line.startswith("|") and not before.startswith("|"):
            ours = cells[-1] == COLUMN
        elif line.startswith("|") and ours:
            for code in _CODE.findall(cells[-1]):
                if code.startswith(COMMANDS):
                    yield Line(number, code.replace("\\|", "|"))
        before = line


def of_blocks(text: str) -> Iterator[Line]:
    """The command lines of ``ipsecctl`` in blocks, indented or fenced, with or without prompts."""
    fenced = False
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            typed = _PROMPT.sub("", line.strip())
            following = number
            while typed.endswith("\\") and following < len(lines):
                typed = typed[:-1] + lines[following].strip().removeprefix("> ")
                following += 1
            if typed.startswith("ipsecctl "):
                yield Line(number, typed)


def of_sentences(text: str) -> Iterator[Line]:
    """The command lines of ``ipsecctl`` that stand in the text as code."""
    for match in re.finditer(r"`(ipsecctl [^`]+)`", text):
        typed = " ".join(match[1].split()).replace("\\|", "|")
        yield Line(text.count("\n", 0, match.start()) + 1, typed)


def words(line: Line) -> list[str]:
    """The words of the first command of a line, as a shell has them; ``#`` begins a comment."""
    lexer = shlex.shlex(line.text, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    found = []
    for word in lexer:
        if word in _END_OF_COMMAND:
            break
        found.append(word)
    return found
