"""One daemon writes to the kernel's state of a network namespace, whatever becomes of its files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import Daemon

pytestmark = pytest.mark.netns


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running:
        yield running


@pytest.mark.parametrize("same", [True, False])
def test_a_second_daemon_is_refused(daemon: Daemon, tmp_path: Path, same: bool) -> None:
    """With the runtime directory deleted, or with other directories; the first goes on."""
    directory = tmp_path
    if same:
        shutil.rmtree(tmp_path / "run")
    else:
        directory = tmp_path / "other"
        directory.mkdir()
    second = Daemon(directory, daemon.backend)
    with pytest.raises(AssertionError, match="another ipsecd runs in this network namespace"):
        second.start()
    second.end()
    assert f"as process {daemon.pid}" in second.log()
    assert "\n  hint: stop it first" in second.log()
