"""Owns which of the daemon's own records hear of packets as they are dropped.

The flight recorder hears of a few at any time, and the flows that audit rules note are recorded
while there is such a rule. It must not know how packets are seen, nor what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ipsecd.control.audited import AuditedFlows
from ipsecd.engine.recorder.recorder import Recorder
from ipsecd.service.watching import Watching

RECORDER_RATE = 50
"""Packets a second for the flight recorder: enough to know the sources of a minute, and so few that
a flood costs next to nothing."""
AUDIT_RATE = 2000
"""Packets a second while a policy is tried: what is not heard of cannot be learned."""


class Heard(Protocol):
    """What is asked of an engine; for any thread."""

    @property
    def audited(self) -> AuditedFlows:
        """The flows that audit rules noted."""
        ...

    @property
    def recorder(self) -> Recorder | None:
        """The flight recorder; None if there is none."""
        ...

    @property
    def has_audits(self) -> bool:
        """Whether any rule in force is an audit."""
        ...


class Hearing:
    """Begins and ends what the records hear; used in one thread."""

    def __init__(self, engine: Heard, watching: Watching) -> None:
        self._engine, self._watching = engine, watching
        self._end_audits: Callable[[], None] | None = None

    def begin(self) -> None:
        """Have the flight recorder hear of packets, if there is one."""
        if recorder := self._engine.recorder:
            self._watching.add_sink(RECORDER_RATE, recorder.drops.take)

    def follow(self) -> None:
        """Have audited flows recorded as long as there are audits; cheap if that is so already."""
        if self._engine.has_audits and self._end_audits is None:
            self._end_audits = self._watching.add_sink(AUDIT_RATE, self._engine.audited.take)
        elif self._end_audits and not self._engine.has_audits:
            self._end_audits()
            self._end_audits = None
