"""Owns standard output and standard error; must not know what is written to them.

No other module writes to them. Invariants:

1. Only lines of visible text reach a terminal, and colours that were asked for here. Everything
   else that somebody wrote into a name, a label or a path is escaped.
2. Output that cannot be written raises nothing. ``finish`` reports it. Once a change was made this
   does not alter the exit code, which tells about the change.
3. A temporary line is erased before anything else is written, and at the end.
4. So is a screen left, and what the terminal showed before is there again.
5. What is captured is written nowhere, and comes uncoloured to whoever captures it.
"""

from __future__ import annotations

import errno
import os
import sys

from ipsecd.quoting import visible

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self, TextIO

_SEAL = os.urandom(8).hex()
"""Marks the escape sequences made here; it is random, so no text of others contains it."""
_ERASE = "\x1b[K"
"""Erases from the cursor to the end of the line (EL of ECMA-48)."""
_OPEN_SCREEN, _CLOSE_SCREEN = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
"""Have the other screen, no cursor, and no line that goes on in the next; and all of it as it was.

They are private modes of xterm, which terminals of today share.
"""
_HOME, _ERASE_BELOW = "\x1b[H", "\x1b[J"
"""To the first line, and erase all that is below the cursor (CUP and ED of ECMA-48)."""
_COLUMNS = 80
"""The width of a terminal that does not tell its width."""
_LINES = 24


class _State:
    """The state of the output of this process."""

    def __init__(self) -> None:
        self.failure: OSError | None = None
        self.change_made = False
        self.shows_line = False
        self.shows_screen = False
        self.captured: Captured | None = None


class Captured:
    """What is said and complained of while it is entered, as lines, in the place of output."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.complaints: list[str] = []
        self._outer: Captured | None = None

    def __enter__(self) -> Self:
        self._outer, _state.captured = _state.captured, self
        return self

    def __exit__(self, *_: object) -> None:
        _state.captured = self._outer


_state = _State()


def begin() -> None:
    """Let both streams take any text; call this before anything is written."""
    global _state  # noqa: PLW0603 - one process has one output
    _state = _State()
    for stream in (sys.stdout, sys.stderr):
        # Streams in tests have no encoding that could be set.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(*lines: str) -> None:
    """Write lines to standard output, in one piece; a line break inside one is escaped."""
    if _state.captured is not None:
        _state.captured.said += lines
        return
    text = "".join(f"{_rendered(line)}\n" for line in lines)
    _to_stdout(lambda stdout: stdout.write(text))


def say_text(text: str) -> None:
    """Write a text that holds its own line breaks to standard output."""
    say(*_lines(text))


def say_json(value: Any, indent: int | None = 2) -> None:
    """Write `value` for programs to read, in ASCII, to standard output."""
    # Its import takes longer than all else that most commands do, and they do not print any.
    import json  # noqa: PLC0415

    say_text(json.dumps(value, indent=indent).replace("\x7f", "\\u007f"))


def write_bytes(content: bytes) -> None:
    """Write what is no text, such as an archive, to standard output."""

    def write(stdout: TextIO) -> None:
        # What was said before comes first.
        stdout.flush()
        stdout.buffer.write(content)

    _to_stdout(write)


def ask(question: str) -> str:
    """The answer of a person to a question; "" if it could not be shown, or nobody answers."""
    text = _rendered(question)
    _to_stdout(lambda stdout: stdout.write(text))
    flush()
    if _state.failure or sys.stdin is None:
        return ""
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        say("")
    return answer.strip()


def complain(*lines: str) -> None:
    """Write lines to standard error, if it can be written to."""
    if _state.captured is not None:
        _state.captured.complaints += lines
        return
    _hide()
    _to_stderr("".join(f"{_rendered(line)}\n" for line in lines))


def complain_text(text: str) -> None:
    """Write a text that holds its own line breaks to standard error."""
    complain(*_lines(text))


def can_show() -> bool:
    """Whether standard error is a terminal that can overwrite a line."""
    try:
        shows = sys.stderr is not None and sys.stderr.isatty()
    except ValueError:
        return False
    return shows and os.environ.get("TERM") != "dumb"


def show(line: str) -> None:
    """Show a temporary line on the terminal, in the place of the one before.

    It is cut to the width of the terminal: a wrapped line could not be erased.
    """
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    _state.shows_line = True
    _to_stderr(f"\r{_rendered(line)[: (columns or _COLUMNS) - 1]}{_ERASE}")


def can_draw() -> bool:
    """Whether standard input and output are a terminal that can place what it shows."""
    try:
        both = [s is not None and s.isatty() for s in (sys.stdin, sys.stdout)]
    except ValueError:
        return False
    return all(both) and os.environ.get("TERM", "dumb") != "dumb"


def screen_size() -> os.terminal_size:
    """The columns and lines of the terminal now; 80 and 24 if it does not tell."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno() if sys.stdout is not None else -1)
    except (OSError, ValueError):
        size = os.terminal_size((0, 0))
    return os.terminal_size((size.columns or _COLUMNS, size.lines or _LINES))


