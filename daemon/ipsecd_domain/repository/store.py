"""Owns the files of a repository on disk; must not know what is in them.

1. Whoever reads meanwhile, and whatever ends us at any step, there is the old repository or the
   new one: files of new names first, and ``timestamp.json``, which leads to them, last.
2. Of two who write, the second waits for the first.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ipsecd.errors import StoreFailed
from ipsecd.quoting import quote_path
from ipsecd_domain.errors import DomainError

TIMESTAMP = "timestamp.json"
WAITING = "waiting.root.json"
"""The next root, which too few keys have signed so far; it lies beside what is served."""
_LOCK = ".lock"
_PATIENCE_S = 30.0
_ROOT = re.compile(r"([1-9]\d{0,9})\.root\.json")


class Store:
    """A repository in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metadata = directory / "metadata"
        self.targets = directory / "targets"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others who write out while the block runs; wait for them for half a minute."""
        try:
            descriptor = os.open(
                self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
            )
        except OSError as error:
            raise self._failed("write into", error) from error
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def read(self, path: str) -> bytes:
        """The file at `path`, such as ``metadata/timestamp.json``."""
        try:
            return (self.directory / path).read_bytes()
        except OSError as error:
            raise self._failed(f"read {path} of", error) from error

    def root_version(self) -> int:
        """The greatest version of a root that is here; 0 if there is none."""
        try:
            names = [entry.name for entry in self.metadata.iterdir()]
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._failed("read", error) from error
        return max((int(match[1]) for name in names if (match := _ROOT.fullmatch(name))), default=0)

    def waiting(self) -> bytes | None:
        """The root that waits for signatures."""
        return self.read(WAITING) if (self.directory / WAITING).exists() else None

    def write_waiting(self, content: bytes) -> None:
        """Keep a root that waits for signatures."""
        self._replace(WAITING, content)

    def drop_waiting(self) -> None:
        """Let no root wait any more."""
        (self.directory / WAITING).unlink(missing_ok=True)

    def write(
        self, targets: Mapping[str, bytes], metadata: Mapping[str, bytes], timestamp: bytes
    ) -> None:
        """Add files with names that nobody looks for yet, and then the one that leads to them."""
        for path, content in targets.items():
            self._replace(f"targets/{path}", content)
        for name, content in metadata.items():
            self._replace(f"metadata/{name}", content)
        self._replace(f"metadata/{TIMESTAMP}", timestamp)

    def write_root(self, version: int, content: bytes) -> None:
        """Add a root, for those who have the one before it, and for those who have none."""
        self._replace(f"metadata/{version}.root.json", content)
        self._replace("metadata/root.json", content)

    def _replace(self, path: str, content: bytes) -> None:
        try:
            replace_file(self.directory / path, content)
        except OSError as error:
            raise self._failed(f"write {path} of", error) from error

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise DomainError(
                        f"somebody else is changing {quote_path(str(self.directory))}",
                        "wait until that is done; 'fuser .lock' there says which process it is",
                    ) from error
                time.sleep(0.05)
            else:
                return

    def _failed(self, doing: str, error: OSError) -> StoreFailed:
        return StoreFailed(
            f"cannot {doing} the repository {quote_path(str(self.directory))}: "
            f"{error.strerror or error}",
            "check the path and who may use it; 'ipsecctl domain init' makes a new one",
        )


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put a file at `path`, durably, all or nothing; its directory is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
