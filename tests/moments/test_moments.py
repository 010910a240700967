"""Nothing leaks at the moment when links and addresses change, whatever the daemon is doing."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from tests.moments.moments import Moment, moments, possible
from tests.moments.stage import LONGEST_OUTAGE_S, STATES, Stage, repetitions, stage
from tests.netns.site import BACKENDS

pytestmark = pytest.mark.netns

MOMENTS = {moment.name: moment for moment in moments()}
CASES = [(backend, state) for backend in BACKENDS for state in STATES]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def host(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """A host with the links of all moments, and its daemon alive, stopped or dead."""
    backend, state = request.param
    directory = tmp_path_factory.mktemp("moments")
    with stage(directory, backend, zlib.crc32(f"{backend} {state}".encode())) as staged:
        staged.prepare(tuple(moment for moment in MOMENTS.values() if possible(moment)))
        staged.enter(state)
        yield staged


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_nothing_leaks_while(host: Stage, moment: Moment) -> None:
    """What is blocked is never delivered, what is permitted is, and without a cut."""
    if not possible(moment):
        pytest.skip(f"this kernel has no links of type {moment.needs}")
    result = host.repeat(moment, repetitions(30 if host.state != "alive" else 20))
    assert result.leaked == 0, str(result)
    assert result.passed > 0, str(result)
    assert result.leaked_out == 0, str(result)
    assert result.passed_out > 0 or not moment.outward, str(result)
    if moment.uninterrupted:
        assert result.outage_s < LONGEST_OUTAGE_S, str(result)
