"""The problem that blocks of published ports solve: with ufw they do not hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engines import delete_foreign_tables, passes, podman
from tests.netns import site
from tests.netns.site import HERE4, HOST, OUTSIDE, run

pytestmark = [pytest.mark.netns, pytest.mark.slow]

CHANGED = ("/etc/default", "/etc/ufw", "/lib/ufw")


@pytest.fixture
def ufw(tmp_path: Path) -> Iterator[None]:
    """It is in force, over copies of its files."""
    site.needs_isolation()
    if shutil.which("ufw") is None:
        assert not os.environ.get("CI"), "needs ufw"
        pytest.skip("needs ufw")
    layers = tmp_path / "layers"
    run("mkdir", str(layers))
    run("mount", "-t", "tmpfs", "layers", str(layers))
    for number, path in enumerate(CHANGED):
        upper, work = layers / f"{number}.upper", layers / f"{number}.work"
        upper.mkdir()
        work.mkdir()
        options = f"lowerdir={path},upperdir={upper},workdir={work}"
        run("mount", "-t", "overlay", "overlay", "-o", options, path)
    # Else it drops whatever is forwarded, and no published port works at all.
    settings = Path("/etc/default/ufw")
    accept = 'DEFAULT_FORWARD_POLICY="ACCEPT"'
    settings.write_text(settings.read_text().replace('DEFAULT_FORWARD_POLICY="DROP"', accept))
    run("ufw", "--force", "enable")
    yield
    run("ufw", "--force", "disable")
    delete_foreign_tables()
    for path in reversed(CHANGED):
        run("umount", path)
    run("umount", str(layers))


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
