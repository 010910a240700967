"""Fixtures that several files of these tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
