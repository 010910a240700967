"""A new repository for every test that asks for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.domain.fleets import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.made_in(tmp_path)
