"""The rule sets of the corpus become what was read and found right once; see ``expected``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ctl.importing.expected import (
    DIRECTORIES,
    EXPECTED,
    cases,
    files_in,
    imported,
    told,
)
from tests.ctl.importing.judged import is_as_said


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        pytest.param(name, directory, id=f"{name}-{directory.name}")
        for name in DIRECTORIES
        for directory in cases(name)
    ],
)
def test_a_rule_set_becomes_what_is_expected(name: str, directory: Path) -> None:
    """Policy, lists and report are the expected ones, and no difference is one nobody told of."""
    translation, proof = imported(name, files_in(directory))
    assert told(translation, proof) == (directory / EXPECTED).read_text(encoding="utf-8")
    assert is_as_said(proof)
