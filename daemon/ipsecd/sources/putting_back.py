"""Owns how policy files get back what they held before a change; must not know why.

It is one change, as all changes of these files are. What they hold now is kept beside them, under
names that end in ``.unconfirmed-NUMBER``: nobody's work is lost.
"""

from __future__ import annotations

import os
from pathlib import Path

from ipsecd.sources.files import Disk
from ipsecd.sources.reading import (
    ASSIGNED,
    MAX_FILE_BYTES,
    POLICIES,
    SHARED,
    SUFFIX,
    read_link,
)
from ipsecd.sources.steps import (
    UNCONFIRMED,
    Step,
    carry_out,
    file_behind_links,
    name_beside,
    recover,
)
from ipsecd.sources.unconfirmed import PoliciesBefore


def put_back(disk: Disk, directory: Path, before: PoliciesBefore) -> None:
    """Have the files in `directory` hold what they held `before`; raises ``OSError``."""
    recover(disk, directory)
    folder = directory / POLICIES
    present = [f"{POLICIES}/{file.name}" for file in folder.glob(f"[!.]*{SUFFIX}")]
    present += [SHARED] * os.path.lexists(directory / SHARED)
    steps = []
    for path in sorted(before.paths_over(present)):
        file, content = directory / path, before.texts.get(path)
        if _holds(disk, file, content):
            continue
        kept = None
        if os.path.lexists(file):
            kept = name_beside(file_behind_links(file), UNCONFIRMED)
        steps.append(Step(path, text=content, kept=kept))
    if read_link(directory / ASSIGNED) != (before.link, None):
        steps.append(Step(ASSIGNED, target=before.link))
    if steps:
        carry_out(disk, directory, steps)


def _holds(disk: Disk, file: Path, content: str | None) -> bool:
    """Whether `file` holds just `content`, or is not there if that is None."""
    if content is None:
        return not os.path.lexists(file)
    try:
        return disk.read(file, MAX_FILE_BYTES) == content.encode()
    except OSError:
        return False
