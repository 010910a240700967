"""Owns how lengths of time and moments are written, as after ``--for``; must not know what ends."""

from __future__ import annotations

from ipsecctl.failures import UsageError
from ipsecd.quoting import quote

TYPE_CHECKING = False  # typing itself would cost more start-up time than this module
if TYPE_CHECKING:
    from datetime import datetime

_UNIT_S = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_WORDS = ("weeks", "days", "hours", "hrs", "minutes", "mins", "seconds", "secs")
"""Units as words; each may be in the singular, and begins with the letter that it stands for."""
_DIGITS = "0123456789"
_SPANS = "write it as 90s, 10m, 1h30m, 2d or 1w, or in seconds"


def duration_s(text: str) -> float:
    """The seconds that a length of time stands for: ``90s``, ``1h30m``, ``1w`` or plain seconds."""
    parts = [(text, "s")] if _is_number(text) else _parts(text)
    units = [unit for _, unit in parts]
    in_order = units == [unit for unit in _UNIT_S if unit in units]
    seconds = sum(int(number[:20]) * _UNIT_S[unit] for number, unit in parts) if in_order else 0
    if not seconds:
        hint = _SPANS if in_order else "name each unit once, the longest first, as in 1w2d3h4m5s"
        raise UsageError(f"{quote(text)} is not a length of time", hint)
    return float(seconds)


def _parts(text: str) -> list[tuple[str, str]]:
    """The numbers in `text`, each with its unit; none if there is anything else.

    Regular expressions would take longer to import than the whole command.
    """
    parts: list[tuple[str, str]] = []
    number = unit = ""
    # A digit behind it ends the last unit as it ends the others.
    for char in f"{text.lower()}0":
        if char not in _DIGITS:
            unit += char
            continue
        if unit:
            if not number or not (letter := _letter(unit)):
                return []
            parts.append((number, letter))
            number = unit = ""
        number += char
    return [] if number != "0" else parts


def _letter(unit: str) -> str:
    """The letter of a unit, which may be a word; empty if there is no such unit."""
    if unit in _UNIT_S:
        return unit
    return unit[0] if unit in _WORDS or f"{unit}s" in _WORDS else ""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def end_of(text: str, now: float) -> tuple[float, float | None]:
    """How many seconds after `now` an end is, and if it is a moment when that is.

    Both are in seconds, the moment since the epoch, as is `now`. It is a length of time as for
    ``duration_s``, or a moment as in ``2026-12-01T12:00Z``.
    """
    if not (_is_number(text[:4]) and text[4:5] == "-"):
        try:
            return duration_s(text), None
        except UsageError as error:
            hint = f"{error.hint}; or a moment: 2026-12-01T12:00Z"
            raise _neither(text, hint) from error
    until = _moment(text).timestamp()
    if until <= now:
        raise UsageError(f"{quote(text)} is in the past", "name a moment that is to come")
    return until - now, until


def past_of(text: str, now: float) -> float:
    """The moment of the past that is meant, in seconds since the epoch, as is `now`.

    It is a length of time, so long ago, or a moment: ``2026-11-24 14:03``, which is in the time
    zone of whoever asks unless it names another.
    """
    if not (_is_number(text[:4]) and text[4:5] == "-"):
        try:
            return now - duration_s(text)
        except UsageError as error:
            hint = f"{error.hint}, so long ago; or a moment: '2026-11-24 14:03'"
            raise _neither(text, hint) from error
    try:
        at = _local_moment(text).timestamp()
        on_the_wire(at)
    except (OverflowError, OSError, ValueError) as error:
        hint = "write it as '2026-11-24 14:03' or 2026-11-24T14:03:30Z"
        raise UsageError(f"{quote(text)} is not a moment that exists", hint) from error
    return at


def _neither(text: str, hint: str) -> UsageError:
    return UsageError(f"{quote(text)} is no length of time and no moment", hint)


def on_the_wire(at: float) -> str:
    """A moment in seconds since the epoch, as the daemon takes it."""
    from ipsecd.language.moments import format_moment

    return format_moment(int(at * 1_000_000) * 1000)


def in_local_time(text: str) -> str:
    """A moment that the daemon wrote, in the time zone of whoever reads it, to the second."""
    try:
        return _local_moment(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        # A clock may have shown a year that no time zone knows.
        return text


def _local_moment(text: str) -> datetime:
    from datetime import datetime

    return datetime.fromisoformat(text)


def _moment(text: str) -> datetime:
    from datetime import datetime

    hint = "write it as 2026-12-01T12:00Z, 2026-12-01T12:00:30+01:00"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{quote(text)} is not a moment that exists", hint) from error
    if moment.tzinfo is None:
        raise UsageError(
            f"{quote(text)} does not say in which time zone",
            "add Z for UTC, or the offset of the zone: +01:00",
        )
    return moment
