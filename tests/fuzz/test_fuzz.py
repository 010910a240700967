"""Runs fuzz targets, of the language and the domain, over seeds and damaged and other bytes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import (
    fuzz_backups,
    fuzz_documents,
    fuzz_filter_lists,
    fuzz_filters,
    fuzz_imports,
    fuzz_lists,
    fuzz_packets,
    fuzz_verdicts,
)

Target = Callable[[bytes], None]
TARGETS = pytest.mark.parametrize(
    ("target", "seeds"),
    [
        pytest.param(fuzz_filters.fuzz_one, fuzz_filters.SEEDS, id="filters"),
        pytest.param(fuzz_filter_lists.fuzz_one, fuzz_filter_lists.SEEDS, id="filter-lists"),
        pytest.param(fuzz_documents.fuzz_one, fuzz_documents.SEEDS, id="documents"),
        pytest.param(fuzz_lists.fuzz_one, fuzz_lists.SEEDS, id="lists"),
        pytest.param(fuzz_imports.fuzz_one, fuzz_imports.SEEDS, id="imports"),
        pytest.param(fuzz_backups.fuzz_one, fuzz_backups.SEEDS, id="backups"),
        pytest.param(fuzz_packets.fuzz_one, fuzz_packets.SEEDS, id="packets"),
        pytest.param(fuzz_verdicts.fuzz_one, fuzz_verdicts.SEEDS, id="verdicts"),
    ],
)


@TARGETS
def test_seeds_raise_nothing_unexpected(target: Target, seeds: tuple[bytes, ...]) -> None:
    """Every seed is a value or ``InvalidInput``."""
    for seed in seeds:
        target(seed)


@TARGETS
def test_arbitrary_bytes_raise_nothing_unexpected(target: Target, seeds: tuple[bytes, ...]) -> None:
    """Bytes of the seeds' alphabet, in any order, are a value or ``InvalidInput``."""
    alphabet = sorted({seed[n : n + 1] for seed in seeds for n in range(len(seed))})

    @settings(max_examples=700, deadline=None)
    @given(st.lists(st.one_of(st.sampled_from(alphabet), st.binary(max_size=2)), max_size=60))
    def check(pieces: list[bytes]) -> None:
        target(b"".join(pieces))

    check()


@TARGETS
def test_damaged_seeds_raise_nothing_unexpected(target: Target, seeds: tuple[bytes, ...]) -> None:
    """Seeds with a few bytes replaced are a value or ``InvalidInput``."""
    alphabet = sorted({seed[n : n + 1] for seed in seeds for n in range(len(seed))})
    piece = st.lists(st.sampled_from(alphabet), max_size=4).map(b"".join)

    @settings(max_examples=1300, deadline=None)
    @given(st.sampled_from(seeds), st.integers(0, 300), piece, st.integers(0, 4))
    def check(seed: bytes, place: int, inserted: bytes, removed: int) -> None:
        place %= len(seed) + 1
        target(seed[:place] + inserted + seed[place + removed :])

    check()
