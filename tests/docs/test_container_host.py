"""The page about containers is followed word for word, with Podman and a real daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.following import follow
from tests.docs.machines import container_host

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = Path(__file__).parents[2] / "docs/tutorial/container-host.md"


def test_container_host(tmp_path: Path) -> None:
    """Ports, names, labels, and a quarantine."""
    with container_host(tmp_path) as machines:
        follow(PAGE, machines)
