"""Owns what is done around every change: what it spares, that it can be put back, and its history.

It must not know what a change changes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ipsecd.control.deeds import counts_by_itself, deed_of
from ipsecd.control.method import Method, Request
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.engine.doing import doing
from ipsecd.engine.guard import guarding
from ipsecd.engine.noting import noting


def carry_out(method: Method, engine: Engine, request: Request) -> dict[str, Any]:
    """What the handler of `method` replies; raises ``IpsecdError``."""
    with guarding(request.caller.guarded):
        return _carry_out_noted(method, engine, request)


def _carry_out_noted(method: Method, engine: Engine, request: Request) -> dict[str, Any]:
    """Carry out a change, and have it in the history."""
    if method.role.reads or method.for_programs or request["dry_run"]:
        return method.handler(engine, request)
    before = engine.moment
    try:
        with doing(partial(deed_of, method, request, None)):
            reply = _carry_out(method, engine, request)
    except Exception:
        # What fails changes nothing. Should it have changed something all the same, it is noted.
        engine.history.note(before, engine.moment, lambda: deed_of(method, request, None))
        raise
    counts = counts_by_itself(method, reply)
    make_deed = partial(deed_of, method, request, reply)
    engine.history.note(before, engine.moment, make_deed, counts=counts)
    return reply


def _carry_out(method: Method, engine: Engine, request: Request) -> dict[str, Any]:
    """Carry out a change, which is put back if it has to be confirmed and nobody does."""
    confirm_s = request.caller.options.confirm_s
    if method.part is None:
        return method.handler(engine, request)
    confirmation = engine.confirmation
    if Part.POLICIES in method.part:
        confirmation.must_be_over()
    if confirm_s is None:
        return method.handler(engine, request)
    confirmation.begin(method.part, method.name, request.by, request.caller)
    try:
        with noting(confirmation.note_rules if Part.DYNAMIC in method.part else None):
            reply = method.handler(engine, request)
    except Exception:
        # What fails changes nothing. Should it have changed something all the same, that waits too.
        confirmation.made(confirm_s)
        raise
    confirmation.made(confirm_s)
    return reply
