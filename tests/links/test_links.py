"""Every kind of link, with each backend: what is blocked stays out, what is open goes through."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.links import results
from tests.links.enforcement import enforcing
from tests.links.ground import CannotBuild, Ground, Kind, built
from tests.links.kinds import KINDS
from tests.links.probes import COUNT, DIRECTIONS, probe
from tests.links.results import Fault
from tests.netns import site
from tests.netns.site import BACKENDS, eventually, run

pytestmark = pytest.mark.netns

READY_S = 5
"""How long a link that has just been made may take until it carries packets."""


def settled() -> None:
    """Give the daemon time to put programs on the links that it puts any on."""
    eventually(covered, 1.5)


def covered() -> bool:
    """Whether each link of this host but VLANs has an XDP program."""
    links = json.loads(run("ip", "-d", "-j", "link"))
    return all(
        "xdp" in link
        or link["ifname"] == "lo"
        or link.get("linkinfo", {}).get("info_kind") == "vlan"
        for link in links
    )


def open_to_all(kind: Kind) -> bool:
    """Whether every port is open on a link, as without the daemon."""
    came = probe(kind.host, kind.peer, kind.versions, patience_s=1)
    return all(count == COUNT for count in came.values())


def probed(kind: Kind, when: str) -> list[Fault]:
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
    return [replace(fault, text=f"{when}, {fault.text}") for fault in leaks | closed]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_what_is_blocked_stays_out_and_what_is_open_goes_through(
    tmp_path: Path, kind: Kind, backend: str
) -> None:
    """On a link that is there before the daemon, and on one that is made while it runs.

    Without the daemon everything comes through, so a packet that does not was held by it.
    """
    site.needs_isolation()
    with site.wire(), ExitStack() as stack:
        with ExitStack() as before:
            try:
                before.enter_context(built(kind, Ground()))
            except CannotBuild as reason:
                results.record(kind.title, backend, {}, str(reason))
                results.excuse(str(reason), kind.since)
            assert eventually(partial(open_to_all, kind), READY_S), kind
            stack.enter_context(enforcing(tmp_path, backend))
            faults = probed(kind, "link before daemon")
        try:
            with built(kind, Ground(settled if backend == "xdp" else None)):
                faults += probed(kind, "daemon before link")
        except CannotBuild as reason:
            text = f"daemon before link, it cannot be made: {reason}"
            faults += [Fault(direction, text) for direction in DIRECTIONS]
        results.record(kind.title, backend, faults)
    assert not faults, "\n".join(fault.text for fault in faults)
