"""Owns the daemon's log lines, each an event with fields; must not know what they mean.

A line is ``event key=value key="quoted value"``. Values may be text of clients. So characters that
end a line, hide text or control a terminal are escaped, and the length of a value is limited.
"""

from __future__ import annotations

import logging
import os
import re
import traceback

from ipsecd.output import complain
from ipsecd.quoting import visible

MAX_VALUE = 8192
"""How many characters of a value are kept; tracebacks are the longest values."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+*=,\[\]-]+")
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}

_log = logging.getLogger("ipsecd")


def record(level: int, event: str, /, **fields: object) -> None:
    """Log `event` at a level of ``logging``; fields that are None are left out."""
    if _log.isEnabledFor(level):
        # ``Logger.log`` would look through the stack for who calls, and no line says it.
        nowhere = ("", 0)
        extra = {"fields": fields}
        _log.handle(_log.makeRecord(_log.name, level, *nowhere, event, (), None, extra=extra))


def record_bug(event: str, error: BaseException, /, **fields: object) -> None:
    """Log an error that no user can cause, with its traceback."""
    lines = "".join(traceback.format_exception(error))
    record(logging.ERROR, event, **fields, error=repr(error), traceback=lines)


def format_event(event: str, fields: dict[str, object]) -> str:
    """The line, without its end; values other than plain words are quoted."""
    words = [f"{key}={_quoted(value)}" for key, value in fields.items() if value is not None]
    return " ".join([event, *words])


class LineFormatter(logging.Formatter):
    """Renders log records, also of libraries; with `priorities`, with prefixes of sd-daemon(3)."""

    def __init__(self, *, priorities: bool) -> None:
        super().__init__()
        self._priorities = priorities

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record, without its end."""
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line = format_event(record.getMessage(), fields)
        else:
            message = record.getMessage()
            if record.exc_info:
                message += "\n" + self.formatException(record.exc_info)
            line = format_event("log", {"logger": record.name, "message": message})
        return f"<{_priority(record.levelno)}>{line}" if self._priorities else line


class _StandardError(logging.Handler):
    """Writes to standard error. A line that cannot be written is lost, and nothing is raised."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of one record."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a record that cannot be rendered is a bug
            line = format_event("log", {"unreadable": record.name, "error": repr(error)})
        complain(line)


def set_up(level: int = logging.INFO) -> None:
    """Send all logging to standard error, with priorities when the journal reads it."""
    # No line has the names of threads and processes, and asking for them costs a call.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = _StandardError()
    handler.setFormatter(LineFormatter(priorities="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if len(text) > MAX_VALUE:
        # The end of a traceback says most; of other values, the beginning does.
        half = MAX_VALUE // 2
        text = f"{text[:half]}…{text[-half:]}"
    if _PLAIN.fullmatch(text):
        return text
    return '"' + "".join(_SHORT.get(char) or visible(char) for char in text) + '"'


def _priority(level: int) -> int:
    """The syslog priority of a logging level (syslog(3): 2 critical to 7 debug)."""
    for at_least, priority in (
        (logging.CRITICAL, 2),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO, 6),
    ):
        if level >= at_least:
            return priority
    return 7
