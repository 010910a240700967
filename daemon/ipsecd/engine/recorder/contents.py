"""Owns the long values of the record: contents of lists and the policy's document, kept as blobs.

A list is recorded by its difference from what was kept of it as a whole, so a change of a few
entries costs the same however long the list is.
"""

from __future__ import annotations

import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ipsecd.engine.state import State
from ipsecd.language.documents import format_policy
from ipsecd.model.addresses import Family
from ipsecd.model.lists import NO_ENTRIES, AddressList, Change, Form
from ipsecd.model.packing import changed
from ipsecd.sources.last_good import CompiledPolicy
from ipsecd.sources.ring import Json
from ipsecd.sources.strict_json import members, text

LEAST_DIFFERENCE = 64 << 10
"""So many bytes may differ from what was kept of a list as a whole; of a long one, an eighth."""
_PART = struct.Struct(">BBI")

Put = Callable[[bytes], str]


@dataclass(slots=True)
class _Kept:
    """A list as it was kept as a whole; ``different`` are the bytes of the differences since."""

    blob: str
    whole: AddressList
    different: int = 0


class Contents:
    """Has the long values of states kept, each once."""

    def __init__(self, put: Put) -> None:
        """`put` keeps a content, and returns its digest; it may raise ``OSError``."""
        self._put = put
        self._kept: dict[str, _Kept] = {}

    def policy(self, compiled: CompiledPolicy, names: str) -> Json | None:
        """The value of the policy, whose document is kept; None if there is none."""
        policy = compiled.policy
        if policy is None:
            return None
        document = compiled.document
        text_of_policy = format_policy(policy) if document is None else document
        return {
            "name": policy.name,
            "store": compiled.store.value,
            "blob": self._put(text_of_policy.encode()),
            "names": names,
        }

    def whole(self, name: str, now: AddressList) -> Json:
        """The value of a list: what was kept, and what is different now."""
        kept = self._kept.get(name)
        if kept is None:
            return self._keep(name, now)
        difference = _to_json(kept.whole.change_to(now))
        return {"blob": kept.blob, **difference}

    def lists(self, before: State, now: State) -> Iterator[tuple[str, Json | None, bool]]:
        """The lists that differ: a name, a value, and whether that is only the difference.

        The value is None for a list that is gone.
        """
        if before.lists is now.lists:
            return
        for name in sorted(before.lists.keys() - now.lists.keys()):
            self._kept.pop(name, None)
            yield name, None, False
        for name, new in now.lists.items():
            old, kept = before.lists.get(name), self._kept.get(name)
            if old is new:
                continue
            if old is None or kept is None:
                yield name, self._keep(name, new), False
                continue
            change = old.change_to(new)
            kept.different += _length(change)
            if kept.different > max(LEAST_DIFFERENCE, _length_of(kept.whole) // 8):
                yield name, self._keep(name, new), False
            elif change.removed or change.added:
                yield name, _to_json(change), True

    def _keep(self, name: str, now: AddressList) -> Json:
        blob = self._put(packed(now))
        self._kept[name] = _Kept(blob, now)
        return {"blob": blob, "gone": {}, "came": {}}


def packed(addresses: AddressList) -> bytes:
    """All entries of a list as bytes."""
    parts = []
    for form, entries in sorted(addresses.layers.packed().items()):
        parts += [_PART.pack(form.family, form.length, len(entries)), entries]
    return b"".join(parts)


def unpacked(content: bytes) -> AddressList:
    """The inverse of ``packed``; raises ``ValueError``."""
    entries = {}
    at = 0
    while at < len(content):
        try:
            family, length, size = _PART.unpack_from(content, at)
        except struct.error as error:
            raise ValueError(f"a list ends too early: {error}") from error
        at += _PART.size
        entries[Form(Family(family), length)] = content[at : at + size]
        at += size
    return AddressList(entries)


def with_difference(addresses: AddressList, difference: Mapping[str, object]) -> AddressList:
    """A list with what was recorded as gone and come since; raises ``ValueError``."""
    gone, came = (_from_json(difference.get(key)) for key in ("gone", "came"))
    return changed(addresses, gone, came)


def _to_json(change: Change) -> Json:
    return {
        key: {
            f"{int(form.family)}/{form.length}": b64encode(entries).decode()
            for form, entries in sorted(by_form.items())
        }
        for key, by_form in (("gone", change.removed), ("came", change.added))
    }


def _from_json(value: object) -> AddressList:
    entries = {}
    for name, encoded in members(value, "a difference").items():
        family, _, length = name.partition("/")
        form = Form(Family(int(family)), int(length))
        entries[form] = b64decode(text(encoded, "entries"), validate=True)
    return AddressList(dict(sorted(entries.items()))) if entries else NO_ENTRIES


def _length(change: Change) -> int:
    return sum(len(entries) for part in change for entries in part.values())


def _length_of(addresses: AddressList) -> int:
    return sum(addresses.count(form) * form.width for form in addresses.forms)
