"""Owns which flows audit rules have noted, and the method that tells them.

Must not know how packets are seen. Flows are kept in memory, as many as fit, from when the daemon
began; what is in none of them is counted.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from ipsecd.control.method import Method, Request, Role, Work
from ipsecd.engine import Engine
from ipsecd.language.flows import flow_to_json
from ipsecd.language.moments import format_moment
from ipsecd.model.flows import Flow, Recorded, flow_of
from ipsecd.model.kinds import Action
from ipsecd.model.sightings import Sighting
from ipsecd.model.values import Origin

MOST_FLOWS = 100_000
"""About 30 MB. A scan of all ports of a host is as many flows as it has ports: so a rule has no
more of them than are free, and there is room for what other rules note."""
PAGE = 1000
"""Flows in one reply: to write them as JSON takes some milliseconds, in which nobody else runs."""


class _Key(NamedTuple):
    """A flow of one rule; policies of this host and of its domain may have the same name."""

    origin: Origin
    flow: Flow


class AuditedFlows:
    """The flows that were noted. ``take`` and the readers may be called in any thread."""

    def __init__(self, most: int = MOST_FLOWS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._flows: dict[_Key, Recorded] = {}
        # The same keys in their order. Making a list of all of them takes a tenth of a second, in
        # which nothing else would run, and a page is one of a hundred.
        self._keys: list[_Key] = []
        self._of_rules: Counter[Origin] = Counter()
        self._packets = 0
        self._left_out = 0
        self._lost = self._lost_before = 0
        self._since_ns = time.time_ns()

    def take(self, sightings: Iterable[Sighting], blocked: int, lost: int) -> None:
        """Record those of `sightings` that audit rules noted.

        `lost` is how many packets were not told of since whoever tells began; if it has become
        smaller, he has begun anew. `blocked` are all packets, of which nothing else is of interest.
        """
        del blocked
        with self._lock:
            if lost < self._lost:
                self._lost_before += self._lost
            self._lost = lost
            for sighting in sightings:
                if sighting.action is Action.AUDIT:
                    self._note(sighting)

    def page(self, policy: str | None, start: int) -> dict[str, Any]:
        """The reply to ``AuditedFlows``."""
        with self._lock:
            # Flows only come: the numbers of those that are there stay.
            keys = self._keys[start : start + PAGE]
            entries = [(key.origin, self._flows[key]) for key in keys]
            following = start + PAGE if start + PAGE < len(self._keys) else None
            packets, unseen = self._packets, self._lost_before + self._lost + self._left_out
        return {
            "flows": [
                flow_to_json(recorded, origin)
                for origin, recorded in entries
                if policy is None or origin.policy == policy
            ],
            "next": following,
            "packets": packets,
            "unseen": unseen,
            "since": format_moment(self._since_ns),
        }

    def _note(self, sighting: Sighting) -> None:
        origin = sighting.origin
        flow = flow_of(sighting.packet, origin.rule, sighting.flags) if origin else None
        if origin is None or flow is None:
            self._left_out += 1
            return
        key = _Key(origin, flow)
        before = self._flows.get(key)
        if before is None:
            if self._of_rules[origin] >= self._most - len(self._keys):
                self._left_out += 1
                return
            self._keys.append(key)
            self._of_rules[origin] += 1
        self._packets += 1
        number, first_ns = (before.packets, before.first_ns) if before else (0, sighting.at_ns)
        # The flow that is there already is kept, and not one for each packet.
        same = before.flow if before else flow
        self._flows[key] = Recorded(same, number + 1, first_ns, sighting.at_ns)


def _audited_flows(engine: Engine, request: Request) -> dict[str, Any]:
    del engine
    assert request.audited is not None
    reply: dict[str, Any] = request.audited.page(request["policy"], max(0, request["start"]))
    return reply


METHODS = (Method("AuditedFlows", Role.VIEW, Work.LONG, _audited_flows),)
