"""Owns what the log says of a call: who made it, what it was to do, and what came of it."""

from __future__ import annotations

import time
from typing import Any

from ipsecd.log import record
from ipsecd.protocol.messages import Call
from ipsecd.service.access import Peer

MAX_OBJECT = 200


def object_of(parameters: dict[str, Any]) -> str | None:
    """What a call is about, for the log: the name in it, else the filters; None if neither."""
    for key in ("name", "policy", "selector", "packet", "source"):
        value = parameters.get(key)
        if isinstance(value, str) and value:
            return value[:MAX_OBJECT]
    return _filters_text(parameters.get("filters"))


def details_of(parameters: dict[str, Any]) -> dict[str, object]:
    """What a change is to do, for the log: filters and when they end, and what it is for."""
    change = parameters.get("change")
    details: dict[str, object] = {}
    if "name" in parameters or "policy" in parameters:
        details["filters"] = _filters_text(parameters.get("filters"))
    details |= {key: parameters.get(key) for key in ("action", "ttl_s", "until")}
    if isinstance(change, dict):
        details |= {key: change.get(key) for key in ("confirm_s", "force", "sudo_user")}
        details["why"] = change.get("message")
    return details


def _filters_text(filters: object) -> str | None:
    if not isinstance(filters, list):
        return None
    return " ".join(str(text)[:MAX_OBJECT] for text in filters[:8])[:MAX_OBJECT]


def record_call(
    peer: Peer, call: Call, begun: float, outcome: str, level: int, message: str | None = None
) -> None:
    """Log who called what, and the outcome; `begun` is in monotonic seconds."""
    record(
        level,
        "call",
        method=call.name,
        uid=peer.uid,
        user=peer.user or None,
        pid=peer.pid,
        object=object_of(call.parameters),
        **details_of(call.parameters),
        outcome=outcome,
        message=message,
        ms=round((time.monotonic() - begun) * 1000, 1),
    )
