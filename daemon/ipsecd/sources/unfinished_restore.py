"""Owns the file that says that lists change with policies, so that a crash leaves no mixture.

It is on disk before the first file of a list is written, and has the lists and what policies there
were before. Policies are written first, as one change; if they are other ones than before at a
start, what the lists should be is here, and else nothing was written yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ipsecd.errors import StoreFailed
from ipsecd.sources.backups import Backup, ListParts, pack, unpack
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.files import MAX_OWN_FILE_BYTES, Disk
from ipsecd.sources.reading import Loaded
from ipsecd.sources.strict_json import decode, flag, items, members, text

NAME = "restoring"
FORM = Form(
    NAME,
    1,
    MAX_OWN_FILE_BYTES,
    "a restore was interrupted: delete the file, look at the lists, and restore again",
)


@dataclass(frozen=True, slots=True)
class UnfinishedRestore:
    """The lists to be restored, and which policies there were before.

    ``begun`` says that the lists may have been written already, whatever the policies are.
    ``only`` are the names of the lists that change; None for all that there are.
    """

    lists: Mapping[str, ListParts]
    before: str
    begun: bool
    only: tuple[str, ...] | None = None

    def is_to_be_finished(self, loaded: Loaded) -> bool:
        """Whether some of it may be on disk, where the store holds `loaded`."""
        return self.begun or fingerprint(loaded) != self.before


class RestoreFile:
    """The file, replaced as a whole."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._path = state_dir / NAME
        self._disk = disk or Disk()
        self._file = CheckedFile(self._path, FORM, disk)

    def save(self, unfinished: UnfinishedRestore) -> None:
        """Keep what is being done; it is on disk when this returns. Raises ``StoreFailed``."""
        facts: dict[str, object] = {"before": unfinished.before, "begun": unfinished.begun}
        if unfinished.only is not None:
            facts["only"] = unfinished.only
        self._file.save(
            json.dumps(facts).encode() + b"\n" + pack(Backup({}, None, unfinished.lists))
        )

    def load(self) -> UnfinishedRestore | None:
        """What was being done; None if nothing was. Raises ``StoreFailed``."""
        return self._file.load(_unfinished)

    def delete(self) -> None:
        """Forget it, durably; raises ``StoreFailed``."""
        try:
            self._disk.unlink(self._path)
            if self._path.parent.is_dir():
                self._disk.sync_directory(self._path.parent)
        except OSError as error:
            raise StoreFailed(
                f"{str(self._path)!r} cannot be deleted: {error.strerror}",
                "look at the mount options and the owner of the directory, and delete it",
            ) from error


def fingerprint(loaded: Loaded) -> str:
    """What tells the policies of one moment from those of another: their files and the link."""
    files = sorted(loaded.digests.items())
    return sha256(json.dumps([files, loaded.link]).encode()).hexdigest()


def _unfinished(content: bytes) -> UnfinishedRestore:
    line, _, archive = content.partition(b"\n")
    facts = members(decode(line), "the first line")
    only = facts.pop("only", None)
    members(facts, "the first line", ("before", "begun"))
    return UnfinishedRestore(
        unpack(archive, NAME).lists,
        text(facts["before"], "the policies before"),
        flag(facts["begun"], "whether it has begun"),
        None if only is None else tuple(text(each, "a name") for each in items(only, "the names")),
    )
