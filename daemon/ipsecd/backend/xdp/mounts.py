"""Owns finding out whether pins can be made in a directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ipsecd.errors import BackendFailed


def must_be_bpf_file_system(directory: Path) -> None:
    """Raise ``BackendFailed`` unless pins can be made at `directory`."""
    if not is_bpf_file_system(directory):
        raise BackendFailed(
            f"{str(directory)!r} is not in a BPF file system",
            "mount one: mount -t bpf bpf /sys/fs/bpf; or use backend: nftables",
        )


def is_bpf_file_system(directory: Path) -> bool:
    """Whether pins can be made at `directory`, which need not exist yet."""
    path = directory.resolve()
    while not path.exists():
        path = path.parent
    kinds = dict(_mounts())
    while str(path) not in kinds:
        path = path.parent
    return kinds[str(path)] == "bpf"


def _mounts() -> Iterator[tuple[str, str]]:
    """Mount points and types of file systems, in the order of mounting (proc(5))."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        yield before.split()[4], after.split()[0]
