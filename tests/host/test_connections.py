"""Tests of reading how full the table of connections is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsecd.host.connections import ConnectionTable, read_connection_table

STATISTICS = """\
entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop
000000ff  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 0000000a 00000001
000000ff  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000010 00000000
"""  # noqa: E501 - as the kernel writes it


def table(directory: Path, count: str, limit: str, statistics: str) -> ConnectionTable | None:
    (directory / "nf_conntrack_count").write_text(count)
    (directory / "nf_conntrack_max").write_text(limit)
    (directory / "statistics").write_text(statistics)
    return read_connection_table(directory, directory / "statistics")


@pytest.mark.parametrize(
    ("count", "limit", "full"),
    [("9\n", "10\n", False), ("10\n", "10\n", True), ("9\n", "0\n", False)],
)
def test_how_full_it_is(tmp_path: Path, count: str, limit: str, full: bool) -> None:
    """What was dropped is the sum over all processors; a limit of 0 is none."""
    read = table(tmp_path, count, limit, STATISTICS)
    assert read == ConnectionTable(int(count), int(limit), 26)
    assert read.is_full is full


@pytest.mark.parametrize(
    ("count", "statistics"), [("", STATISTICS), ("9", ""), ("9", "entries\n0\n"), ("x", STATISTICS)]
)
def test_what_the_kernel_does_not_tell_is_not_known(
    tmp_path: Path, count: str, statistics: str
) -> None:
    """Another form of these files is no error."""
    assert table(tmp_path, count, "10", statistics) is None


def test_a_kernel_without_it(tmp_path: Path) -> None:
    """There are no such files then."""
    assert read_connection_table(tmp_path, tmp_path / "none") is None
