"""Every kind of link, with each backend: what is blocked stays out, what is open goes through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.links import results
from tests.links.enforcement import enforcing, settled
from tests.links.ground import CannotBuild, Ground, Kind, built
from tests.links.kinds import KINDS
from tests.links.probes import DIRECTIONS
from tests.links.results import Fault
from tests.links.trial import probed
from tests.netns import site
from tests.netns.site import BACKENDS

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module", params=BACKENDS)
def backend(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """A backend whose daemon runs, on a host that has the wire."""
    name: str = request.param
    with site.wire(), enforcing(tmp_path_factory.mktemp("links"), name):
        yield name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_a_link_that_is_made_while_the_daemon_runs(kind: Kind, backend: str) -> None:
    """What is blocked stays out, from the first moment, and what is open goes through."""
    try:
        with built(kind, Ground(settled if backend == "xdp" else None)):
            faults = probed(kind)
    except CannotBuild as reason:
        if reason.said.startswith(results.LACKING):
            results.record(kind.title, backend, [], reason.said)
            results.excuse(str(reason), kind.since)
        text = f"it cannot be made while the daemon runs: {reason}"
        faults = [Fault(direction, text) for direction in DIRECTIONS]
    results.record(kind.title, backend, faults)
    assert not faults
