"""The short form of the soak: other random changes each time, under a flood."""

from __future__ import annotations

import random

import pytest

from tests.moments.soak import soak
from tests.netns import site
from tests.netns.site import BACKENDS

pytestmark = pytest.mark.netns

SECONDS = 12


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_leaks_and_nothing_grows_whatever_happens(backend: str) -> None:
    """Links, addresses, rules, programs of others and the daemon change in any order."""
    site.needs_isolation()
    seed = random.SystemRandom().randrange(1 << 32)
    faults, report = soak(backend, SECONDS, seed)
    assert not faults, "\n".join((f"seed {seed}", *faults, *report))
