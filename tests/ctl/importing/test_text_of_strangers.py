"""Whatever the files of other firewalls hold, they are rules, or an error with file and line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.fuzz_other_imports import SEEDS, fuzz_one

ALPHABET = sorted({seed[at : at + 1] for seed in SEEDS for at in range(len(seed))})


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_raise_nothing_unexpected(seed: bytes) -> None:
    """Each is a policy that does what it says, or is refused."""
    fuzz_one(seed)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.integers(0, 400),
    st.lists(st.sampled_from(ALPHABET), max_size=4).map(b"".join),
    st.integers(0, 6),
)
def test_damaged_seeds_raise_nothing_unexpected(
    seed: bytes, place: int, inserted: bytes, removed: int
) -> None:
    """With a few bytes replaced, which keeps the first: it says what they are."""
    place = 1 + place % max(1, len(seed))
    fuzz_one(seed[:place] + inserted + seed[place + removed :])


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([b"%d" % kind for kind in range(10)]),
    st.lists(st.one_of(st.sampled_from(ALPHABET), st.binary(max_size=2)), max_size=40),
)
def test_arbitrary_bytes_raise_nothing_unexpected(kind: bytes, pieces: list[bytes]) -> None:
    """In any order."""
    fuzz_one(kind + b"".join(pieces))
