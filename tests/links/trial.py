"""Tries a link: what comes through, with a daemon and without."""

from __future__ import annotations

from tests.links import results
from tests.links.ground import Ground, Kind, built
from tests.links.probes import COUNT, probe
from tests.links.results import Fault
from tests.netns.site import eventually

READY_S = 5
"""How long a link that has just been made may take until it carries packets."""


def probed(kind: Kind) -> list[Fault]:
    """What is wrong on a link. What is open gets some time to become so, a leak gets none."""
    leaks: set[Fault] = set()
    closed: set[Fault] = set()

    def right() -> bool:
        faults = results.faults(probe(kind.host, kind.peer, kind.versions, patience_s=1))
        leaks.update(fault for fault in faults if fault.leak)
        closed.clear()
        closed.update(fault for fault in faults if not fault.leak)
        return not closed

    eventually(right, READY_S)
    return sorted(leaks | closed, key=str)


def closed_without_us(kind: Kind) -> str:
    """What does not come through on a link of a host without a daemon; it should be nothing.

    Raises:
        CannotBuild: if this kernel has no such link.
    """
    came = {}

    def all_came() -> bool:
        came.update(probe(kind.host, kind.peer, kind.versions, patience_s=1))
        return all(count == COUNT for count in came.values())

    with built(kind, Ground()):
        eventually(all_came, READY_S)
    return "; ".join(f"{port}: {count}" for port, count in came.items() if count < COUNT)
