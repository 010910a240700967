"""What the tests of all integrations have around them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.finders import keep_foreign
from tests.netns.site import Daemon
from tests.netns.site import daemon as running


@pytest.fixture
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon on a wire, with a rule that no integration may touch.

    It enforces with nftables, unless a test is `with_both_backends`.
    """
    with running(tmp_path, getattr(request, "param", "nftables")) as started:
        keep_foreign(started)
        yield started
