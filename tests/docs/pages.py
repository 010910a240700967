"""Reads what a page in Markdown tells its reader to do: commands with what they print, and files.

It knows no machine. How a page is written, so that it reads naturally and can be followed:

1. A fenced block of ``console`` has commands behind prompts, and below each command all that it
   prints, on both streams. The prompt is ``#`` or ``$``, with the name of a machine before it where
   there are several: ``# ipsecctl status``, ``laptop$ curl http://192.168.1.1/``. A command that
   ends in a backslash goes on in the next line, behind ``>`` or not.
2. In what is printed, ``…`` stands for anything within a line. A line of ``…`` alone stands for any
   number of lines, none included. Columns are as wide as they are: two spaces stand for two or
   more, and those at the end of a line do not count.
3. A command has to succeed. Where it is meant to fail, the next command is ``echo $?``, and the
   page shows the exit code as the reader sees it.
4. A line that ends in the name of a file and a colon, ```web.yaml`:``, has the block below it
   written into that file; ```web.yaml` on the laptop:`` says on which machine.
5. Other blocks are only read, but there are none of ``sh`` or ``bash``: what looks like a command
   is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

ANYTHING = "…"
_FENCE = re.compile(r"^( *)```(\w*)[^`]*$")
_PROMPT = re.compile(r"^([a-z][\w-]*)?([#$]) (.+)$")
_GAP = re.compile(r"(?:\\ ){2,}")
_FILE = re.compile(r"`([^`\s]+)`(?: on the ([a-z][\w-]*))?:$")
_SHELLS = {"sh", "bash", "shell"}


class UnclearPage(ValueError):
    """A page that cannot be followed: it says where, and what is wrong with it."""


@dataclass(frozen=True)
class Command:
    """A command, the prompt that it stands behind, and all that it should print."""

    line: int
    prompt: str
    """Such as ``#`` or ``laptop$``."""
    text: str
    printed: tuple[str, ...] = ()

    @property
    def asks_for_exit_code(self) -> bool:
        """Whether it prints how the command before it ended."""
        return self.text == "echo $?"

    def allows(self, output: str) -> bool:
        """Whether this is what it should print."""
        return bool(re.fullmatch(_pattern(self.printed), _tidy(output.splitlines())))


@dataclass(frozen=True)
class File:
    """A file to be written, and the name of the machine: "" is the one that the page is about."""

    line: int
    machine: str
    path: str
    text: str


Step = Command | File


def steps(text: str) -> Iterator[Step]:
    """All that a page tells its reader to do, in order.

    Raises:
        UnclearPage: for a block that does not end, begins with no prompt, or holds commands that
            cannot be compared with what they print.

    """
    lines = text.splitlines()
    before = ""
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            before = lines[number].strip() or before
            number += 1
            continue
        indent, language = fence[1], fence[2]
        first = number + 1
        try:
            end = lines.index(f"{indent}```", first)
        except ValueError:
            raise UnclearPage(f"line {first}: the block does not end") from None
        block = [line.removeprefix(indent) for line in lines[first:end]]
        file = _FILE.search(before)
        if language == "console":
            yield from _commands(block, first + 1)
        elif language in _SHELLS:
            raise UnclearPage(f"line {first}: write commands as console, with what they print")
        elif file is not None:
            yield File(first, file[2] or "", file[1], "".join(f"{line}\n" for line in block))
        before = ""
        number = end + 1


def _commands(block: list[str], first: int) -> Iterator[Command]:
    """The commands of a block that begins at a line of the page."""
    found: list[tuple[int, str, str, list[str]]] = []
    goes_on = False
    for number, line in enumerate(block, first):
        prompt = _PROMPT.match(line)
        if goes_on:
            at, sign, text, printed = found[-1]
            found[-1] = (at, sign, f"{text}\n{line.removeprefix('> ')}", printed)
        elif prompt is not None:
            found.append((number, f"{prompt[1] or ''}{prompt[2]}", prompt[3], []))
        elif found:
            found[-1][3].append(line)
        else:
            raise UnclearPage(f"line {number}: no prompt before {line!r}")
        goes_on = line.endswith("\\") and (goes_on or prompt is not None)
    for at, sign, text, printed in found:
        yield Command(at, sign, text, tuple(printed))


def _tidy(lines: list[str]) -> str:
    """Lines without spaces at their ends, each ended, and without empty ones at the end."""
    return "".join(f"{line.rstrip()}\n" for line in lines).rstrip("\n") + "\n"


def _pattern(printed: tuple[str, ...]) -> str:
    """What all that a command prints has to match."""
    kept = _tidy(list(printed)).removesuffix("\n").split("\n")
    if all(not line or line == ANYTHING for line in kept):
        return "(?s:.*)" if ANYTHING in kept else r"\n"
    return "".join(
        r"(?:[^\n]*\n)*?"
        if line.strip() == ANYTHING
        else _GAP.sub(" {2,}", re.escape(line)).replace(ANYTHING, r"[^\n]*?") + r"\n"
        for line in kept
    )
