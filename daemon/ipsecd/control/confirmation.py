"""Owns the methods that confirm a change, or put it back."""

from __future__ import annotations

from typing import Any

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import outcome
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import PutBack
from ipsecd.host.terminals import tell_terminal


def unconfirmed(engine: Engine) -> dict[str, Any] | None:
    """The change that waits to be confirmed, as the interface has it; None if none does."""
    change, left_s = engine.confirmation.change, engine.confirmation.left_s()
    if change is None or left_s is None:
        return None
    return {
        "method": change.method,
        "by": change.by,
        "message": change.message,
        "left_s": left_s,
    }


def last_put_back(engine: Engine) -> str | None:
    """What was put back last, in words; None if nothing was since the daemon started."""
    last = engine.confirmation.last
    return last.sentence if last else None


def tell_of(last: PutBack) -> None:
    """Tell whoever made a change, at the terminal it was made from, that it was put back."""
    tell_terminal(last.change.terminal, last.change.uid, f"ipsecd: {last.sentence}")


def _get_unconfirmed(engine: Engine, _: Request) -> dict[str, Any]:
    return {"change": unconfirmed(engine), "put_back": last_put_back(engine)}


def _confirm(engine: Engine, request: Request) -> dict[str, Any]:
    change = engine.confirmation.confirm(request.caller)
    return outcome(engine, f"the change by {change.by} is confirmed")


def _revert(engine: Engine, request: Request) -> dict[str, Any]:
    last = engine.confirmation.put_back(f"{request.by} reverted it")
    tell_of(last)
    return outcome(engine, last.sentence, warns=True)


METHODS = (
    Method("GetUnconfirmed", Role.VIEW, Work.QUICK, _get_unconfirmed),
    Method("Confirm", Role.CHANGE, Work.CHANGE, _confirm),
    Method("Revert", Role.CHANGE, Work.CHANGE, _revert),
)
