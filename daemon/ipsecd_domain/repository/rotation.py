"""Owns new keys and new signatures: rotation, and what has to be renewed from time to time.

1. A root takes over when enough keys of the one before it and enough of its own have signed.
2. Until then it waits beside what is served, and all goes on with the keys of the one in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root

from ipsecd.errors import NotFound
from ipsecd.quoting import quote
from ipsecd_domain.layout import TARGETS
from ipsecd_domain.repository.content import (
    RENEWED,
    Repository,
    expiry,
    in_utc,
    read_repository,
    root_is_complete,
    sign,
)
from ipsecd_domain.repository.keys import Keys, PrivateKey, name_of
from ipsecd_domain.repository.store import Store


@dataclass(frozen=True)
class Signed:
    """What signing came to: which files are new, by role with their versions.

    `waits_for` are the names of keys of which some have to be at hand before the next root takes
    over; `new_keys` are the names of keys that were made.
    """

    renewed: tuple[tuple[str, int], ...]
    waits_for: tuple[str, ...] = ()
    new_keys: tuple[str, ...] = ()


def keygen(directory: Path, keys_in: Path, names: Sequence[str], now: datetime) -> Signed:
    """Make new keys in the place of those called `names`, which nobody trusts from then on."""
    store = Store(directory)
    with store.locked():
        keys = Keys(keys_in)
        repository = read_repository(store)
        keys.settle(repository.public_keys())
        keys = Keys(keys_in)
        before = _versions(repository)
        names = [_key_name(repository, name) for name in names]
        for name in names:
            if name in repository.roles and name != TARGETS:
                _replace_in_targets(repository, name, keys.add(name))
            else:
                _replace_in_root(repository, name, keys.add(name), now)
        waits_for = _finish(repository, keys, now)
    return Signed(_renewed(before, repository), waits_for, tuple(names))


def sign_anew(directory: Path, keys_in: Path, now: datetime) -> Signed:
    """Add signatures to a root that waits, and renew what expires, with the keys at hand."""
    store = Store(directory)
    with store.locked():
        keys = Keys(keys_in)
        repository = read_repository(store)
        before = _versions(repository)
        soon = now + RENEWED
        root = repository.root.signed
        can_sign = keys.of(root.roles["root"].keyids)
        if repository.next_root is None and in_utc(root) < soon and can_sign:
            _next_root(repository, now)
        for role, metadata in repository.roles.items():
            if in_utc(metadata.signed) < soon and not repository.missing(role, keys):
                repository.touch(role)
        waits_for = _finish(repository, keys, now)
    return Signed(_renewed(before, repository), waits_for)


def _finish(repository: Repository, keys: Keys, now: datetime) -> tuple[str, ...]:
    """Sign the next root and write everything; the names of the keys that it waits for."""
    store, following = repository.store, repository.next_root
    waits_for: tuple[str, ...] = ()
    if following is not None:
        public = _root_keys(repository.root) | _root_keys(following)
        sign(following, public, keys)
        store.write_waiting(following.to_bytes())
        if not root_is_complete(repository.root, following):
            unsigned = [key for keyid, key in public.items() if keyid not in following.signatures]
            waits_for = tuple(sorted(set(map(name_of, unsigned))))
        # Where root keys are kept there are no others, and what they sign is carried elsewhere.
        wanting = [repository.missing(role, keys) for role in ("snapshot", "timestamp")]
        if any(wanting):
            return waits_for or tuple(filter(None, wanting))
    repository.write(keys, now)
    return waits_for


def _key_name(repository: Repository, given: str) -> str:
    """The name of a key, for that or for the name of a group."""
    root = repository.root.signed
    names = {name_of(key) for key in root.keys.values()} | set(repository.roles)
    for name in (given, f"group-{given}"):
        if name in names:
            return name
    raise NotFound(
        f"the repository has no key {quote(given)}",
        f"there are: {', '.join(sorted(names))}; 'ipsecctl domain publish --to GROUP' makes the "
        "key of a new group",
    )


def _replace_in_root(repository: Repository, name: str, new: PrivateKey, now: datetime) -> None:
    following = repository.next_root or _next_root(repository, now)
    root = following.signed
    role = "root" if name.startswith("root") else name
    for keyid in [keyid for keyid in root.roles[role].keyids if name_of(root.keys[keyid]) == name]:
        root.revoke_key(keyid, role)
    root.add_key(new.public, role)
    following.signatures.clear()


def _replace_in_targets(repository: Repository, role: str, new: PrivateKey) -> None:
    signed = repository.targets.signed
    for keyid in list(repository.keys_of(role)[0]):
        signed.revoke_key(keyid, role)
    signed.add_key(new.public, role)
    repository.touch(TARGETS)
    repository.touch(role)


def _next_root(repository: Repository, now: datetime) -> Metadata[Root]:
    """A root that follows the one in force, not signed yet."""
    following = Metadata[Root].from_bytes(repository.root.to_bytes())
    following.signed.version += 1
    following.signed.expires = expiry("root", now)
    following.signatures.clear()
    repository.next_root = following
    return following


def _root_keys(root: Metadata[Root]) -> dict[str, Key]:
    signed = root.signed
    return {keyid: signed.keys[keyid] for keyid in signed.roles["root"].keyids}


def _versions(repository: Repository) -> dict[str, int]:
    versions = {role: metadata.signed.version for role, metadata in repository.roles.items()}
    return versions | {
        "root": repository.root.signed.version,
        "snapshot": repository.snapshot.signed.version,
        "timestamp": repository.timestamp.signed.version,
    }


def _renewed(before: dict[str, int], repository: Repository) -> tuple[tuple[str, int], ...]:
    after = _versions(repository)
    return tuple(sorted((role, after[role]) for role in after if before.get(role) != after[role]))
