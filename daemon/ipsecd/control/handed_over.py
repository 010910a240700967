"""Owns what a bundle of the domain is made of: files as JSON, and lists behind them.

The JSON stands on the first line. What it has as ``lists`` are the lengths of the lists behind that
line, by their SHA-256 and in their order. Nothing of it is believed: lists have to have the digests
that are signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from ipsecd.errors import InvalidInput, Refused
from ipsecd.model.packed_form import MAX_CARRIED, MAX_CARRIED_BYTES, unpack_strictly
from ipsecd.sources.domain import LISTS, texts_of
from ipsecd.sources.domain_lists import DomainList, DomainLists
from ipsecd.sources.strict_json import decode, integer, members

_PARTS = ("metadata", "targets")


@dataclass(frozen=True)
class HandedOver:
    """The files in a bundle, by kind and name, and the lists by their digests."""

    files: Mapping[str, Mapping[str, str]]
    lists: Mapping[str, memoryview]


def read_bundle(bundle: bytes) -> HandedOver:
    """What is in a bundle; raises ``InvalidInput``."""
    end = bundle.find(b"\n")
    first_line = bundle if end < 0 else bundle[:end]
    try:
        parts = members(decode(first_line), "the bundle")
        lengths = members(parts.pop(LISTS, {}), LISTS)
        files = members(parts, "the bundle", _PARTS)
        texts = {name: texts_of(node, name) for name, node in files.items()}
        behind = memoryview(bundle)[len(first_line) + 1 :]
        return HandedOver(texts, _cut(lengths, behind))
    except ValueError as error:
        raise InvalidInput(f"this is no bundle of a domain: {error}") from error


def lists_of(
    digests: Mapping[str, str], handed_over: HandedOver, before: DomainLists, again: str
) -> dict[str, DomainList]:
    """The lists that have these `digests`, by name: those of `before`, and else the new ones.

    Raises ``Refused``, and `again` is what to do then.
    """
    present = {carried.digest: carried for carried in before.values() if not carried.problem}
    lists = {}
    for name, digest in digests.items():
        if digest not in present:
            present[digest] = _new_list(name, digest, handed_over.lists.get(digest), again)
        lists[name] = present[digest]
    return lists


def _new_list(name: str, digest: str, content: memoryview | None, again: str) -> DomainList:
    if content is None:
        raise Refused(f"the list @{name} of the policy was not handed over", again)
    if hashlib.sha256(content).hexdigest() != digest:
        raise Refused(f"the list @{name} has another digest than the one that is signed", again)
    try:
        return DomainList(digest, unpack_strictly(bytes(content)))
    except ValueError as error:
        raise Refused(f"the list @{name} is signed, and is no list: {error}", again) from error


def _cut(lengths: Mapping[str, object], behind: memoryview) -> dict[str, memoryview]:
    """The lists behind the first line; raises ``ValueError``."""
    if len(lengths) > MAX_CARRIED:
        raise ValueError(f"it has {len(lengths)} lists, and {MAX_CARRIED} are the most")
    lists = {}
    at = 0
    for digest, given in lengths.items():
        length = integer(given, "the length of a list", 0, MAX_CARRIED_BYTES)
        lists[digest] = behind[at : at + length]
        at += length
    if at != len(behind):
        raise ValueError("what is behind its first line is not the lists that it names")
    return lists
