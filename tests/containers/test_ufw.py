"""The problem that blocks of published ports solve: with ufw they do not hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engines import passes, podman
from tests.netns import firewalls, site
from tests.netns.site import HERE4, HOST, OUTSIDE, run

pytestmark = [pytest.mark.netns, pytest.mark.slow]


@pytest.fixture
def ufw() -> Iterator[None]:
    """It is in force, and lets pass what is forwarded: else no published port works at all."""
    with firewalls.ufw("default allow routed"):
        yield


@pytest.mark.usefixtures("ufw")
@pytest.mark.parametrize("backend", site.BACKENDS)
def test_a_block_that_ufw_loses_holds_here(tmp_path: Path, backend: str) -> None:
    """The same port, published by a container: denied by ufw it is open, blocked here it is not."""
    with podman(tmp_path) as engine, site.daemon(tmp_path, backend) as daemon:
        run("ufw", "deny", "8080/tcp")
        run("ufw", "deny", "81/tcp")
        engine.run("web", "-p", "8080:80/tcp")
        web = engine.inside("web")
        assert not passes(OUTSIDE, HOST, HERE4, 81, tcp=True)
        assert passes(OUTSIDE, web, HERE4, 8080, at=80, tcp=True)
        daemon.ctl("block", "tcp/8080")
        assert not passes(OUTSIDE, web, HERE4, 8080, at=80, tcp=True)
