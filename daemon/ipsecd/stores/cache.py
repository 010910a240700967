"""Owns what the daemon keeps for its next start: the last good policy, and resolved names.

Both can be lost without harm to what people wrote; a damaged file reads as none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipsecd.errors import InvalidInput, StoreFailed
from ipsecd.model.values import Family, Network
from ipsecd.stores.files import Disk, replace_file

Names = Mapping[str, tuple[Network, ...]]


class CheckedFile:
    """A file with a checksum in its first line, replaced as a whole."""

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self._path = path
        self._disk = disk or Disk()

    def save(self, content: bytes) -> None:
        """Replace the content, on disk when this returns; raises ``StoreFailed``."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            checksum = hashlib.sha256(content).hexdigest().encode()
            replace_file(self._disk, self._path, checksum + b"\n" + content)
        except OSError as error:
            raise StoreFailed(
                f"{str(self._path)!r} cannot be written: {error.strerror}",
                "look at the free space, the mount options and the owner of the directory",
            ) from error

    def load(self) -> bytes | None:
        """The content; None if there is no file or it is damaged."""
        try:
            checksum, _, content = self._path.read_bytes().partition(b"\n")
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest().encode() == checksum else None


class NameStore:
    """The DNS names in use, with the addresses they had when they were last looked up."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._file = CheckedFile(state_dir / "names", disk)

    def save(self, names: Names) -> None:
        """Keep `names`; raises ``StoreFailed``."""
        self._file.save(names_to_json(names))

    def load(self) -> dict[str, tuple[Network, ...]]:
        """What was kept last; nothing if it cannot be read."""
        content = self._file.load()
        try:
            return names_from_json(content) if content else {}
        except (ValueError, KeyError, TypeError, InvalidInput):
            return {}


def names_to_json(names: Names) -> bytes:
    """The names in one order, as JSON."""
    plain = {
        name: [[int(n.family), f"{n.address:x}"] for n in networks]
        for name, networks in sorted(names.items())
    }
    return json.dumps(plain, ensure_ascii=False).encode()


def names_from_json(content: bytes) -> dict[str, tuple[Network, ...]]:
    """The inverse of ``names_to_json``; raises what malformed content leads to."""
    plain: dict[str, Any] = json.loads(content)
    return {
        name: tuple(
            Network(Family(number), int(address, 16), Family(number).bits)
            for number, address in networks
        )
        for name, networks in plain.items()
    }
