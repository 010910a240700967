"""Owns what is done around every change: that it can be put back; must not know what it changes."""

from __future__ import annotations

from typing import Any

from ipsecd.control.method import Method, Request
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part


def carry_out(method: Method, engine: Engine, request: Request) -> dict[str, Any]:
    """What the handler of `method` replies; raises ``IpsecdError``."""
    confirm_s = request.caller.options.confirm_s
    if method.part is None or request["dry_run"]:
        return method.handler(engine, request)
    confirmation = engine.confirmation
    if method.part is Part.POLICIES:
        confirmation.must_be_over()
    if confirm_s is None:
        return method.handler(engine, request)
    confirmation.begin(method.part, method.name, request.by, request.caller)
    try:
        reply = method.handler(engine, request)
    except Exception:
        # What fails changes nothing. Should it have changed something all the same, that waits too.
        confirmation.made(confirm_s)
        raise
    confirmation.made(confirm_s)
    return reply
