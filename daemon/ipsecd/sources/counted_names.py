"""Owns the file that names the lists of this host which count what their entries match."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from ipsecd.model.addresses import check_list_name
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.files import Disk
from ipsecd.sources.strict_json import decode, items, text

FORM = Form(
    "counted-lists",
    1,
    16 << 20,
    "have lists count again with: ipsecctl list count NAME on",
)


class CountedNames:
    """The file, which is always replaced as a whole."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._file = CheckedFile(state_dir / "counted-lists", FORM, disk)

    def save(self, names: Iterable[str]) -> None:
        """Keep the names; raises ``IpsecdError``."""
        self._file.save(json.dumps(sorted(names)).encode())

    def load(self) -> frozenset[str]:
        """The names; raises ``StoreFailed`` if the file cannot be used."""
        return self._file.load(_names) or frozenset()


def _names(content: bytes) -> frozenset[str]:
    names = [text(each, "a name") for each in items(decode(content), "the names")]
    for name in names:
        check_list_name(name)
    return frozenset(names)
