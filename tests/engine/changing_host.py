"""A host in memory on which changes are made, with the clocks of its boot."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

from ipsecd.backend.base import Backend
from ipsecd.backend.memory import MemoryBackend
from ipsecd.config import Config, Directories
from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.engine.caller import Caller, ChangeOptions
from ipsecd.engine.this_boot import Boot
from ipsecd.errors import IpsecdError
from ipsecd.language.documents import format_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.sources.files import Disk
from tests.engine.effects import Fate, FatefulBackend, FatefulDisk
from tests.engine.site import Clock

CONFIRM_S = 60.0
FIRST, OTHER = "login 1", "login 2"


def policy(name: str, *texts: str) -> Policy:
    filters = tuple(parse_filter(text) for text in texts)
    return Policy(name, (Rule("R", filters, Action.BLOCK),))


BEFORE, AFTER, MORE = policy("A", "*=0:1:UDP"), policy("A", "*=0:2:UDP"), policy("B", "*=0:3:TCP")


class FullDisk(Disk):
    """A disk that can be full, and still gives what it has."""

    is_full = False

    def write(self, path: Path, content: bytes, like: Path | None = None) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        super().write(path, content, like)


def no_other(reason: IpsecdError) -> Backend:
    """What takes the place of a backend that takes nothing at the start: nothing does."""
    raise reason


class Host:
    """An engine over memory, the clocks of its boot, and what a client would call."""

    def __init__(
        self, path: Path, disk: Disk | None = None, backend: Backend | None = None
    ) -> None:
        self.path = path
        self.clock, self.boottime = Clock(), Clock()
        self.boot = "a" * 32
        self.disk: Disk = disk or FullDisk()
        self.backend: Backend = backend or MemoryBackend(self.clock)
        self.engine = self.made()
        self.engine.start()

    def made(self) -> Engine:
        directories = Directories(self.path / "etc", self.path / "lib", self.path / "run")
        return Engine(
            Config(),
            directories,
            lambda: self.backend,
            self.disk,
            self.clock,
            no_other,
            this_boot=Boot(self.boot, self.boottime),
        )

    def killed(self) -> Engine:
        """The engine of the next process, which finds what the kernel and the disk hold."""
        self.engine = self.made()
        self.engine.start()
        return self.engine

    def reboot(self) -> Engine:
        """The engine that enforces at boot, before the daemon starts; it has nothing in force."""
        self.backend = MemoryBackend(self.clock)
        self.boot, self.boottime.now, self.clock.now = "b" * 32, 5.0, 5.0
        shutil.rmtree(self.path / "run", ignore_errors=True)
        self.engine = self.made()
        return self.engine

    def call(
        self,
        method: str,
        document: Policy | None = None,
        *,
        confirm_s: float | None = None,
        login: str = FIRST,
        force: bool = False,
        text: bytes | None = None,
        **given: Any,
    ) -> dict[str, Any]:
        """Call `method` with a policy as its document, or the `text` of a list."""
        control = Control(self.engine)
        caller = Caller(0, 1, "root", ChangeOptions(confirm_s, force, login=login))
        content = format_policy(document).encode() if document else text
        if "filters" in given:
            given = control.with_filters_read({"source": None, **given}, None)
        return control.call(method, given, "uid 0 (root)", {}, content, caller=caller)

    def apply(self, document: Policy, confirm_s: float | None = CONFIRM_S) -> None:
        self.call("ApplyPolicy", document, confirm_s=confirm_s, assign=True, dry_run=False)

    def block(self, text: str, ttl_s: float | None = None, **given: Any) -> None:
        given |= {"filters": [text], "action": "block", "ttl_s": ttl_s, "until": None}
        self.call("AddDynamicRules", name=text, existing="replace", **given)

    def state(self) -> tuple[object, ...]:
        """What is on disk, in memory and in force."""
        policies = self.path / "etc/policies"
        files = {file.name: file.read_text() for file in sorted(policies.glob("*.yaml"))}
        link = self.path / "etc/assigned"
        rules = {rule.name: (rule.filters, rule.deadline) for rule in self.engine.dynamic}
        return (
            files,
            str(link.readlink()) if link.is_symlink() else None,
            {name: stored.policy for name, stored in self.engine.loaded.policies.items()},
            self.engine.loaded.assigned,
            self.engine.backend.observe().digest,
            rules,
            self.engine.state.quarantines,
        )

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.boottime.now += seconds

    def pass_deadline(self) -> None:
        self.wait(CONFIRM_S + 1)
        self.engine.confirmation.put_back_if_due()

    @property
    def pending(self) -> bool:
        """Whether a change waits, on disk and in memory; both say the same."""
        on_disk = (self.path / "lib/unconfirmed").exists()
        assert on_disk == (self.engine.confirmation.change is not None)
        return on_disk


def fateful_host(path: Path) -> tuple[Host, Fate]:
    """A host on which a policy is in force, and what decides which of its next effects fails."""
    fate = Fate()
    host = Host(path, FatefulDisk(fate), FatefulBackend(fate))
    host.apply(BEFORE, None)
    return host, fate
