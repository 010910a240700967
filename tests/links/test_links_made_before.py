"""Links that are there when the daemon starts, where the kernel minds what is on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.links import results
from tests.links.enforcement import enforcing
from tests.links.ground import CannotBuild, Ground, Kind, built
from tests.links.kinds import KINDS
from tests.links.trial import probed
from tests.netns import site
from tests.netns.site import BACKENDS

# What comes before, once, takes long on an emulated machine.
pytestmark = [pytest.mark.netns, pytest.mark.timeout(300, func_only=True)]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.ordered], ids=lambda kind: kind.title
)
def test_a_link_that_is_there_before_the_daemon(
    tmp_path: Path, kind: Kind, name: str, bare: dict[str, str | CannotBuild]
) -> None:
    """The same for a daemon that finds the link."""
    title = f"{kind.title}{results.BEFORE}"
    without_us = bare[kind.title]
    if isinstance(without_us, CannotBuild):
        results.record(title, name, [], without_us.said)
        results.excuse(str(without_us), kind.since)
    assert without_us == ""
    with site.wire(), built(kind, Ground()), enforcing(tmp_path, name):
        faults = probed(kind)
    results.record(title, name, faults)
    assert not faults
