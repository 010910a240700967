"""Owns standard output and standard error; must not know what is said there.

Nobody else writes to them. Invariants:

1. What reaches a terminal are lines of visible text, and colours that were asked for here: whatever
   else somebody wrote into a name, a label or a path is escaped.
2. Output that cannot be written raises nothing. ``finish`` says so, and once a change was made it
   does not alter the exit code, which tells about the change.
3. A line that is shown for the moment is gone before anything else is said, and at the end.
"""

from __future__ import annotations

import errno
import json
import os
import sys

from ipsecd.quoting import visible

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from typing import Any, TextIO

_SEAL = os.urandom(8).hex()
"""Marks the escapes made here: no text from outside can hold it."""
_ERASE = "\x1b[K"
"""From here to the end of the line (EL of ECMA-48)."""
_COLUMNS = 80
"""Of a terminal that does not say how wide it is."""


class _State:
    """What has become of the output of this process."""

    def __init__(self) -> None:
        self.failure: OSError | None = None
        self.change_made = False
        self.shows_line = False


_state = _State()


def begin() -> None:
    """Make both streams able to take any text; call it before anything is said."""
    global _state  # noqa: PLW0603 - one process has one output
    _state = _State()
    for stream in (sys.stdout, sys.stderr):
        # The streams of tests have no encoding to set.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(*lines: str) -> None:
    """Write lines to standard output, in one piece; a line break inside one is escaped."""
    _to_stdout("".join(f"{_rendered(line)}\n" for line in lines))


def say_text(text: str) -> None:
    """Write a text that holds its own line breaks to standard output."""
    say(*_lines(text))


def say_json(value: Any, indent: int | None = 2) -> None:
    """Write `value` for programs to read, in ASCII, to standard output."""
    say_text(json.dumps(value, indent=indent).replace("\x7f", "\\u007f"))


def ask(question: str) -> str:
    """What the person answers to a question; "" if it could not be shown, or nobody answers."""
    _to_stdout(_rendered(question))
    flush()
    if _state.failure or sys.stdin is None:
        return ""
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        say("")
    return answer.strip()


def complain(*lines: str) -> None:
    """Write lines to standard error, if that can be written to."""
    _hide()
    _to_stderr("".join(f"{_rendered(line)}\n" for line in lines))


def complain_text(text: str) -> None:
    """Write a text that holds its own line breaks to standard error."""
    complain(*_lines(text))


def can_show() -> bool:
    """Whether standard error is a terminal that can write a line anew."""
    try:
        shows = sys.stderr is not None and sys.stderr.isatty()
    except ValueError:
        return False
    return shows and os.environ.get("TERM") != "dumb"


def show(line: str) -> None:
    """Show a line on the terminal for the moment, in the place of the one that is shown.

    It is cut where the terminal's own line ends: what is wrapped could not be taken back.
    """
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    _state.shows_line = True
    _to_stderr(f"\r{_rendered(line)[: (columns or _COLUMNS) - 1]}{_ERASE}")


def flush() -> None:
    """Hand on what was said so far."""
    if _state.failure:
        return
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        _fail(error)


def broken() -> bool:
    """Whether what is said reaches nobody, so that there is no point in going on."""
    return _state.failure is not None


def change_made() -> None:
    """From here on the exit code tells about the change, and not about the output."""
    _state.change_made = True


def finish(code: int, program: str) -> int:
    """The exit code of a process that was about to end with `code`, all output being handed on.

    The interpreter finds nothing more to write, and so nothing to complain about.
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
        # Whoever read it has seen enough.
        return code
    done = "what was asked for is done, but " if _state.change_made and not code else ""
    complain(f"{program}: {done}the output could not be written: {failure.strerror}")
    return code if _state.change_made else code or 1


def paint(text: str, colour: int) -> str:
    """`text` in a colour of ECMA-48 (SGR), if standard output is a terminal that shows colours."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    if plain or sys.stdout is None or not sys.stdout.isatty():
        return text
    return f"\x1b{_SEAL}[{colour}m{text}\x1b{_SEAL}[0m"


def _rendered(text: str) -> str:
    """One line as it goes out."""
    return "\x1b".join(map(visible, text.split(f"\x1b{_SEAL}")))


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def _hide() -> None:
    """Take back the line that is shown, if there is one."""
    if _state.shows_line:
        _state.shows_line = False
        _to_stderr(f"\r{_ERASE}")


def _to_stderr(text: str) -> None:
    try:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
    except (OSError, ValueError):
        # There is nobody left to tell.
        return


def _to_stdout(text: str) -> None:
    _hide()
    if _state.failure:
        return
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")  # noqa: TRY301 - as if it were written to
        sys.stdout.write(text)
    except (OSError, ValueError) as error:
        _fail(error)


def _fail(error: OSError | ValueError) -> None:
    _state.failure = error if isinstance(error, OSError) else OSError(errno.EBADF, "it is closed")


def _divert(stream: TextIO | None) -> None:
    """Let what is left in the buffer of `stream` go nowhere."""
    try:
        if stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    except (OSError, ValueError):
        return
