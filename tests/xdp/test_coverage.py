"""Which programs an interface gets, and which are loaded for what it may become."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsecd.backend.xdp.coverage import CoveredInterface
from ipsecd.backend.xdp.links import Links


@pytest.mark.parametrize(
    ("suffix", "other"),
    [
        ("lan", "dialup"),
        ("dialup", "lan"),
        ("lan_bare", "dialup_bare"),
        ("dialup_bare", "lan_bare"),
    ],
)
def test_programs_of_the_other_type_are_loaded_where_types_matter(
    tmp_path: Path, suffix: str, other: str
) -> None:
    """A new name makes it the other type at once, and the verifier takes a tenth of a second."""
    links = Links(tmp_path / "links")
    covered = {2: CoveredInterface(2, "eth0", suffix)}
    needed = [f"receive_{suffix}", f"leave_{suffix}"]
    assert links.needed(covered, of_types=False) == needed
    wanted = {*needed, f"receive_{other}", f"leave_{other}"}
    assert set(links.needed(covered, of_types=True)) == wanted
