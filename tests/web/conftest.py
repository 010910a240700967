"""Owns what the tests of the page share: a daemon, the page in front of it, and a browser."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.browser import Browser, Tab, running
from tests.web.serving import Serving, daemon_in, serving
from tests.web.stand_in import StandIn


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path, as sockets need it."""
    with tempfile.TemporaryDirectory(prefix="web-") as made:
        yield Path(made)


@pytest.fixture
def daemon(directory: Path) -> Iterator[StandIn]:
    fake = daemon_in(directory)
    try:
        yield fake
    finally:
        fake.close()


@pytest.fixture
def site(daemon: StandIn) -> Iterator[Serving]:
    with serving(daemon.path) as served:
        served.enter()
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(prefix="browser-") as made, running(Path(made)) as started:
        yield started


@pytest.fixture
def tab(browser: Browser) -> Tab:
    return browser.tab()
