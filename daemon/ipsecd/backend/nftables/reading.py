"""Owns reading our table back from the kernel; changes nothing."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ipsecd.backend.base import Count
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables.elements import parse_counter, parse_elements
from ipsecd.backend.nftables.failures import failure
from ipsecd.backend.nftables.naming import (
    CONTENTS,
    COUNTED,
    STATE_PREFIX,
    TABLE,
    what_is_said,
)
from ipsecd.backend.nftables.wire import KernelError, NftSocket
from ipsecd.host.netlink import attribute, attributes
from ipsecd.model.lists import Form

_CHAIN_NAME, _SET_NAME, _OBJECT_NAME, _OBJECT_DATA = 3, 2, 2, 4

_CHANGING: dict[int, tuple[int, ...]] = {
    nft.GETTABLE: (3,),
    nft.GETCHAIN: (6, 8),
    nft.GETRULE: (),
    nft.GETSET: (),
}
"""Attributes that change by themselves: use counts and counters."""

_SET_COUNT = 20
"""The attribute with the number of elements of a set (Linux 6.16 and later). Only in sets of
these names may it change while the rules stay."""
_CHANGING_SETS = ("dynamic_", "list_", COUNTED, CONTENTS)
_SET_DESCRIPTION, _DESCRIBED_SIZE = 9, 1
_SET_HANDLE = 16
_TABLE_HANDLE, _TABLE_OWNER = 4, 7
_GENERATION = 1


class SetDescription(NamedTuple):
    """The size that a set was made with, and how many elements it has, where the kernel says so."""

    size: int
    elements: int | None


class CountedSet(NamedTuple):
    """A set whose elements count for entries of one form of a list.

    No other set of the table ever had its ``handle``.
    """

    name: str
    handle: int
    list_name: str
    form: Form


class TableReader:
    """Reads one table of ours over a socket; a table that is missing reads as empty."""

    def __init__(self, socket: NftSocket, table: str = TABLE) -> None:
        self._socket = socket
        self._table = table

    def exists(self) -> bool:
        """Whether the table is there."""
        try:
            self._socket.request(nft.get_table(self._table))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return False
            raise failure(error) from error
        return True

    def owner(self) -> int:
        """The port of the socket that owns the table; 0 if there is none."""
        return self._number_of_table(_TABLE_OWNER)

    def handle(self) -> int:
        """The number of the table, which no other ever had in this network namespace; 0 if none."""
        return self._number_of_table(_TABLE_HANDLE)

    def _number_of_table(self, kind: int) -> int:
        try:
            bodies = self._socket.request(nft.get_table(self._table))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return 0
            raise failure(error) from error
        return int.from_bytes(dict(attributes(bodies[0])).get(kind, b""), "big")

    def generation(self) -> int:
        """The number of the last transaction in this network namespace, whosever it was."""
        (body,) = self._socket.request(nft.get_generation())
        return int.from_bytes(dict(attributes(body))[_GENERATION], "big")

    def chains(self) -> list[str]:
        """The names of all chains."""
        return self._names(nft.GETCHAIN, _CHAIN_NAME)

    def sets(self) -> list[str]:
        """The names of all sets and maps."""
        return self._names(nft.GETSET, _SET_NAME)

    def lengths(self) -> dict[str, int]:
        """How many elements each set has, by its name, where the kernel says so."""
        described = self.described_sets()
        return {name: s.elements for name, s in described.items() if s.elements is not None}

    def described_sets(self) -> dict[str, SetDescription]:
        """All sets and maps, by their names."""
        return {
            _text(parts[_SET_NAME]): SetDescription(
                _number(dict(attributes(parts.get(_SET_DESCRIPTION, b""))).get(_DESCRIBED_SIZE))
                or 0,
                _number(parts.get(_SET_COUNT)),
            )
            for parts in self._objects(nft.GETSET)
        }

    def counted_sets(self) -> list[CountedSet]:
        """All sets whose elements count for entries of lists, the oldest first."""
        found = []
        for parts in self._objects(nft.GETSET):
            name = _text(parts[_SET_NAME])
            # Behind the type and the length of the comment.
            said = what_is_said(_text(parts.get(nft.SET_USERDATA, b"")[2:]))
            if name.startswith(COUNTED) and said:
                handle = int.from_bytes(parts.get(_SET_HANDLE, b""), "big")
                found.append(CountedSet(name, handle, *said))
        return sorted(found, key=lambda each: each.handle)

    def entry_counts(self, of: CountedSet) -> tuple[dict[bytes, Count], bool]:
        """What entries have matched that matched anything, by their packed form.

        Also whether all are there: a change may have interrupted it.
        """
        of_set = attribute(_SET_NAME, of.name.encode() + b"\0")
        try:
            dump = nft.dump(nft.GETSETELEM, self._table, of_set)
            bodies, interrupted = self._socket.request_once(dump)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return {}, False
            raise failure(error) from error
        counts = {
            key: Count(packets, size)
            for body in bodies
            for key, packets, size in parse_elements(body)
            if packets
        }
        return counts, not interrupted

    def fingerprint(self) -> str:
        """A digest of the table's chains, rules and sets, as the kernel lists them.

        It leaves out what a change of the entries of lists changes, which is looked at by itself:
        the mark, and the number of elements.
        """
        hasher = hashlib.sha256()
        for kind, changing in _CHANGING.items():
            for parts in self._objects(kind):
                if kind == nft.GETSET and _text(parts[_SET_NAME]).startswith(_CHANGING_SETS):
                    parts.pop(_SET_COUNT, None)
                if kind == nft.GETCHAIN and _text(parts[_CHAIN_NAME]).startswith(STATE_PREFIX):
                    continue
                for number, value in sorted(parts.items()):
                    if number not in changing:
                        hasher.update(repr((kind, number, value)).encode())
        return hasher.hexdigest()

    def counters(self) -> dict[str, Count]:
        """What every counter object has counted, by name."""
        return self.counters_in(self.raw_counters())

    def raw_counters(self) -> list[bytes]:
        """The same as the kernel gives it, which takes a fraction of the time."""
        return self._dump(nft.GETOBJ)

    def raw_counters_once(self) -> list[bytes] | None:
        """The same of one try; None if a change interrupted it."""
        try:
            bodies, interrupted = self._socket.request_once(nft.dump(nft.GETOBJ, self._table))
        except KernelError as error:
            raise failure(error) from error
        return None if interrupted else bodies

    def counters_in(self, bodies: Iterable[bytes]) -> dict[str, Count]:
        """What every counter object has counted, by name, as ``raw_counters`` gave it."""
        return {
            _text(parts[_OBJECT_NAME]): Count(*parse_counter(parts[_OBJECT_DATA]))
            for parts in self._of_table(bodies)
        }

    def counter(self, name: str) -> Count | None:
        """What one counter object has counted; None if there is none of that name."""
        try:
            (body,) = self._socket.request(nft.get_counter(self._table, name))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return None
            raise failure(error) from error
        return Count(*parse_counter(dict(attributes(body))[_OBJECT_DATA]))

    def elements(self, name: str, most_tries: int | None = None) -> Iterator[tuple[bytes, Count]]:
        """The keys in a set, with what each has counted; a key may come more than once.

        If changes interrupt all of `most_tries`, some may be missing.
        """
        of_set = attribute(_SET_NAME, name.encode() + b"\0")
        for body in self._dump(nft.GETSETELEM, of_set, most_tries=most_tries):
            for key, packets, size in parse_elements(body):
                yield key, Count(packets, size)

    def _names(self, kind: int, number: int) -> list[str]:
        return [_text(parts[number]) for parts in self._objects(kind)]

    def _objects(self, kind: int) -> Iterator[dict[int, bytes]]:
        return self._of_table(self._dump(kind))

    def _of_table(self, bodies: Iterable[bytes]) -> Iterator[dict[int, bytes]]:
        for body in bodies:
            parts = dict(attributes(body))
            # Some kinds of dump are not limited to the table that was asked for.
            if _text(parts[1]) == self._table:
                yield parts

    def _dump(self, kind: int, *more: bytes, most_tries: int | None = None) -> list[bytes]:
        dump = nft.dump(kind, self._table, *more)
        try:
            return self._socket.request(dump, most_tries=most_tries)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return []
            raise failure(error) from error


def _number(payload: bytes | None) -> int | None:
    return None if payload is None else int.from_bytes(payload, "big")


def _text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode(errors="replace")
