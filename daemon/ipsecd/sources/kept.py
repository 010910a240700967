"""Owns the files that the daemon keeps for the next one, and the warnings about them.

Losing one of them does no harm to what people wrote, nor to the other files. A file that cannot be
read counts as absent. One that cannot be written keeps its former content. Both are reported until
they are mended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TypeVar

from ipsecd.config import Directories
from ipsecd.errors import IpsecdError, StoreFailed
from ipsecd.log import record
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Inventory
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.domain import DomainFile, Taken
from ipsecd.sources.dynamic_file import DynamicFile
from ipsecd.sources.files import MAX_OWN_FILE_BYTES, Disk
from ipsecd.sources.inventory_file import InventoryFile
from ipsecd.sources.last_good import CompiledPolicy, LastGood, encode_last_good
from ipsecd.sources.names import dns_names_of
from ipsecd.sources.names_file import Names, NamesFile
from ipsecd.sources.remembered import (
    PolicyExcerpt,
    PolicyReader,
    excerpts_from_json,
    excerpts_to_json,
)

LAST_GOOD, NAMES, CONTAINERS, POLICIES = "last-good", "names", "containers", "policies"
DOMAIN = "domain"
FORM = Form(
    "policies",
    1,
    MAX_OWN_FILE_BYTES,
    "nothing need be done: the policy files are read anew, and it is written again",
)
BACKEND = "backend"
BACKEND_FORM = Form(
    "backend",
    1,
    1024,
    "the settings say which backend enforces; to choose another, run: ipsecctl backend NAME",
)
Content = TypeVar("Content")


class KeptFiles:
    """The last good policy, excerpts of policies, DNS names, the domain, and inventories.

    Also the dynamic rules: ``dynamic`` has to be told whenever one is added or removed.
    """

    def __init__(self, directories: Directories, disk: Disk | None = None) -> None:
        self._last_good = LastGood(directories.state, disk)
        self._names = NamesFile(directories.state, disk)
        self._domain = DomainFile(directories.state, disk)
        self._inventories = InventoryFile(directories.runtime, disk)
        self._policies = CheckedFile(directories.state / "policies", FORM, disk)
        self._backend = CheckedFile(directories.state / "backend", BACKEND_FORM, disk)
        self.reader = PolicyReader()
        self._saved_key = ""
        self._saved_policies = b""
        self.dynamic = DynamicFile(
            directories.runtime, disk, tell=partial(_log, "dynamic-rules-not-kept")
        )
        self._warnings_by_file: dict[str, str] = {}
        self._encoded: tuple[CompiledPolicy, bytes] | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the files now, with what to do."""
        return (*self._warnings_by_file.values(), *self.dynamic.warnings)

    def last_good(self) -> CompiledPolicy | None:
        """The policy that was in force last, None if it is not known."""
        compiled = self._read(LAST_GOOD, lambda: self._last_good.load(self.reader), None)
        self._saved_key = compiled.key if compiled else ""
        return compiled

    def names(self) -> dict[str, tuple[Network, ...]]:
        """The addresses that DNS names had."""
        return self._read(NAMES, self._names.load, {})

    def backend(self, names: Container[str]) -> str | None:
        """The backend that somebody chose, one of `names`; None if nobody did."""

        def parse(content: bytes) -> str:
            name = content.decode("ascii")
            if name not in names:
                raise ValueError("it does not name a backend")
            return name

        return self._read(BACKEND, lambda: self._backend.load(parse), None)

    def save_backend(self, name: str) -> None:
        """Keep which backend somebody chose; raises ``StoreFailed``."""
        self._backend.save(name.encode())
        self._warnings_by_file.pop(BACKEND, None)

    def load_excerpts(self) -> None:
        """Give the reader the excerpts of policies that an earlier process has read."""
        excerpts: Mapping[str, PolicyExcerpt] = self._read(
            POLICIES, lambda: self._policies.load(excerpts_from_json) or {}, {}
        )
        self.reader.use_excerpts(excerpts)

    def inventories(self) -> dict[str, Inventory]:
        """What each container engine said last."""
        return self._read(CONTAINERS, self._inventories.load, {})

    def domain(self) -> Taken | None:
        """What was taken from the domain last, None if it is not known."""
        return self._read(DOMAIN, lambda: self._domain.load(self.reader), None)

    def save_domain(self, taken: Taken, before: Taken) -> None:
        """Keep what was taken from the domain; if that fails, what was taken `before` is kept.

        Raises ``StoreFailed``, or ``LimitExceeded``.
        """
        try:
            self._domain.save(taken)
        except StoreFailed as error:
            # It may have got its name already, and only that is not known to be on disk.
            try:
                self._domain.save(before)
            except StoreFailed as second:
                error.hint += f"; putting the old state back failed too: {second.message}"
            raise
        self._warnings_by_file.pop(DOMAIN, None)

    def tidy_domain(self, taken: Taken) -> None:
        """Delete the lists of what was taken before `taken`, which is kept and in force now."""
        self._domain.tidy(taken)

    def check(self, compiled: CompiledPolicy, names: Names) -> None:
        """Raise ``LimitExceeded`` if these could not be read again at the next start."""
        self._names.check(names)
        if self._is_saved(compiled):
            return
        content = encode_last_good(compiled, _names_used(compiled, names))
        self._last_good.check(content)
        self._encoded = compiled, content

    def save_names(self, names: Names, before: Names) -> None:
        """Save `names` unless `before`, which is on disk, is the same; raises ``StoreFailed``."""
        if dict(names) != dict(before) or NAMES in self._warnings_by_file:
            self._names.save(names)
            self._warnings_by_file.pop(NAMES, None)

    def save_last_good(self, compiled: CompiledPolicy, names: Names) -> None:
        """Save what is in force. Without it, boot compiles the policy, or uses an older one."""
        if self._is_saved(compiled):
            return
        content = self._encoded[1] if self._encoded and self._encoded[0] is compiled else None
        self._encoded = None
        try:
            self._last_good.save(
                content or encode_last_good(compiled, _names_used(compiled, names))
            )
        except IpsecdError as error:
            self._warn(
                LAST_GOOD,
                "last-good-not-kept",
                f"the last good policy on disk is an older one: {error.message}",
                f"{error.hint}; then run: ipsecctl reload",
            )
        else:
            self._warnings_by_file.pop(LAST_GOOD, None)
            self._saved_key = compiled.key

    def _is_saved(self, compiled: CompiledPolicy) -> bool:
        """Whether the file of the last good policy holds just this one."""
        return self._saved_key == compiled.key and self._last_good.is_there()

    def save_policies(self, digests: AbstractSet[str]) -> None:
        """Save excerpts of these policies. Without them the next start reads the policies again."""
        content = excerpts_to_json(self.reader.keep_only(digests))
        if content == self._saved_policies:
            return
        try:
            self._policies.save(content)
        except IpsecdError as error:
            # The next start only takes longer, so nobody has to do anything.
            record(logging.WARNING, "policies-not-kept", reason=error.message, hint=error.hint)
        else:
            self._warnings_by_file.pop(POLICIES, None)
            self._saved_policies = content

    def save_inventories(self, inventories: Mapping[str, Inventory]) -> None:
        """Save what container engines said."""
        try:
            self._inventories.save(inventories)
        except IpsecdError as error:
            self._warn(CONTAINERS, "containers-not-kept", error.message, error.hint)
        else:
            self._warnings_by_file.pop(CONTAINERS, None)

    def _read(self, name: str, load: Callable[[], Content], default: Content) -> Content:
        try:
            content = load()
        except StoreFailed as error:
            self._warn(name, "file-not-used", error.message, error.hint)
            return default
        self._warnings_by_file.pop(name, None)
        return content

    def _warn(self, name: str, event: str, message: str, hint: str) -> None:
        self._warnings_by_file[name] = f"{message}\n  hint: {hint}"
        _log(event, message, hint)


def _log(event: str, message: str, hint: str) -> None:
    record(logging.ERROR, event, reason=message, hint=hint)


def _names_used(compiled: CompiledPolicy, names: Names) -> Names:
    """The part of `names` that the policy uses."""
    used = dns_names_of(compiled.policy) if compiled.policy else frozenset()
    return {name: names[name] for name in used if name in names}
