"""Links that are there when the daemon starts, where the kernel minds what is on them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.links import results
from tests.links.enforcement import enforcing
from tests.links.ground import CannotBuild, Ground, Kind, built
from tests.links.kinds import KINDS
from tests.links.trial import probed
from tests.netns import site
from tests.netns.site import BACKENDS

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.ordered], ids=lambda kind: kind.title
)
def test_a_link_that_is_there_before_the_daemon(tmp_path: Path, kind: Kind, backend: str) -> None:
    """A daemon that finds a link holds what is blocked and lets through what is open."""
    site.needs_isolation()
    title = f"{kind.title}{results.BEFORE}"
    with site.wire(), ExitStack() as stack:
        try:
            stack.enter_context(built(kind, Ground()))
        except CannotBuild as reason:
            results.record(title, backend, [], reason.said)
            results.excuse(str(reason), kind.since)
        with enforcing(tmp_path, backend):
            faults = probed(kind)
    results.record(title, backend, faults)
    assert not faults
