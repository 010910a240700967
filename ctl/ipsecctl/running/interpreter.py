"""Owns carrying out the statements of a batch file on a workspace, and what is said of each.

Nothing of it is in force: whoever has the report asks for what was changed, if no line is refused.
A file that would go on for ever, or print without end, is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ipsecctl.failures import UnreachableError
from ipsecctl.running.programs import Done, Programs, is_known
from ipsecctl.running.refusals import why_refused
from ipsecctl.running.report import DONE, NO_EFFECT, SAID, Line
from ipsecctl.running.searching import found
from ipsecctl.running.statements import Block, Chain, Command, Condition, For, If, Statement
from ipsecctl.running.variables import HERE, WINDOWS, Missing, assignment, with_values
from ipsecctl.running.words import BLANKS, program_of, words_of
from ipsecd.errors import InvalidInput, IpsecdError, LimitExceeded, Refused
from ipsecd.quoting import quote

MAX_COMMANDS = 100_000
MAX_PRINTED = 16 << 20
"""How many characters may be printed in all."""
_HARMLESS = frozenset(
    {"cls", "title", "pause", "setlocal", "endlocal", "color", "chcp", "mode", "timeout", "prompt",
     "ver", "verify", "break", "popd"}
)  # fmt: skip
"""What does nothing that is of use here."""
_ECHO_MARKS = ".:;,/\\([]+="
"""What may stand right behind ``echo`` in the place of a blank."""
_SEARCHING = ("find", "findstr")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "equ": operator.eq,
    "neq": operator.ne,
    "lss": operator.lt,
    "leq": operator.le,
    "gtr": operator.gt,
    "geq": operator.ge,
}


class _End(Exception):
    """The file ends here."""


class Interpreter:
    """Carries out statements, and keeps what became of each."""

    def __init__(self, programs: Programs, directory: str = "./") -> None:
        """`directory` is where the file is, with a slash at the end."""
        self._programs = programs
        self._values = {**WINDOWS, HERE: directory}
        self._now: dict[str, str] = {}
        """The values that the statement has which is carried out: those from before it began."""
        self._loops: dict[str, str] = {}
        self._errorlevel = 0
        self._delays = False
        self._commands = self._printed = 0
        self.report: list[Line] = []

    def run(self, statements: list[Statement]) -> None:
        """Carry out all of a file. Raises ``LimitExceeded``."""
        try:
            for statement in statements:
                # cmd puts all values into a statement before it begins with it.
                self._now = {**self._values, "errorlevel": str(self._errorlevel)}
                self._statement(statement)
        except _End:
            return

    def _statement(self, statement: Statement) -> None:
        if isinstance(statement, Command):
            self._command(statement)
        elif isinstance(statement, Chain):
            self._chain(statement)
        elif isinstance(statement, Block):
            for each in statement.statements:
                self._statement(each)
        elif isinstance(statement, If):
            self._if(statement)
        else:
            self._for(statement)

    def _chain(self, chain: Chain) -> None:
        for joint, statement in chain.parts:
            if (joint == "&&" and self._errorlevel) or (joint == "||" and not self._errorlevel):
                continue
            self._statement(statement)

    def _if(self, statement: If) -> None:
        try:
            is_met = self._is_met(statement.condition)
        except IpsecdError as error:
            self._add(Line.refused(statement.line, "if …", error))
            return
        if is_met:
            self._statement(statement.then)
        elif statement.otherwise is not None:
            self._statement(statement.otherwise)

    def _is_met(self, condition: Condition) -> bool:
        if not condition.operator:
            # No number of a script is so long that it could not be compared as it is.
            is_met = self._errorlevel >= int(condition.left[:9])
            return is_met is not condition.negated
        left, right = (
            with_values(text, self._now, self._loops, Missing.EMPTY)
            for text in (condition.left, condition.right)
        )
        if condition.ignores_case:
            left, right = left.lower(), right.lower()
        if condition.operator == "==":
            return (left == right) is not condition.negated
        numbers = _is_number(left) and _is_number(right)
        compare = _COMPARISONS[condition.operator]
        is_met = compare(int(left), int(right)) if numbers else compare(left, right)
        return is_met is not condition.negated

    def _for(self, statement: For) -> None:
        before = self._loops
        try:
            members = with_values(statement.members, self._now, before)
            for value in _counted(members) if statement.counts else _members(members):
                self._count()
                self._loops = {**before, statement.variable: value}
                self._statement(statement.body)
        except InvalidInput as error:
            self._add(Line.refused(statement.line, "for …", error))
        finally:
            self._loops = before

    def _count(self) -> None:
        self._commands += 1
        if self._commands > MAX_COMMANDS:
            raise LimitExceeded(
                f"the file comes to more than {MAX_COMMANDS:,} commands",
                "take it apart, or look for a loop that has no end",
            )

    def _command(self, command: Command) -> None:
        self._count()
        text = command.text
        try:
            if _is_move_to_itself(text):
                return
            is_echo = _is_echo(text)
            missing = Missing.KEPT if is_echo else Missing.REFUSED
            text = with_values(text, self._now, self._loops, missing)
            done = self._carry_out(text)
            for each in command.filters:
                done = self._filtered(each, done)
        except (LimitExceeded, UnreachableError):
            raise
        except IpsecdError as error:
            self._errorlevel = 1
            self._add(Line.refused(command.line, text, error))
            return
        if done is None:
            return
        self._errorlevel = done.code
        self._tell(command, text, done, is_echo=is_echo)

    def _carry_out(self, text: str) -> Done | None:
        """Carry out one command; None if there is nothing to be said of it."""
        name, rest = _split(text)
        if _is_echo(text):
            return _echoed(text[len("echo") :])
        if name == "set":
            self._set(rest)
            return None
        if name == "exit" or (name == "goto" and rest.strip().lower() in (":eof", "eof")):
            raise _End
        if name in _HARMLESS:
            self._delays = self._delays or "enabledelayedexpansion" in rest.lower()
            return None
        if self._delays and "!" in text:
            raise InvalidInput(
                "!NAME! is a value that is looked at while a block is carried out",
                "write %NAME%, or the value",
            )
        words = words_of(text)
        return self._programs.carry_out(words) if words else None

    def _set(self, rest: str) -> None:
        name, value = assignment(rest)
        self._values[name] = value
        if not value:
            del self._values[name]

    def _filtered(self, command: Command, done: Done | None) -> Done:
        """What comes out of ``find`` or ``findstr``, which something is piped through."""
        self._count()
        text = with_values(command.text, self._now, self._loops)
        name, rest = _split(text)
        if name not in _SEARCHING:
            raise Refused(f"the output is piped to {quote(name)}", "taken are | find and | findstr")
        before = done or Done()
        lines = tuple(found(name, rest, [*before.lines]))
        if command.hides_output:
            return replace(before, code=int(not lines), lines=())
        return replace(before, code=int(not lines), lines=lines)

    def _tell(self, command: Command, text: str, done: Done, *, is_echo: bool) -> None:
        printed = () if command.hides_output else done.lines
        if is_echo:
            if printed:
                self._add(Line(command.line, text, SAID, printed))
            return
        if done.changed:
            # What is said of it is that it is done.
            printed = printed if command.filters else ()
        warnings = () if command.hides_errors else done.complaints
        result = DONE if done.changed else NO_EFFECT
        if done.reason:
            printed = ()
        text = " ".join(text.split())
        line = Line(command.line, text, result, printed, warnings, done.reason, lacks=done.lacks)
        self._add(line)

    def _add(self, line: Line) -> None:
        self._printed += sum(map(len, line.printed)) + len(line.command)
        if self._printed > MAX_PRINTED:
            raise LimitExceeded(
                "the file prints more than can be shown", "look for a loop that has no end"
            )
        self.report.append(line)


def unknown_commands(statements: list[Statement]) -> list[Line]:
    """The commands that nothing is known of, wherever they stand, as refused lines."""
    return [
        Line.refused(command.line, command.text, why_refused(name))
        for command in _commands_in(statements)
        for name, rest in (_split(command.text),)
        if "%" not in name and not _is_builtin(command.text, name, rest) and not is_known(name)
    ]


def _is_builtin(text: str, name: str, rest: str) -> bool:
    if _is_echo(text) or name in ("set", "exit") or name in _HARMLESS:
        return True
    if name == "goto":
        return rest.strip().lower() in (":eof", "eof")
    return _is_move_to_itself(text)


def _is_move_to_itself(text: str) -> bool:
    """Whether a command goes to where the file is, as many begin."""
    name, rest = _split(text)
    where = rest.lower().replace('"', "").removeprefix("/d").strip(BLANKS)
    return name in ("cd", "chdir", "pushd") and where in ("%~dp0", "%~dp0\\", "%~dp0.")


def _commands_in(statements: list[Statement]) -> Iterator[Command]:
    for statement in statements:
        if isinstance(statement, Command):
            yield statement
        elif isinstance(statement, Chain):
            yield from _commands_in([part for _, part in statement.parts])
        elif isinstance(statement, Block):
            yield from _commands_in([*statement.statements])
        elif isinstance(statement, If):
            yield from _commands_in([statement.then])
            if statement.otherwise is not None:
                yield from _commands_in([statement.otherwise])
        else:
            yield from _commands_in([statement.body])


def _split(text: str) -> tuple[str, str]:
    """The name of the program that a command calls, and what follows."""
    if text.startswith('"'):
        name, _, rest = text[1:].partition('"')
        return program_of(name), rest.strip(BLANKS)
    end = next((at for at, char in enumerate(text) if char in BLANKS), len(text))
    # cmd takes a switch that stands right behind the name of a command of its own.
    name = text[:end]
    if "/" in name and "\\" not in name and not name.startswith("/"):
        name, _, _ = name.partition("/")
        end = len(name)
    return program_of(name), text[end:].strip(BLANKS)


def _is_echo(text: str) -> bool:
    after = text[len("echo") : len("echo") + 1]
    return text[: len("echo")].lower() == "echo" and (
        not after or after in BLANKS or after in _ECHO_MARKS
    )


def _echoed(text: str) -> Done | None:
    """What ``echo`` prints; None for what only switches it on or off, or asks whether it is."""
    if not text or text.strip().lower() in ("on", "off", ""):
        return Done(lines=("",)) if text in (".", ":") else None
    return Done(lines=(text[1:],))


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) < 10


def _members(text: str) -> list[str]:
    """The members of the set of a loop, with the quotes that hold some together."""
    members: list[str] = []
    member: list[str] = []
    quoted = False
    for char in f"{text} ":
        if char == '"':
            quoted = not quoted
        if not quoted and char in f"{BLANKS},;=":
            if member:
                members.append("".join(member))
            member = []
        else:
            member.append(char)
    for each in members:
        if "*" in each or "?" in each:
            raise InvalidInput(
                f"{quote(each)} stands for files in a loop", "write out what it is done for"
            )
    return members


def _counted(text: str) -> Iterator[str]:
    """The numbers of ``for /l``: from start by step to end."""
    numbers = text.replace(",", " ").split()
    if len(numbers) != 3 or not all(map(_is_number, numbers)):
        raise InvalidInput(
            f"{quote(text)} is not start, step and end", "write: for /l %%i in (1,1,9) do COMMAND"
        )
    start, step, end = map(int, numbers)
    # With a step of zero it goes on for ever, as in cmd; the number of commands ends that.
    while start <= end if step >= 0 else start >= end:
        yield str(start)
        start += step
