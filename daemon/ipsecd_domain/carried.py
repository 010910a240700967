"""Owns which lists a policy of a repository carries; must not know who signs or reads.

A list is a file beside the policy, in the directory of its role, with its digest in its path. The
signed metadata has both, and names the lists of a policy in what it says of the policy's own file.
So the policy and its lists are always signed as one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tuf.api.metadata import TargetFile

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import check_list_name
from ipsecd.model.packed_form import MAX_CARRIED, MAX_CARRIED_BYTES
from ipsecd.quoting import count, quote
from ipsecd_domain.bundle import TARGETS
from ipsecd_domain.errors import NotTrusted
from ipsecd_domain.layout import directory_of, hashed

_KEY, _PATHS, _OWN = "ipsecd", "lists", "own_lists"
_AGAIN = "in force stays what is; tell whoever publishes the domain policy"


@dataclass(frozen=True, slots=True)
class Carried:
    """The paths of the lists that a policy carries, by the names that its filters have.

    ``own`` names those that each host has of its own.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    own: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SignedList:
    """A list as it is signed: the name in filters, its path, length in bytes, and SHA-256."""

    name: str
    path: str
    length: int
    sha256: str


def list_path(role: str, name: str, content: bytes) -> str:
    """Where a list lies: what holds the same has the same path."""
    digest = hashlib.sha256(content).hexdigest()
    return f"{directory_of(role)}/{name}-{digest[:16]}.list"


def with_carried(target: TargetFile, carried: Carried) -> TargetFile:
    """The target of a policy, which says what it carries."""
    if carried.paths or carried.own:
        said = {_PATHS: dict(sorted(carried.paths.items())), _OWN: sorted(carried.own)}
        target.unrecognized_fields["custom"] = {_KEY: said}
    return target


def carried_by(target: TargetFile, role: str) -> Carried:
    """What the target of a policy says of its lists; raises ``InvalidInput``."""
    custom = target.custom
    said: Any = custom.get(_KEY) if isinstance(custom, dict) else None
    if said is None:
        return Carried()
    paths, own = (said.get(_PATHS), said.get(_OWN, [])) if isinstance(said, dict) else (None, None)
    if not isinstance(paths, dict) or not isinstance(own, list):
        raise _wrong(target.path, "what it says of its lists is no object")
    if len(paths) > MAX_CARRIED or len(own) > MAX_CARRIED:
        raise _wrong(target.path, f"it names more than {MAX_CARRIED} lists")
    for name in (*paths, *own):
        if not isinstance(name, str):
            raise _wrong(target.path, "the name of a list is no text")
        check_list_name(name)
    for path in paths.values():
        if not isinstance(path, str) or path.rpartition("/")[0] != directory_of(role):
            raise _wrong(target.path, "a list does not lie in the directory of its role")
    return Carried(paths, tuple(own))


def signed_lists(
    carried: Carried, target_of: Callable[[str], TargetFile]
) -> tuple[SignedList, ...]:
    """The lists as they are signed; raises ``NotTrusted`` for what no list can be."""
    lists = []
    for name, path in sorted(carried.paths.items()):
        target = target_of(path)
        digest = target.hashes.get("sha256", "")
        if len(digest) != 64:
            raise NotTrusted(f"{quote(path)} is signed without a SHA-256", _AGAIN)
        lists.append(SignedList(name, path, target.length, digest))
    whole = sum(length for _, length in {(each.sha256, each.length) for each in lists})
    if whole > MAX_CARRIED_BYTES:
        raise NotTrusted(
            f"the lists of the policy have {count(whole, 'byte')} together, and at most "
            f"{MAX_CARRIED_BYTES:,} are taken",
            _AGAIN,
        )
    return tuple(lists)


def fetched(
    lists: Iterable[SignedList], fetch: Callable[[str, int], bytes], present: Collection[str]
) -> dict[str, bytes]:
    """The content of lists by their digests, without those whose digest is `present` already.

    Raises ``NotFetched`` as `fetch` does, and ``NotTrusted`` for what is not as it was signed.
    """
    contents: dict[str, bytes] = {}
    for each in lists:
        if each.sha256 in present or each.sha256 in contents:
            continue
        content = fetch(f"{TARGETS}{hashed(each.path, each.sha256)}", each.length)
        if len(content) != each.length or hashlib.sha256(content).hexdigest() != each.sha256:
            raise NotTrusted(f"the list {quote(each.path)} is not the file that was signed", _AGAIN)
        contents[each.sha256] = content
    return contents


def _wrong(path: str, why: str) -> InvalidInput:
    return InvalidInput(f"{quote(path)} cannot be used: {why}")
