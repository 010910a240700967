"""Pauses of the search for garbage end, however they overlap."""

from __future__ import annotations

import gc

import pytest

from ipsecd.garbage import collection_paused


def test_it_goes_on_after_the_last_of_several_pauses() -> None:
    """Threads can pause it at the same time, and end in another order."""
    one, two = collection_paused(), collection_paused()
    with one:
        two.__enter__()
        assert not gc.isenabled()
    assert not gc.isenabled()
    two.__exit__(None, None, None)
    assert gc.isenabled()


def test_it_goes_on_after_an_error() -> None:
    """What was read until then is garbage."""
    with pytest.raises(ValueError, match="x"), collection_paused():
        raise ValueError("x")
    assert gc.isenabled()


def test_where_it_was_off_it_stays_off() -> None:
    """Somebody else may have a reason."""
    gc.disable()
    try:
        with collection_paused(), collection_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
