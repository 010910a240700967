"""Owns how moments are written on the wire: in UTC, to the microsecond, as RFC 3339 has it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_moment(at_ns: int) -> str:
    """A moment in nanoseconds since the epoch, as ``2026-11-30T15:40:12.123456Z``."""
    try:
        moment = _EPOCH + timedelta(microseconds=at_ns // 1000)
    except OverflowError:
        # A clock that was never set shows years that nobody writes.
        moment = datetime.max.replace(tzinfo=UTC)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_moment(text: str) -> int:
    """The nanoseconds since the epoch that a moment is; raises ``InvalidInput``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _wrong(text, "is not a moment that exists") from error
    if moment.tzinfo is None:
        raise _wrong(text, "does not say in which time zone")
    try:
        return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    except OverflowError as error:
        raise _wrong(text, "is not a moment that exists") from error


def _wrong(text: str, what: str) -> InvalidInput:
    return InvalidInput(f"{quote(text)} {what}", "write it as 2026-12-01T12:00:30Z")
