"""Owns what is said of a file that was carried out, line by line; must not know how it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ipsecctl.presentation import paint
from ipsecd.errors import IpsecdError
from ipsecd.output import say
from ipsecd.quoting import cut

DONE, NO_EFFECT, REFUSED, SAID = "done", "no effect", "refused", ""
"""What becomes of a line. Of what is only said there is no result."""
_COLOURS = {DONE: "green", REFUSED: "red", NO_EFFECT: "yellow"}
MAX_COMMAND = 400
_WIDTH = max(map(len, _COLOURS))


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one command: its line in the file, its text, and what it printed.

    ``reason`` says why it had no effect or is refused, ``hint`` what to do about that.
    """

    line: int
    command: str
    result: str
    printed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    reason: str = ""
    hint: str = ""
    lacks: bool = False
    """Whether what it was to put in force is missing."""

    @classmethod
    def refused(cls, line: int, command: str, error: IpsecdError) -> Line:
        """A command that is refused."""
        return cls(line, command, REFUSED, reason=error.message, hint=error.hint)

    def fields(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "line": self.line,
            "command": self.command,
            "result": self.result or "said",
            "printed": [*self.printed],
            "warnings": [*self.warnings],
            "reason": self.reason,
            "hint": self.hint,
        }


def print_report(lines: list[Line]) -> None:
    """Print what became of every command, each on a line, with what it printed below."""
    for line in lines:
        if line.result:
            result = paint(line.result, _COLOURS[line.result])
            blanks = " " * (_WIDTH - len(line.result))
            say(f"{line.line:5}  {result}{blanks}  {cut(line.command, MAX_COMMAND)}")
        margin = " " * (7 if line.result else 0)
        say(*(f"{margin}{text}" for text in line.printed))
        if line.reason:
            say(f"{margin}{line.reason}")
        if line.hint:
            say(f"{margin}hint: {line.hint}")
        say(*(f"{margin}warning: {text}" for text in line.warnings))
