"""Owns the methods that stop and start enforcement as a whole."""

from __future__ import annotations

from typing import Any

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import outcome
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed


def _stop(engine: Engine, _: Request) -> dict[str, Any]:
    changed = not engine.stopped
    engine.stop()
    return outcome(engine, "enforcement is stopped; nothing is in force", changed=changed)


def _start(engine: Engine, _: Request) -> dict[str, Any]:
    if not engine.stopped and not engine.held:
        return outcome(engine, "enforcement is running already", changed=False)
    engine.start()
    if engine.held:
        reason = engine.failures[0].partition("\n")[0]
        raise BackendFailed(
            f"enforcement is started, and what should be in force is not: {reason}",
            "mend what ipsecctl status shows, then run: ipsecctl reload",
        )
    return outcome(engine, "enforcement is started", warns=True)


METHODS = (
    Method("Stop", Role.CHANGE, Work.CHANGE, _stop),
    Method("Start", Role.CHANGE, Work.CHANGE, _start),
)
