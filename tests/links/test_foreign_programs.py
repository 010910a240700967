"""Programs of somebody else on a link, before ours and after: the policy holds all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.links.enforcement import enforcing, settled
from tests.links.foreign import Foreign, foreign
from tests.links.ground import Ground, Kind, at_host, at_peer, built, scripts
from tests.links.probes import COUNT, probe
from tests.links.results import excuse, faults, version
from tests.netns import site
from tests.netns.site import BACKENDS

pytestmark = pytest.mark.netns

WIRE = Kind("wire", scripts(at_host("wire0"), at_peer("wire1")))
PROGRAMS = ("foreign_ok", "foreign_pipe", "foreign_next")
"""What returns OK ends the run at its hook; the others let the next program have a look."""


@pytest.fixture
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    site.needs_isolation()
    with (
        site.wire(),
        built(WIRE, Ground()),
        foreign(tmp_path_factory.mktemp("foreign")) as programs,
    ):
        yield programs


def needs_tcx() -> None:
    if version() < (6, 6):
        excuse("tcx came with Linux 6.6", since=(6, 6))


def wrong() -> list[str]:
    """What is not as it should be between this host and the peer."""
    return [fault.text for fault in faults(probe(WIRE.host, WIRE.peer, WIRE.versions))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("with_xdp", [False, True], ids=["tc", "XDP and tc"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_tcx_programs_that_were_there_first(
    others: Foreign, tmp_path: Path, program: str, with_xdp: bool, backend: str
) -> None:
    """Ours comes behind them, or is never asked."""
    needs_tcx()
    others.on_tcx("wire0", program)
    if with_xdp:
        others.on_xdp("wire0")
    assert all(count == COUNT for count in probe(WIRE.host, WIRE.peer, WIRE.versions).values())
    with enforcing(tmp_path, backend):
        assert wrong() == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("in_front", [False, True], ids=["behind", "in front"])
def test_tcx_programs_that_come_later(
    others: Foreign, tmp_path: Path, in_front: bool, backend: str
) -> None:
    """Whoever attaches may ask for the first place."""
    needs_tcx()
    with enforcing(tmp_path, backend):
        settled() if backend == "xdp" else None
        others.on_tcx("wire0", "foreign_ok", in_front=in_front)
        assert wrong() == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("later", [False, True], ids=["before the daemon", "later"])
def test_clsact_filters_of_a_lower_number(
    others: Foreign, tmp_path: Path, later: bool, backend: str
) -> None:
    """They are asked before ours where ours is a filter of clsact too, as before Linux 6.6."""
    if not later:
        others.on_clsact("wire0", "foreign_ok", 1)
        others.on_xdp("wire0")
        assert all(count == COUNT for count in probe(WIRE.host, WIRE.peer, WIRE.versions).values())
    with enforcing(tmp_path, backend):
        if later:
            others.on_clsact("wire0", "foreign_ok", 1)
        assert wrong() == []
