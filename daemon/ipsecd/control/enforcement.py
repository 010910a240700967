"""Owns the methods that stop and start enforcement as a whole, and change what enforces."""

from __future__ import annotations

from typing import Any

from ipsecd.backend.registry import OFFERED
from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.control.replies import outcome
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, InvalidInput
from ipsecd.quoting import quote


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


def _set_backend(engine: Engine, request: Request) -> dict[str, Any]:
    name = request["name"]
    if name not in OFFERED:
        raise InvalidInput(
            f"there is no backend {quote(name)} to choose", f"there are: {', '.join(OFFERED)}"
        )
    before = engine.ask(lambda backend: backend.name)
    kept = engine.choose_backend(name)
    return {"name": name, "before": before, "kept": kept, "setting": engine.config.backend}


METHODS = (
    Method("Stop", Role.CHANGE, Work.CHANGE, _stop),
    Method("Start", Role.CHANGE, Work.CHANGE, _start),
    Method("SetBackend", Role.CHANGE, Work.CHANGE, _set_backend),
)
