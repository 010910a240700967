"""Moments as they are written on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.errors import InvalidInput
from ipsecd.language.moments import format_moment, parse_moment


@given(st.integers(0, 250_000_000_000_000_000))
def test_what_is_written_is_read_again_to_the_microsecond(microseconds: int) -> None:
    """Until the year 9892."""
    at = microseconds * 1000
    assert parse_moment(format_moment(at + 999)) == at


def test_it_is_in_utc() -> None:
    assert format_moment(1_795_867_200_123_456_789) == "2026-11-28T12:00:00.123456Z"
    assert parse_moment("2026-11-28T13:00:00+01:00") == 1_795_867_200_000_000_000


def test_years_that_nobody_writes_are_cut() -> None:
    assert format_moment(1 << 70).startswith("9999-12-31T")


@pytest.mark.parametrize("text", ["", "now", "2026-11-28T12:00", "2026-13-01T00:00Z", "\x1b[2J"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_moment(text)
