"""Pauses of the search for garbage end, however they overlap."""

from __future__ import annotations

import gc

import pytest

from ipsecd.garbage import collection_paused


def test_it_goes_on_after_the_last_of_several_pauses() -> None:
    """Threads can pause it at the same time, and end their pauses in another order."""
    first, second = collection_paused(), collection_paused()
    with first:
        second.__enter__()
        assert not gc.isenabled()
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_it_goes_on_after_an_error() -> None:
    """An error in a pause ends the pause: what was read until then is garbage."""
    with pytest.raises(ValueError, match="x"), collection_paused():
        raise ValueError("x")
    assert gc.isenabled()


def test_where_it_was_off_it_stays_off() -> None:
    """A pause does not switch it on at its end if somebody else had switched it off."""
    gc.disable()
    try:
        with collection_paused(), collection_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
