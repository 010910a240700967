"""Owns the thread that hears of changes in a repository on this host; must not know its files.

Watched are the directory with the metadata and those above it up to the parent of the repository,
of these only what is on the way: so a repository that is replaced as a whole is noticed too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ipsecd.log import record
from ipsecd.quoting import shorten
from ipsecd_domain.fetcher.inotify import Inotify

SETTLE_S, SETTLED_S = 0.1, 0.5
"""A publisher writes several files: a look waits until none came for the one time, at most for
the other."""
RETIRE_S = 30.0
"""How often a thread sees whether it is still wanted."""


class FileWatch:
    """Calls `tell` when the repository in a directory changes, until it is retired."""

    def __init__(self, directory: Path, tell: Callable[[], None]) -> None:
        self._directory = directory
        self._tell = tell
        self._retired = threading.Event()
        threading.Thread(target=self._run, name="files", daemon=True).start()

    def retire(self) -> None:
        """Tell nothing any more, and end soon."""
        self._retired.set()

    def _run(self) -> None:
        try:
            while not self._retired.is_set():
                # Anew after each change: directories may have been replaced. What changes from
                # here on is heard of, and what changed before is seen by the look.
                with Inotify() as inotify:
                    self._watch(inotify)
                    self._tell()
                    self._wait(inotify)
        except OSError as error:
            record(
                logging.WARNING,
                "files-not-watched",
                directory=shorten(str(self._directory)),
                reason=error.strerror,
                then="they are looked at in intervals",
            )

    def _watch(self, inotify: Inotify) -> None:
        metadata = self._directory / "metadata"
        for directory, name in (
            (self._directory.parent, self._directory.name),
            (self._directory, metadata.name),
        ):
            with suppress(FileNotFoundError, NotADirectoryError):
                inotify.watch(directory, frozenset({name.encode()}))
        with suppress(FileNotFoundError, NotADirectoryError):
            inotify.watch(metadata)

    def _wait(self, inotify: Inotify) -> None:
        """Return once something has changed and settled, or nobody wants to hear of it."""
        while not self._retired.is_set():
            if inotify.wait(RETIRE_S):
                left = SETTLED_S
                while left > 0 and inotify.wait(SETTLE_S):
                    left -= SETTLE_S
                return
