"""Owns reading files of a repository that lies on this host."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote, quote_path
from ipsecd_domain.errors import Missing, NotFetched
from ipsecd_domain.fetcher.source import Content, check_path


class DirectorySource:
    """A repository in a directory of this host."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, path: str, most: int) -> bytes:
        """All of a file."""
        file = self._directory / check_path(path)
        try:
            # What is no file, a FIFO for one, must not make us wait.
            descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise NotFetched(
                    f"{quote_path(str(file))} is not a file", "see whether the source is right"
                )
            with os.fdopen(descriptor, "rb") as stream:
                data = stream.read(most + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Missing(
                f"{quote_path(str(file))} is not there",
                "see whether the source is right, and was copied as a whole",
            ) from error
        except OSError as error:
            raise NotFetched(
                f"{quote_path(str(file))} cannot be read: {error.strerror or error}",
                "user ipsecd-domain must be able to read it; its unit sees neither /home nor /tmp",
            ) from error
        if len(data) > most:
            raise NotFetched(
                f"{quote_path(str(file))} is longer than {most:,} bytes",
                "what is signed is not as long; somebody has put another file in its place",
            )
        return data

    def read_if_changed(self, path: str, most: int, tag: str) -> Content | None:
        """Always the whole file: reading it is the way to see whether it has changed."""
        del tag
        return Content(self.read(path, most))

    def close(self) -> None:
        """Nothing is held."""


def directory_of(url: str) -> Path:
    """The directory that a ``file://`` URL names; raises ``InvalidInput``."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise InvalidInput(
            f"{quote(url)} does not name a directory on this host",
            "write three slashes and the whole path: file:///srv/fleet",
        )
    return Path(path)
