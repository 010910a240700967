"""Owns a repository in memory: read and verified, changed, signed, and written as a whole.

What is here may have expired, but whoever could write into the directory without having the keys
has nothing signed by us: every file is verified when it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from ipsecd.quoting import quote_path
from ipsecd_domain.carried import Carried, carried_by, with_carried
from ipsecd_domain.errors import DomainError
from ipsecd_domain.layout import (
    TARGETS,
    Index,
    hashed,
    index_path,
    read_index,
    write_index,
)
from ipsecd_domain.repository.keys import Keys, names_of
from ipsecd_domain.repository.store import TIMESTAMP, Store

_Signed = TypeVar("_Signed", Timestamp, Snapshot, Targets)

VALID = {
    "root": timedelta(days=365),
    "targets": timedelta(days=365),
    "snapshot": timedelta(days=30),
    "timestamp": timedelta(days=7),
}
"""How long what is signed is believed; roles of groups are as targets."""
RENEWED = timedelta(days=60)
"""Root and targets are renewed when they have less time left."""


@dataclass
class Repository:
    """A repository; `next_root` is a root that waits until it can take the place of `root`."""

    store: Store
    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    roles: dict[str, Metadata[Targets]]
    next_root: Metadata[Root] | None = None
    _changed: set[str] = field(default_factory=set)
    _files: dict[str, bytes] = field(default_factory=dict)

    @property
    def targets(self) -> Metadata[Targets]:
        """The role that all others are delegated by."""
        return self.roles[TARGETS]

    def index(self, role: str) -> Index:
        """What a role gives out."""
        return read_index(self.file(role, index_path(role)), role)

    def digest(self, role: str, path: str) -> str:
        """The SHA-256 of the file of a role at `path`, in hexadecimal, as it is signed."""
        return str(self._target(role, path).hashes.get("sha256", ""))

    def _target(self, role: str, path: str) -> TargetFile:
        target = self.roles[role].signed.targets.get(path)
        if target is None:
            raise _broken(self.store, f"role {role} has no {path}")
        return target

    def file(self, role: str, path: str) -> bytes:
        """The file of a role at `path`, as it is signed."""
        digest = self.digest(role, path)
        name = hashed(path, digest)
        content = self._files.get(name)
        if content is None:
            content = self.store.read(f"targets/{name}")
        if hashlib.sha256(content).hexdigest() != digest:
            raise _broken(self.store, f"targets/{name} is not what was signed")
        return content

    def carried(self, role: str, path: str) -> Carried:
        """The lists that the policy of a role at `path` carries."""
        return carried_by(self._target(role, path), role)

    def give_out(
        self,
        role: str,
        index: Index,
        documents: Mapping[str, bytes],
        carried: Carried | None = None,
        lists: Mapping[str, bytes] | None = None,
    ) -> None:
        """Let a role give out `index`, with new documents; those that it does not name go.

        The documents carry what is `carried`, of which `lists` are new, by their paths. A list
        goes with the last policy that carries it.
        """
        signed = self.roles[role].signed
        before = signed.targets
        named = {offer.path for offer in index.offers}
        signed.targets = {path: target for path, target in before.items() if path in named}
        self._add(role, index_path(role), write_index(index))
        for path, content in documents.items():
            with_carried(self._add(role, path, content), carried or Carried())
        for path, content in (lists or {}).items():
            self._add(role, path, content)
        for policy in named:
            for path in self.carried(role, policy).paths.values():
                if path not in signed.targets:
                    signed.targets[path] = before[path]
        self._changed.add(role)

    def _add(self, role: str, path: str, content: bytes) -> TargetFile:
        """Let a role give out a file."""
        digest = hashlib.sha256(content).hexdigest()
        target = TargetFile(len(content), {"sha256": digest}, path)
        self.roles[role].signed.targets[path] = target
        self._files[hashed(path, digest)] = content
        return target

    def touch(self, role: str) -> None:
        """Sign a role anew when it is written."""
        self._changed.add(role)

    def keys_of(self, role: str) -> tuple[dict[str, Key], int]:
        """The keys of a role as they will be once this is written, and how many must sign."""
        return self._keys_by(self._roots()[-1], role)

    def missing(self, role: str, keys: Keys) -> str:
        """The names of the keys that are wanting before `role` can be signed; "" if none are."""
        public, threshold = self.keys_of(role)
        if len(keys.of(public)) >= threshold:
            return ""
        at_hand = {key.public.keyid for key in keys.of(public)}
        return names_of(key for keyid, key in public.items() if keyid not in at_hand)

    def write(self, keys: Keys, now: datetime) -> None:
        """Sign and write all that was changed, with a new snapshot and a new timestamp.

        A root that waits and has all its signatures takes over: until readers have it, what is
        written is signed by the keys of both.
        """
        complete = self._roots()[1:]
        for root in complete:
            if root.roles[TARGETS].keyids != self.root.signed.roles[TARGETS].keyids:
                self.touch(TARGETS)
        metadata = {}
        for role in sorted(self._changed):
            self._sign(role, self.roles[role], keys, now)
            version = self.roles[role].signed.version
            metadata[f"{version}.{role}.json"] = self.roles[role].to_bytes()
            self.snapshot.signed.meta[f"{role}.json"] = MetaFile(version)
        self._sign("snapshot", self.snapshot, keys, now)
        version, content = self.snapshot.signed.version, self.snapshot.to_bytes()
        metadata[f"{version}.snapshot.json"] = content
        digest = hashlib.sha256(content).hexdigest()
        self.timestamp.signed.snapshot_meta = MetaFile(version, len(content), {"sha256": digest})
        self._sign("timestamp", self.timestamp, keys, now)
        self.store.write(self._files, metadata, self.timestamp.to_bytes())
        self._changed.clear()
        self._files.clear()
        if complete and self.next_root:
            self.root, self.next_root = self.next_root, None
            self.store.write_root(self.root.signed.version, self.root.to_bytes())
            self.store.drop_waiting()
        keys.settle(self.public_keys())

    def public_keys(self) -> dict[str, Key]:
        """All keys that somebody who reads this repository trusts."""
        delegations = self.targets.signed.delegations
        return self.root.signed.keys | (delegations.keys if delegations else {})

    def _sign(self, role: str, metadata: Metadata[Any], keys: Keys, now: datetime) -> None:
        wanting = self.missing(role, keys)
        if wanting:
            raise DomainError(
                f"role {role} cannot be signed: of its keys {wanting} is not in "
                f"{quote_path(str(keys.directory))}",
                "run it where that key is, or replace the key with 'ipsecctl domain keygen'",
            )
        metadata.signed.version += 1
        metadata.signed.expires = expiry(role, now)
        metadata.signatures.clear()
        for root in self._roots():
            sign(metadata, self._keys_by(root, role)[0], keys)

    def _roots(self) -> list[Root]:
        """The root in force, and the next one if enough keys have signed it."""
        if self.next_root and root_is_complete(self.root, self.next_root):
            return [self.root.signed, self.next_root.signed]
        return [self.root.signed]

    def _keys_by(self, root: Root, role: str) -> tuple[dict[str, Key], int]:
        if role in root.roles:
            given = root.roles[role]
            return {keyid: root.keys[keyid] for keyid in given.keyids}, given.threshold
        delegations = self.targets.signed.delegations
        delegated = (delegations.roles or {}).get(role) if delegations else None
        if delegations is None or delegated is None:
            raise _broken(self.store, f"nobody has delegated role {role}")
        public = {keyid: delegations.keys[keyid] for keyid in delegated.keyids}
        return public, delegated.threshold


def read_repository(store: Store) -> Repository:
    """The repository in a directory; raises ``DomainError`` for what its keys have not signed."""
    version = store.root_version()
    if not version:
        raise DomainError(
            f"{quote_path(str(store.directory))} is no repository",
            "make one with 'ipsecctl domain init REPO --keys DIR'",
        )
    try:
        root = Metadata[Root].from_bytes(store.read(f"metadata/{version}.root.json"))
        verify(root.signed, "root", root)
        waiting = store.waiting()
        repository = Repository(
            store,
            root,
            Metadata[Timestamp].from_bytes(store.read(f"metadata/{TIMESTAMP}")),
            unsigned(Snapshot()),
            {},
        )
        if waiting:
            following = Metadata[Root].from_bytes(waiting)
            # An older one has taken over already, and whoever did that was ended then.
            if following.signed.version == version + 1:
                repository.next_root = following
        _read_rest(repository)
    except (RepositoryError, ValueError, KeyError) as error:
        raise _broken(store, str(error)) from error
    return repository


def expiry(role: str, now: datetime) -> datetime:
    """Until when what `role` signs now is believed, in UTC and without a zone.

    Older versions of the library know no zones, and newer ones take its absence for UTC.
    """
    return (now.astimezone(UTC) + VALID.get(role, VALID["targets"])).replace(tzinfo=None)


def unsigned(signed: _Signed) -> Metadata[_Signed]:
    """Metadata that nobody has signed yet; its first version will be 1."""
    signed.version = 0
    return Metadata(signed)


def sign(metadata: Metadata[Any], public: Iterable[str], keys: Keys) -> None:
    """Add the signatures of all those of `public` that are at hand."""
    payload = metadata.signed_bytes
    for key in keys.of(public):
        metadata.signatures[key.public.keyid] = key.sign(payload)


def verify(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
    """Raise ``RepositoryError`` if too few keys of `role` have signed."""
    delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)


def root_is_complete(root: Metadata[Root], following: Metadata[Root]) -> bool:
    """Whether enough old and enough new keys have signed the root that follows."""
    try:
        verify(root.signed, "root", following)
        verify(following.signed, "root", following)
    except (RepositoryError, ValueError):
        return False
    return True


def in_utc(signed: Signed) -> datetime:
    """When something expires."""
    expires = signed.expires
    return expires if expires.tzinfo else expires.replace(tzinfo=UTC)


def _read_rest(repository: Repository) -> None:
    """Read what the timestamp leads to, verified by the root in force or by the next one."""
    store = repository.store
    _verify_by_root(repository, "timestamp", repository.timestamp)
    version = repository.timestamp.signed.snapshot_meta.version
    content = store.read(f"metadata/{version}.snapshot.json")
    repository.snapshot = Metadata[Snapshot].from_bytes(content)
    _verify_by_root(repository, "snapshot", repository.snapshot)
    meta = repository.snapshot.signed.meta
    content = store.read(f"metadata/{meta[f'{TARGETS}.json'].version}.{TARGETS}.json")
    repository.roles[TARGETS] = Metadata[Targets].from_bytes(content)
    _verify_by_root(repository, TARGETS, repository.targets)
    delegations = repository.targets.signed.delegations
    for role in (delegations.roles or {}) if delegations else {}:
        content = store.read(f"metadata/{meta[f'{role}.json'].version}.{role}.json")
        repository.roles[role] = Metadata[Targets].from_bytes(content)
        verify(repository.targets.signed, role, repository.roles[role])


def _verify_by_root(repository: Repository, role: str, metadata: Metadata[Any]) -> None:
    """Verify a role by the root in force, or by the next one if that is about to take over."""
    roots = repository._roots()  # noqa: SLF001 - of this module
    for root in roots[:-1]:
        try:
            return verify(root, role, metadata)
        except RepositoryError:
            continue
    return verify(roots[-1], role, metadata)


def _broken(store: Store, why: str) -> DomainError:
    return DomainError(
        f"the repository {quote_path(str(store.directory))} is not as it was written: {why}",
        "put back what you have kept of it; nothing was changed",
    )
