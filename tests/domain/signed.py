"""A small signed repository, as a publisher writes it: targets first, timestamp.json last."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import Key
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from ipsecd_domain.layout import Index, Offer, hashed, index_path, write_index
from ipsecd_domain.repository.keys import PrivateKey

POLICY = """policy: Fleet {number}
rules:
  - rule: R
    action: block
    filters: ["*=0:{number}:UDP"]
"""
ROLES = ("root", "targets", "snapshot", "timestamp")


class SignedRepository:
    """One key for each role; every publish gives out one policy for all hosts."""

    def __init__(self, directory: Path, valid: timedelta = timedelta(days=7)) -> None:
        self.directory = directory
        self.version = 0
        # Older versions of the library know no zones.
        self._expires = datetime.now(UTC).replace(microsecond=0, tzinfo=None) + valid
        self._keys = {role: PrivateKey(role, Ed25519PrivateKey.generate()) for role in ROLES}
        for name in ("metadata", "targets"):
            (directory / name).mkdir(parents=True)
        keys: dict[str, Key] = {key.public.keyid: key.public for key in self._keys.values()}
        roles = {role: Role([key.public.keyid], 1) for role, key in self._keys.items()}
        root = Metadata(Root(1, expires=self._expires, keys=keys, roles=roles))
        self.root = self._signed("root", root)
        self._write("metadata/1.root.json", self.root)

    def publish(self, number: int, *, interval_s: float | None = None, last: bool = True) -> str:
        """Give out a policy that blocks a port; the SHA-256 of timestamp.json.

        Without the `last` step everything but timestamp.json is written.
        """
        document = POLICY.format(number=number).encode()
        offer = Offer("all/fleet.yaml", f"Fleet {number}", interval_s=interval_s)
        return self._give_out(
            {index_path("targets"): write_index(Index((offer,))), offer.path: document}, last=last
        )

    def withdraw(self) -> str:
        """Give out that there is no policy any more."""
        return self._give_out({index_path("targets"): write_index(Index(withdrawn=True))})

    def timestamp(self) -> bytes:
        return (self.directory / "metadata/timestamp.json").read_bytes()

    def _give_out(self, files: dict[str, bytes], *, last: bool = True) -> str:
        self.version += 1
        version, expires = self.version, self._expires
        signed = {}
        for path, data in files.items():
            digest = hashlib.sha256(data).hexdigest()
            signed[path] = TargetFile(len(data), {"sha256": digest}, path)
            self._write(f"targets/{hashed(path, digest)}", data)
        targets = self._signed(
            "targets", Metadata(Targets(version, expires=expires, targets=signed))
        )
        self._write(f"metadata/{version}.targets.json", targets)
        meta = {"targets.json": MetaFile(version)}
        snapshot = self._signed("snapshot", Metadata(Snapshot(version, expires=expires, meta=meta)))
        self._write(f"metadata/{version}.snapshot.json", snapshot)
        timestamp = Metadata(Timestamp(version, expires=expires, snapshot_meta=MetaFile(version)))
        data = self._signed("timestamp", timestamp)
        if last:
            self._write("metadata/timestamp.json", data)
        return hashlib.sha256(data).hexdigest()

    def _signed(self, role: str, metadata: Metadata[Any]) -> bytes:
        key = self._keys[role]
        metadata.signatures[key.public.keyid] = key.sign(metadata.signed_bytes)
        return metadata.to_bytes()

    def _write(self, path: str, data: bytes) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.new")
        new.write_bytes(data)
        new.replace(file)
