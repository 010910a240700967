"""What links are like without a daemon is found out once, before any runs."""

from __future__ import annotations

import pytest

from tests.links.ground import CannotBuild, Kind
from tests.links.kinds import KINDS
from tests.links.trial import closed_without_us
from tests.netns import site


def _asked_for(session: pytest.Session) -> list[Kind]:
    """The kinds of link that the selected tests are about."""
    asked = {
        value.title
        for item in session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        for value in item.callspec.params.values()
        if isinstance(value, Kind)
    }
    return [kind for kind in KINDS if kind.title in asked]


@pytest.fixture(scope="session")
def bare(request: pytest.FixtureRequest) -> dict[str, str | CannotBuild]:
    """For each kind of link why there is none here, or what does not come through: nothing."""
    site.needs_isolation()
    said: dict[str, str | CannotBuild] = {}
    with site.wire():
        for kind in _asked_for(request.session):
            try:
                said[kind.title] = closed_without_us(kind)
            except CannotBuild as reason:
                said[kind.title] = reason
    return said
