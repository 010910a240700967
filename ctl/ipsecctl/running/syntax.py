"""Owns the syntax of batch files, as far as it is taken; must not know what commands do.

What ``cmd`` would take and this does not is refused with its line, and never passed over.
"""

from __future__ import annotations

from ipsecctl.running.statements import Block, Chain, Command, Condition, For, If, Statement
from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

MAX_DEPTH = 32
"""How deep statements may be inside each other."""
_BLANKS = " \t\v\f"
_COMPARISONS = ("equ", "neq", "lss", "leq", "gtr", "geq")


def parse(lines: list[str], source: str) -> list[Statement]:
    """The statements of a batch file; raises ``InvalidInput`` with `source` and line."""
    return _Parser(lines, source).statements()


class _Parser:
    """A place in the text of a file."""

    def __init__(self, lines: list[str], source: str) -> None:
        self._lines = lines
        self._source = source
        self._row = 0
        self._column = 0

    @property
    def _line(self) -> str:
        return self._lines[self._row] if self._row < len(self._lines) else ""

    def _is_at_end(self) -> bool:
        return self._row >= len(self._lines)

    def _rest(self) -> str:
        return self._line[self._column :]

    def _next_line(self) -> None:
        self._row += 1
        self._column = 0

    def _error(self, message: str, hint: str = "") -> InvalidInput:
        return InvalidInput(message, hint, source=self._source, line=self._row + 1)

    def statements(self) -> list[Statement]:
        """All statements up to the end of the file."""
        found: list[Statement] = []
        while not self._is_at_end():
            statement = self._chain(0)
            if statement is not None:
                found.append(statement)
            if self._rest().startswith(")"):
                # As cmd has it: what stands behind such a parenthesis is a remark.
                self._next_line()
            elif not self._rest().strip(_BLANKS):
                self._next_line()
        return found

    def _skip_blanks(self) -> None:
        line = self._line
        while self._column < len(line) and line[self._column] in _BLANKS:
            self._column += 1

    def _skip_lines(self) -> None:
        """To the next thing in a block, across empty lines."""
        self._skip_blanks()
        while not self._is_at_end() and not self._rest():
            self._next_line()
            self._skip_blanks()

    def _word(self) -> str:
        """The letters that stand here, in lower case."""
        rest = self._rest()
        length = 0
        while length < len(rest) and (rest[length].isascii() and rest[length].isalpha()):
            length += 1
        return rest[:length].lower()

    def _chain(self, depth: int) -> Statement | None:
        """Statements on a line that ``&``, ``&&`` and ``||`` join."""
        if depth > MAX_DEPTH:
            raise self._error(f"there are more than {MAX_DEPTH} blocks inside each other")
        parts: list[tuple[str, Statement]] = []
        joint = "&"
        while True:
            statement = self._statement(depth)
            if statement is not None:
                parts.append((joint, statement))
            elif joint != "&":
                raise self._error(f"there is no command behind {joint}")
            self._skip_blanks()
            rest = self._rest()
            found = next((sign for sign in ("&&", "||", "&") if rest.startswith(sign)), "")
            if not found:
                break
            if statement is None:
                raise self._error(f"there is no command before {found}")
            joint = found
            self._column += len(found)
        if not parts:
            return None
        return parts[0][1] if len(parts) == 1 else Chain(tuple(parts))

    def _statement(self, depth: int) -> Statement | None:
        """One statement; None for a line that is empty, a remark or a label."""
        self._skip_blanks()
        while self._rest().startswith("@"):
            self._column += 1
            self._skip_blanks()
        rest = self._rest()
        if not rest or (rest.startswith(")") and depth):
            return None
        if rest.startswith(":"):
            self._column = len(self._line)
            return None
        if rest.startswith("("):
            return self._block(depth)
        word = self._word()
        after = rest[len(word) : len(word) + 1]
        if word == "rem" and (not after or after in _BLANKS or not after.isalnum()):
            self._column = len(self._line)
            return None
        if word == "if" and after and after in _BLANKS:
            return self._if(depth)
        if word == "for" and after and after in _BLANKS:
            return self._for(depth)
        return self._command(depth)

    def _block(self, depth: int) -> Block:
        begun = self._row + 1
        self._column += 1
        found: list[Statement] = []
        while True:
            self._skip_lines()
            if self._is_at_end():
                raise InvalidInput(
                    "this parenthesis is not closed", source=self._source, line=begun
                )
            if self._rest().startswith(")"):
                self._column += 1
                break
            statement = self._chain(depth + 1)
            if statement is not None:
                found.append(statement)
            elif self._rest() and not self._rest().startswith(")"):
                raise self._error(f"{quote(self._rest())} is no command")
        self._skip_blanks()
        if self._rest().startswith((">", "<", "|", "1>", "2>")) and not self._rest().startswith(
            "||"
        ):
            raise self._error(
                "the output of a block goes somewhere else",
                "write > nul or | find behind each command in the block",
            )
        return Block(tuple(found))

    def _argument(self) -> str:
        """The next piece of a line up to a blank, with quotes kept."""
        self._skip_blanks()
        line, start, quoted = self._line, self._column, False
        while self._column < len(line):
            char = line[self._column]
            if char == '"':
                quoted = not quoted
            if not quoted and (char in _BLANKS or line.startswith("==", self._column)):
                break
            self._column += 1
        return line[start : self._column]

    def _if(self, depth: int) -> If:
        number = self._row + 1
        self._column += len("if")
        negated = ignores_case = False
        left = self._argument()
        while left.lower() in ("/i", "not"):
            ignores_case = ignores_case or left.lower() == "/i"
            negated = negated or left.lower() == "not"
            left = self._argument()
        if left.lower() in ("exist", "defined", "cmdextversion"):
            raise self._error(
                f"'if {left.lower()}' asks about the computer that the file was written for",
                "take the line out, and leave what is to be done",
            )
        if left.lower() == "errorlevel":
            level = self._argument()
            if not level.isascii() or not level.isdecimal():
                raise self._error(f"{quote(level)} is not a number", "write: if errorlevel 1")
            condition = Condition(level, negated=negated)
        else:
            condition = self._comparison(left, negated=negated, ignores_case=ignores_case)
        then = self._body(depth, "if")
        at = (self._row, self._column)
        self._skip_blanks()
        if self._word() == "else":
            self._column += len("else")
            return If(number, condition, then, self._body(depth, "else"))
        self._row, self._column = at
        return If(number, condition, then)

    def _comparison(self, left: str, *, negated: bool, ignores_case: bool) -> Condition:
        self._skip_blanks()
        if self._rest().startswith("=="):
            operator = "=="
            self._column += len("==")
        else:
            operator = self._word()
            if operator not in _COMPARISONS:
                raise self._error(
                    "this condition is not one of those that are taken",
                    "taken are: if errorlevel N, if A==B, and equ, neq, lss, leq, gtr, geq",
                )
            self._column += len(operator)
        right = self._argument()
        if not left or not right:
            raise self._error(
                "one side of the comparison is empty", 'write quotes around both: if "%X%"=="y"'
            )
        return Condition(left, operator, right, negated, ignores_case)

    def _body(self, depth: int, of: str) -> Statement:
        self._skip_blanks()
        statement = self._block(depth) if self._rest().startswith("(") else self._chain(depth + 1)
        if statement is None:
            raise self._error(f"there is no command behind {of}")
        return statement

    def _for(self, depth: int) -> For:
        number = self._row + 1
        self._column += len("for")
        variable = self._argument()
        counts = variable.lower() == "/l"
        if counts:
            variable = self._argument()
        elif variable.startswith("/"):
            raise self._error(
                f"'for {variable.lower()}' looks at files or at what commands print",
                "write out what is to be done for each; 'for %%i in (A B C) do' is taken, and "
                "'for /l'",
            )
        is_variable = len(variable) == 3 and variable.startswith("%%") and variable[2].isalnum()
        if not is_variable:
            raise self._error(
                f"{quote(variable)} is no variable of a loop", "in a file it is written %%i"
            )
        if self._argument().lower() != "in":
            raise self._error("there is no 'in' in this loop", "for %%i in (A B C) do COMMAND")
        self._skip_blanks()
        rest = self._rest()
        if not rest.startswith("(") or ")" not in rest:
            raise self._error(
                "there is no (SET) on this line", "write: for %%i in (A B C) do COMMAND"
            )
        members, _, _ = rest[1:].partition(")")
        self._column += len(members) + 2
        if self._argument().lower() != "do":
            raise self._error("there is no 'do' in this loop", "for %%i in (A B C) do COMMAND")
        return For(number, variable[2], members, self._body(depth, "do"), counts)

    def _command(self, depth: int) -> Command:
        """One command with what it is piped through."""
        first = self._one_command(depth)
        filters = []
        while self._rest().startswith("|") and not self._rest().startswith("||"):
            self._column += 1
            self._skip_blanks()
            filters.append(self._one_command(depth))
        if not filters:
            return first
        return Command(
            first.line, first.text, first.hides_output, first.hides_errors, tuple(filters)
        )

    def _one_command(self, depth: int) -> Command:
        """The text up to what ends a command; carets are taken out, and redirections."""
        number = self._row + 1
        text: list[str] = []
        quoted = hides_output = hides_errors = False
        while self._column < len(self._line):
            char = self._line[self._column]
            if char == '"':
                quoted = not quoted
            elif not quoted and char == "^":
                self._caret(text)
                continue
            elif not quoted and (char in "&|" or (char == ")" and depth)):
                break
            elif not quoted and char in "<>":
                handle = _handle_before(text)
                if self._redirection(char, handle):
                    hides_output = hides_output or handle == "1"
                    hides_errors = hides_errors or handle == "2"
                continue
            text.append(char)
            self._column += 1
        command = "".join(text).strip(_BLANKS)
        if not command:
            raise self._error("there is no command here")
        return Command(number, command, hides_output, hides_errors)

    def _caret(self, text: list[str]) -> None:
        """Take a caret: the character behind it has no meaning, and at an end the line goes on."""
        self._column += 1
        if self._column >= len(self._line):
            if self._row + 1 >= len(self._lines):
                return
            self._next_line()
            if not self._line:
                return
            if self._line[0] in _BLANKS:
                return
        text.append(self._line[self._column])
        self._column += 1

    def _redirection(self, sign: str, handle: str) -> bool:
        """Take a redirection; whether it hides what is written to `handle`."""
        self._column += 1
        if sign == ">" and self._rest().startswith(">"):
            self._column += 1
        if self._rest().startswith("&"):
            other = self._rest()[1:2]
            self._column += 2
            if sign == ">" and (handle, other) in (("2", "1"), ("1", "2")):
                return False
            raise self._error("this redirection is not taken", "taken are > nul and 2>&1")
        self._skip_blanks()
        start = self._column
        line = self._line
        while self._column < len(line) and line[self._column] not in f'{_BLANKS}&|<>)"':
            self._column += 1
        where = line[start : self._column]
        if where.lower().rstrip(":") != "nul":
            doing = "writes a file" if sign == ">" else "reads a file"
            raise self._error(
                f"this line {doing}, which has nothing to do with rules",
                "leave the redirection out; > nul is taken",
            )
        return sign == ">"


def _handle_before(text: list[str]) -> str:
    """The number of the output that a redirection is about, which is taken out of `text`."""
    if text and text[-1] in "12" and (len(text) == 1 or text[-2] in _BLANKS):
        return text.pop()
    return "1"
