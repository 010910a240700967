"""Owns what the daemon keeps for the next one, and what is wrong with it, in words.

Each file can be lost without harm to what people wrote and to the other files: what cannot be read
counts as absent, what cannot be written leaves the former content, and both are told until cured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TypeVar

from ipsecd.config import Directories
from ipsecd.errors import IpsecdError, StoreFailed
from ipsecd.log import record
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Inventory
from ipsecd.sources.cache import Names, NameStore
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.domain import DomainFile, Taken
from ipsecd.sources.dynamic_file import DynamicFile
from ipsecd.sources.files import Disk
from ipsecd.sources.inventory import InventoryFile
from ipsecd.sources.last_good import CompiledPolicy, LastGood, encode_good
from ipsecd.sources.names import names_of
from ipsecd.sources.remembered import Known, PolicyReader, known_from_json, known_to_json

LAST_GOOD, NAMES, CONTAINERS, POLICIES = "last-good", "names", "containers", "policies"
DOMAIN = "domain"
FORM = Form(
    "policies",
    1,
    1 << 30,
    "nothing need be done: the policy files are read anew, and it is written again",
)
Content = TypeVar("Content")


class Kept:
    """The last good policy, what policies say, DNS names, the domain, and what engines said.

    And the dynamic rules: ``dynamic`` has to be told whenever one comes or goes.
    """

    def __init__(self, directories: Directories, disk: Disk | None = None) -> None:
        self._last_good = LastGood(directories.state, disk)
        self._names = NameStore(directories.state, disk)
        self._domain = DomainFile(directories.state, disk)
        self._inventories = InventoryFile(directories.runtime, disk)
        self._policies = CheckedFile(directories.state / "policies", FORM, disk)
        self.reader = PolicyReader()
        self._saved = ""
        self._saved_policies = b""
        self.dynamic = DynamicFile(
            directories.runtime, disk, tell=partial(_log, "dynamic-rules-not-kept")
        )
        self._wrong: dict[str, str] = {}
        self._encoded: tuple[CompiledPolicy, bytes] | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the files now, each with what to do."""
        return (*self._wrong.values(), *self.dynamic.warnings)

    def last_good(self) -> CompiledPolicy | None:
        """What was in force last, None if it is not known."""
        good = self._read(LAST_GOOD, lambda: self._last_good.load(self.reader), None)
        self._saved = good.key if good else ""
        return good

    def names(self) -> dict[str, tuple[Network, ...]]:
        """The addresses that DNS names had."""
        return self._read(NAMES, self._names.load, {})

    def recall_policies(self) -> None:
        """Let the reader know what policies said when they were read by an earlier process."""
        known: Mapping[str, Known] = self._read(
            POLICIES, lambda: self._policies.load(known_from_json) or {}, {}
        )
        self.reader.remember(known)

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
        self._wrong.pop(DOMAIN, None)

    def check(self, good: CompiledPolicy, names: Names) -> None:
        """Raise ``LimitExceeded`` if these could not be read again at the next start."""
        self._names.check(names)
        if self._is_saved(good):
            return
        content = encode_good(good, _of(good, names))
        self._last_good.check(content)
        self._encoded = good, content

    def save_names(self, names: Names, before: Names) -> None:
        """Keep `names`, if those on disk, which were `before`, differ; raises ``StoreFailed``."""
        if dict(names) != dict(before) or NAMES in self._wrong:
            self._names.save(names)
            self._wrong.pop(NAMES, None)

    def save_last_good(self, good: CompiledPolicy, names: Names) -> None:
        """Keep what is in force; without it boot compiles, or has an older one."""
        if self._is_saved(good):
            return
        content = self._encoded[1] if self._encoded and self._encoded[0] is good else None
        self._encoded = None
        try:
            self._last_good.save(content or encode_good(good, _of(good, names)))
        except IpsecdError as error:
            self._is_wrong(
                LAST_GOOD,
                "last-good-not-kept",
                f"the last good policy on disk is an older one: {error.message}",
                f"{error.hint}; then run: ipsecctl reload",
            )
        else:
            self._wrong.pop(LAST_GOOD, None)
            self._saved = good.key

    def _is_saved(self, good: CompiledPolicy) -> bool:
        """Whether the file of the last good policy holds just this."""
        return self._saved == good.key and self._last_good.is_there()

    def save_policies(self, digests: AbstractSet[str]) -> None:
        """Keep what was read of these policies; without it they are read again at the start."""
        content = known_to_json(self.reader.keep_only(digests))
        if content == self._saved_policies:
            return
        try:
            self._policies.save(content)
        except IpsecdError as error:
            # A start that takes longer is nothing that anybody has to mend.
            record(logging.WARNING, "policies-not-kept", reason=error.message, hint=error.hint)
        else:
            self._wrong.pop(POLICIES, None)
            self._saved_policies = content

    def save_inventories(self, inventories: Mapping[str, Inventory]) -> None:
        """Keep what container engines said."""
        try:
            self._inventories.save(inventories)
        except IpsecdError as error:
            self._is_wrong(CONTAINERS, "containers-not-kept", error.message, error.hint)
        else:
            self._wrong.pop(CONTAINERS, None)

    def _read(self, name: str, load: Callable[[], Content], otherwise: Content) -> Content:
        try:
            content = load()
        except StoreFailed as error:
            self._is_wrong(name, "file-not-used", error.message, error.hint)
            return otherwise
        self._wrong.pop(name, None)
        return content

    def _is_wrong(self, name: str, event: str, message: str, hint: str) -> None:
        self._wrong[name] = f"{message}\n  hint: {hint}"
        _log(event, message, hint)


def _log(event: str, message: str, hint: str) -> None:
    record(logging.ERROR, event, reason=message, hint=hint)


def _of(good: CompiledPolicy, names: Names) -> Names:
    """Those of `names` that the policy uses."""
    used = names_of(good.policy) if good.policy else frozenset()
    return {name: names[name] for name in used if name in names}
