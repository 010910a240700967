"""Owns how a repository begins; must not know how it is changed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from ipsecd.quoting import quote_path
from ipsecd_domain.errors import DomainError
from ipsecd_domain.layout import TARGETS, Index
from ipsecd_domain.repository.content import Repository, expiry, sign, unsigned
from ipsecd_domain.repository.keys import Keys, make_directory
from ipsecd_domain.repository.store import Store

ROOT_KEYS = ("root1", "root2", "root3")
THRESHOLD = 2
"""Of the root keys must sign a root."""
ONLINE = ("targets", "snapshot", "timestamp")


def init(directory: Path, keys_in: Path, now: datetime) -> Repository:
    """Make a repository that gives out nothing yet, with new keys for all its roles.

    The root is written last: until then there is no repository.
    """
    store = Store(directory)
    make_directory(keys_in)
    directory.mkdir(parents=True, exist_ok=True)
    with store.locked():
        if store.root_version():
            raise DomainError(
                f"{quote_path(str(directory))} is a repository already",
                "name another directory; 'ipsecctl domain keygen' makes new keys for this one",
            )
        keys = Keys(keys_in)
        if list(keys_in.glob("*.pem")):
            raise DomainError(
                f"there are keys in {quote_path(str(keys_in))} already",
                "name an empty directory with --keys",
            )
        root = Metadata(Root(expires=expiry("root", now)))
        for name in (*ROOT_KEYS, *ONLINE):
            role = "root" if name in ROOT_KEYS else name
            root.signed.add_key(keys.add(name).public, role)
        root.signed.roles["root"].threshold = THRESHOLD
        sign(root, root.signed.roles["root"].keyids, keys)
        repository = Repository(
            store,
            root,
            unsigned(Timestamp()),
            unsigned(Snapshot()),
            {TARGETS: unsigned(Targets())},
        )
        repository.give_out(TARGETS, Index(), {})
        repository.write(keys, now)
        store.write_root(root.signed.version, root.to_bytes())
    return repository
