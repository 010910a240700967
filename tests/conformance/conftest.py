"""Runs every test of the suite with every row, one after the other, on one wire."""

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
    link = Wire()
    yield link
    link.close()


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Row:
    chosen: Row = request.param
    return chosen


@pytest.fixture(scope="module")
def shared_stage(row: Row, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A stage that all tests of a row share: loading programs takes longer than most tests."""
    stage = row.stage(lambda: request.getfixturevalue("wire"))
    yield stage
    stage.close()


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    """The stage of a row, with nothing in force."""
    shared_stage.reset()
    return shared_stage
