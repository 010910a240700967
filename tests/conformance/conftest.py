"""Every test of the suite is run with every row; one after the other, on one wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.rows import ROWS, Row
from tests.conformance.stages import Stage
from tests.conformance.wire import Wire
from tests.netns.site import needs_isolation


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    needs_isolation()
    made = Wire()
    yield made
    made.close()


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture(scope="module")
def shared_stage(row: Row, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Made once for a row: loading programs takes longer than most of the tests."""
    made = row.stage(lambda: request.getfixturevalue("wire"))
    yield made
    made.close()


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    """The stage of a row, with nothing in force."""
    shared_stage.reset()
    return shared_stage