def draw(lines: list[str]) -> None:
    """Show `lines` as the whole screen of the terminal, in one piece, in the place of the last one.

    They are no wider than the terminal, and no more than it has lines.
    """
    begin_screen = "" if _state.shows_screen else _OPEN_SCREEN
    text = f"{_ERASE}\r\n".join(map(_rendered, lines))
    _hide_line()
    _state.shows_screen = True
    _write(lambda stdout: stdout.write(f"{begin_screen}{_HOME}{text}{_ERASE}{_ERASE_BELOW}"))
    flush()


def leave_screen() -> None:
    """Have the terminal show what it showed before the first ``draw``."""
    if _state.shows_screen:
        _state.shows_screen = False
        _write(lambda stdout: stdout.write(_CLOSE_SCREEN))
        flush()


def columns() -> int | None:
    """The width of the terminal that standard output goes to; None if it goes to none."""
    try:
        if sys.stdout is None or not sys.stdout.isatty():
            return None
        return os.get_terminal_size(sys.stdout.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return None


def flush() -> None:
    """Flush standard output."""
    if _state.failure:
        return
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        _fail(error)


def broken() -> bool:
    """Whether output can no longer be written, so that there is no point in going on."""
    return _state.failure is not None


def change_made() -> None:
    """Note that a change was made: the exit code tells about that, and not about the output."""
    _state.change_made = True


def finish(code: int, program: str) -> int:
    """Write out all output; the exit code of a process that was about to end with `code`.

    Afterwards the interpreter has nothing to write when it ends, and so no error to report.
    """
    _hide()
    flush()
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        _divert(sys.stderr)
    failure = _state.failure
    if failure is None:
        return code
    _divert(sys.stdout)
    if failure.errno == errno.EPIPE:
        # The reader has closed the pipe, because it has read enough.
        return code
    done = "what was asked for is done, but " if _state.change_made and not code else ""
    complain(f"{program}: {done}the output could not be written: {failure.strerror}")
    return code if _state.change_made else code or 1


def paint(text: str, colour: int) -> str:
    """`text` in a colour of ECMA-48 (SGR), if standard output is a terminal that shows colours."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    plain = plain or _state.captured is not None
    if plain or sys.stdout is None or not sys.stdout.isatty():
        return text
    return f"\x1b{_SEAL}[{colour}m{text}\x1b{_SEAL}[0m"


def _rendered(text: str) -> str:
    """One line as it is written: escaped, with the colours made here."""
    return "\x1b".join(map(visible, text.split(f"\x1b{_SEAL}")))


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def _hide() -> None:
    """Have nothing on the terminal that is not there to stay."""
    _hide_line()
    leave_screen()


def _hide_line() -> None:
    """Erase the temporary line, if there is one."""
    if _state.shows_line:
        _state.shows_line = False
        _to_stderr(f"\r{_ERASE}")


def _to_stderr(text: str) -> None:
    try:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
    except (OSError, ValueError):
        # There is no other place to report this.
        return


def _to_stdout(write: Callable[[TextIO], object]) -> None:
    _hide()
    _write(write)


def _write(write: Callable[[TextIO], object]) -> None:
    if _state.failure:
        return
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")  # noqa: TRY301 - as if it were written to
        write(sys.stdout)
    except (OSError, ValueError) as error:
        _fail(error)


def _fail(error: OSError | ValueError) -> None:
    _state.failure = error if isinstance(error, OSError) else OSError(errno.EBADF, "it is closed")


def _divert(stream: TextIO | None) -> None:
    """Discard what is still in the buffer of `stream`."""
    try:
        if stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    except (OSError, ValueError):
        return
