"""The file that says which transaction of the kernel was the last."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsecd.sources.transaction_file import NAME, TransactionFile

BOOT = "0123456789abcdef" * 2


@pytest.fixture
def kept(tmp_path: Path) -> TransactionFile:
    file = TransactionFile(tmp_path, BOOT)
    file.write(4_000_000_000_000, 4_294_967_295)
    return file


def test_the_next_daemon_reads_what_was_written_last(tmp_path: Path, kept: TransactionFile) -> None:
    """However long the numbers before were; nobody else reads it."""
    assert TransactionFile(tmp_path, BOOT).read() == (4_000_000_000_000, 4_294_967_295)
    kept.write(1, 7)
    assert TransactionFile(tmp_path, BOOT).read() == (1, 7)
    assert (tmp_path / NAME).stat().st_mode & 0o077 == 0


def test_what_another_boot_wrote_says_nothing(tmp_path: Path, kept: TransactionFile) -> None:
    """Its numbers begin anew with each boot."""
    assert kept.read() is not None
    assert TransactionFile(tmp_path, "f" * 32).read() is None


def test_a_file_that_was_cut_or_damaged_anywhere_says_nothing(
    tmp_path: Path, kept: TransactionFile
) -> None:
    """Whatever a crash left of it, and whatever else is there."""
    path = tmp_path / NAME
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert kept.read() is None
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :])
        assert kept.read() is None
    path.write_bytes(whole + b"\n")
    assert kept.read() is None


def test_a_file_that_mixes_two_writes_says_nothing(tmp_path: Path, kept: TransactionFile) -> None:
    """A write that ended early leaves the end of the one before."""
    path = tmp_path / NAME
    before = path.read_bytes()
    kept.write(4_000_000_000_000, 17)
    after = path.read_bytes()
    assert len(before) == len(after)
    for at in range(len(after)):
        mixed = after[:at] + before[at:]
        if mixed not in (before, after):
            path.write_bytes(mixed)
            assert kept.read() is None


def test_where_nothing_can_be_kept_nothing_is_known(tmp_path: Path) -> None:
    """Without a directory, or with something else in the place of the file."""
    missing = TransactionFile(tmp_path / "missing", BOOT)
    missing.write(1, 2)
    assert missing.read() is None
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    linked = TransactionFile(tmp_path, BOOT)
    linked.write(1, 2)
    assert linked.read() is None
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    assert linked.read() is None
