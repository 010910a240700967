"""Owns what a source is: files of a repository by their paths; must not know where they lie.

1. Nothing is longer than its reader allows: the rest is not read.
2. What a source says is not believed here; whoever reads it checks its signatures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ipsecd.quoting import quote
from ipsecd_domain.errors import NotFetched


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it was read, and the tag by which the source knows this state of it ("": none)."""

    data: bytes
    tag: str = ""


class Source(Protocol):
    """What files are read from, by their paths in the repository."""

    def read(self, path: str, most: int) -> bytes:
        """All of a file; raises ``Missing``, or ``NotFetched`` also beyond `most` bytes."""

    def read_if_changed(self, path: str, most: int, tag: str) -> Content | None:
        """The same, or None if the source still has the state that `tag` stands for."""

    def close(self) -> None:
        """Let go of connections."""


def check_path(path: str) -> str:
    """`path` if it stays within the repository; raises ``NotFetched``."""
    if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise NotFetched(
            f"{quote(path)} is not the name of a file in a repository",
            "whoever signed it wanted something else to be read",
        )
    return path
