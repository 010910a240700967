"""Packed entries are sorted, each once, as a set of them would be."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.model import sorting
from ipsecd.model.sorting import in_order

WIDTHS = st.sampled_from((4, 16))


@pytest.fixture(autouse=True, params=["the C library", "Python", "another system"])
def _sorted_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the C library sort few entries, too, or Python many."""
    if request.param != "Python":
        monkeypatch.setattr(sorting, "MANY", 1)
        monkeypatch.setattr(sorting, "PIECE", 7)
    if request.param == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
    sorting._sort_of_c_library.cache_clear()
    yield
    sorting._sort_of_c_library.cache_clear()


@st.composite
def entries(draw: st.DrawFn) -> tuple[int, list[bytes]]:
    """A width and entries of few different bytes, so that many are alike and end with zeros."""
    width = draw(WIDTHS)
    octet = st.sampled_from((0, 0, 0, 1, 255))
    entry = st.lists(octet, min_size=width, max_size=width).map(bytes)
    return width, draw(st.lists(entry, max_size=40))


@given(entries())
def test_entries_are_sorted_and_each_is_there_once(drawn: tuple[int, list[bytes]]) -> None:
    """Whatever bytes they have, and however often each is there."""
    width, each = drawn
    packed = b"".join(each)
    assert in_order(packed, width) == b"".join(sorted(set(each)))
    assert packed == b"".join(each)


@given(WIDTHS, st.integers(0, 2**32), st.booleans())
def test_many_entries_are_sorted(width: int, seed: int, repeated: bool) -> None:
    """So are those of any bytes, in a bytearray."""
    chance = random.Random(seed)
    packed = chance.randbytes(width * 2000) * (1 + repeated)
    each = {packed[at : at + width] for at in range(0, len(packed), width)}
    assert in_order(bytearray(packed), width) == b"".join(sorted(each))


def test_the_c_library_sorts_many(request: pytest.FixtureRequest) -> None:
    """On this system it has what it takes, so that the tests above are about it."""
    sorts = sorting._sort_of_c_library() is not None
    assert sorts == ("another system" not in request.node.name)
