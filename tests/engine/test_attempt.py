"""A change as a list of steps, each with what undoes it."""

from __future__ import annotations

import pytest

from ipsecd.engine.attempt import Attempt
from ipsecd.errors import BackendFailed, StoreFailed


def failing(error: BaseException) -> None:
    raise error


def test_what_fails_undoes_the_steps_before_it_the_last_one_first() -> None:
    """Each undoing is given what its step made, and a step that failed is not undone."""
    undone: list[int] = []

    def change() -> None:
        with Attempt() as attempt:
            attempt.step(lambda: 1, undone.append)
            attempt.step(lambda: 2, undone.append)
            attempt.step(lambda: failing(BackendFailed("no")), lambda _: undone.append(3))

    with pytest.raises(BackendFailed):
        change()
    assert undone == [2, 1]


def test_what_succeeds_is_not_undone() -> None:
    """The end of the block is the end of the attempt."""
    undone: list[int] = []
    with Attempt() as attempt:
        assert attempt.step(lambda: 1, undone.append) == 1
    assert undone == []


@pytest.mark.parametrize("error", [BackendFailed("no", "try again"), KeyboardInterrupt()])
def test_an_undoing_that_fails_is_told_and_the_others_are_tried(error: BaseException) -> None:
    """Whatever it was that failed first is what is raised."""
    undone: list[int] = []

    def change() -> None:
        with Attempt() as attempt:
            attempt.step(lambda: 1, undone.append)
            attempt.step(lambda: 2, lambda _: failing(StoreFailed("the disk is full")))
            failing(error)

    with pytest.raises(type(error)) as caught:
        change()
    assert undone == [1]
    told = getattr(caught.value, "hint", "") or "".join(caught.value.__notes__)
    assert "putting the old state back failed too: the disk is full" in told
