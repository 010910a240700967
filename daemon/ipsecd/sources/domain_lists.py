"""Owns the lists that a policy of the domain carries, and the files that keep them.

Each list is a file that has the SHA-256 of its content as its name, and is never changed. What was
taken from the domain names lists by these, and is replaced as a whole: so a policy is never kept
with the lists of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ipsecd.errors import StoreFailed
from ipsecd.model.addresses import OF_DOMAIN
from ipsecd.model.lists import AddressList
from ipsecd.model.packed_form import MAX_CARRIED_BYTES, pack, unpack
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.files import Disk

FORM = Form(
    "domain-list",
    1,
    MAX_CARRIED_BYTES + 1024,
    "it is fetched anew: ipsecctl domain refresh",
)


@dataclass(frozen=True, slots=True)
class DomainList:
    """The entries of a list, and the SHA-256 of their packed form, in hexadecimal.

    Of one that could not be read there is the ``problem`` in words, and no entry.
    """

    digest: str
    addresses: AddressList = field(default_factory=AddressList)
    problem: str = ""


DomainLists = Mapping[str, DomainList]


def in_force(lists: DomainLists) -> dict[str, AddressList]:
    """The entries by the names that the lists have in force."""
    return {f"{OF_DOMAIN}{name}": carried.addresses for name, carried in lists.items()}


class DomainListFiles:
    """The files of lists, in a directory of their own."""

    def __init__(self, directory: Path, disk: Disk | None = None) -> None:
        self._directory = directory
        self._disk = disk or Disk()
        self._good: set[str] = set()
        """The digests of lists that were written or read by this process."""

    def save(self, lists: Iterable[DomainList]) -> None:
        """Keep those that are not kept yet, on disk when this returns; raises ``StoreFailed``."""
        for carried in lists:
            path = self._directory / carried.digest
            if carried.problem or (carried.digest in self._good and path.exists()):
                continue
            self._file(carried.digest).save(pack(carried.addresses))
            self._good.add(carried.digest)

    def load(self, name: str, digest: str) -> DomainList:
        """The list that has this digest, or what is wrong with it."""

        def parse(content: bytes) -> AddressList:
            if hashlib.sha256(content).hexdigest() != digest:
                raise ValueError("it holds another list than its name says")
            return unpack(content)

        try:
            addresses = self._file(digest).load(parse)
        except StoreFailed as error:
            return DomainList(digest, problem=_lost(name, str(error)))
        if addresses is None:
            path = str(self._directory / digest)
            return DomainList(digest, problem=_lost(name, f"{path!r} is not there"))
        self._good.add(digest)
        return DomainList(digest, addresses)

    def tidy(self, lists: Iterable[DomainList]) -> None:
        """Delete the files of all lists but these; what cannot be deleted does no harm."""
        kept = {carried.digest for carried in lists}
        with suppress(OSError):
            for path in sorted(self._directory.iterdir()):
                if path.name not in kept:
                    self._disk.unlink(path)

    def _file(self, digest: str) -> CheckedFile:
        return CheckedFile(self._directory / digest, FORM, self._disk)


def _lost(name: str, why: str) -> str:
    return f"list @{name} of the domain has no entry until it is fetched anew: {why}"
