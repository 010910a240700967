"""Owns that all who listen hear of every state, whatever puts it in force; knows no listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ipsecd.engine.state import State


class Heard(Protocol):
    """What has a state that others hear of."""

    listeners: list[Callable[[State], None]]
    """Called in turn with each state once it is in force; they must be quick, and not raise."""


class HeardState:
    """The attribute that holds the state."""

    def __get__(self, owner: Heard, _: type | None = None) -> State:
        """The state that was set last."""
        state: State = owner.__dict__["state"]
        return state

    def __set__(self, owner: Heard, new: State) -> None:
        """Have another state, and tell of it."""
        owner.__dict__["state"] = new
        tell_of(owner, new)


def tell_of(owner: Heard, state: State) -> None:
    """Have all hear of a state that is in force."""
    for listener in owner.listeners:
        listener(state)
