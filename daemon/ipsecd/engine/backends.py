"""Owns which backend is wanted, and the change from one to another while it enforces.

The settings and the command line of the daemon come first: what they name is what a start takes.
With ``auto``, which is the default, it is the backend that somebody chose last by its name.
"""

from __future__ import annotations

import socket

from ipsecd.backend.base import Backend
from ipsecd.backend.choice import fallback_backend, make_backend
from ipsecd.backend.registry import AUTO, OFFERED, STANDS_FOR_AUTO
from ipsecd.config import Directories
from ipsecd.engine.attempt import Attempt
from ipsecd.engine.enforcement import Enforcement
from ipsecd.errors import IpsecdError
from ipsecd.sources.kept import KeptFiles
from ipsecd.sources.transaction_file import TransactionFile


class Backends:
    """Which backend a start takes, and what was chosen since."""

    def __init__(
        self,
        setting: str,
        directories: Directories,
        kept: KeptFiles,
        owner: socket.socket | None = None,
    ) -> None:
        """`owner` is the socket by which an earlier process owned its table, if it is open."""
        self._setting = setting
        self._bpffs = directories.bpffs
        self._kept = kept
        self._owner = owner
        self._record = TransactionFile(directories.runtime)

    @property
    def wanted(self) -> str:
        """The name that a start would take."""
        if self._setting != AUTO:
            return self._setting
        return self._kept.backend(OFFERED) or AUTO

    def make(self) -> Backend:
        """The backend that is wanted, or what it falls back to; raises ``BackendFailed``."""
        return make_backend(self.wanted, self._bpffs, self._owner, self._record)

    def make_other(self, reason: IpsecdError) -> Backend:
        """What to use in its place, as it failed for `reason`; raises that if there is nothing."""
        return fallback_backend(self.wanted, reason, self._bpffs)

    def choose(self, enforcement: Enforcement, name: str) -> bool:
        """Have the backend called `name` enforce what is in force; whether a start takes it, too.

        Raises ``IpsecdError``, and then nothing has changed.
        """
        with Attempt() as attempt:
            ready = attempt.step(
                lambda: enforcement.make_ready(name),
                lambda programs: programs.close() if programs else None,
            )
            attempt.step(
                lambda: enforcement.run(lambda: enforcement.exchange_backend(name, ready)),
                lambda before: enforcement.run(lambda: enforcement.exchange_backend(before)),
            )
            if self._setting == AUTO:
                self._kept.save_backend(name)
        return name == (self.wanted if self.wanted != AUTO else STANDS_FOR_AUTO.name)
