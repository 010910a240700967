"""Links of a host without a daemon: they carry everything, so what is held was held by one."""

from __future__ import annotations

import pytest

from tests.links import results
from tests.links.ground import CannotBuild, Kind
from tests.links.kinds import KINDS
from tests.links.trial import closed_without_us
from tests.netns import site

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.title)
def test_every_port_is_open_on_a_link_without_a_daemon(kind: Kind) -> None:
    """Also those that the other tests block."""
    site.needs_isolation()
    with site.wire():
        try:
            closed = closed_without_us(kind)
        except CannotBuild as reason:
            results.excuse(str(reason), kind.since)
    assert closed == ""
