"""A new repository for every test that asks for one, and the verbs on domain policy."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from ipsecctl.__main__ import main
from tests.ctl.conftest import Ran, Run
from tests.domain.fleets import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.made_in(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*argv: str) -> Ran:
        code = main(["ipsecctl", "domain", *argv])
        # An error keeps the connection of its client, and the fake daemon serves one at a time.
        gc.collect()
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run_command
