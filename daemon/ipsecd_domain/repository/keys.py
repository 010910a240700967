"""Owns private keys in a directory, one file each; must not know what they are for.

1. A file of a key is readable by its owner alone, and is complete or not there.
2. A key is known by its public half: the name of its file only says which one it replaces.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.signer import Key, Signature, SSlibKey

from ipsecd.errors import StoreFailed
from ipsecd.quoting import few, quote_path
from ipsecd_domain.errors import DomainError
from ipsecd_domain.repository.store import replace_file

NAME_FIELD = "x-ipsecd-name"
"""Where a public key in the metadata has the name of the file of its private half."""
_NEW = ".new"


@dataclass(frozen=True)
class PrivateKey:
    """A key that can sign, by the `name` of its file without ``.pem``."""

    name: str
    private: Ed25519PrivateKey

    @property
    def public(self) -> SSlibKey:
        """Its public half, as metadata has it."""
        raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
        described = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": raw}}
        # The identifier is the digest of the key in canonical JSON (TUF 1.0, section 4.2).
        canonical = json.dumps(described, sort_keys=True, separators=(",", ":")).encode()
        return SSlibKey(
            hashlib.sha256(canonical).hexdigest(),
            "ed25519",
            "ed25519",
            {"public": raw},
            {NAME_FIELD: self.name.removesuffix(_NEW)},
        )

    def sign(self, payload: bytes) -> Signature:
        """Its signature of `payload`."""
        return Signature(self.public.keyid, self.private.sign(payload).hex())


class Keys:
    """The private keys that are at hand, and the directory that they are in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._by_id: dict[str, PrivateKey] = {}
        try:
            for path in sorted(directory.glob("*.pem")):
                key = PrivateKey(path.stem, _read(path))
                self._by_id[key.public.keyid] = key
        except OSError as error:
            raise _failed("read", directory, error) from error

    def of(self, ids: Iterable[str]) -> list[PrivateKey]:
        """Those at hand of the keys with these identifiers."""
        return [self._by_id[keyid] for keyid in ids if keyid in self._by_id]

    def add(self, name: str) -> PrivateKey:
        """Make a new key, which will be called `name`; ``settle`` gives it that name for good.

        Until then the file has another one, so that the key that it replaces is at hand as well.
        """
        taken = (self.directory / f"{name}.pem").exists()
        key = PrivateKey(f"{name}{_NEW}" if taken else name, Ed25519PrivateKey.generate())
        pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            replace_file(self.directory / f"{key.name}.pem", pem, mode=0o600)
        except OSError as error:
            raise _failed("write", self.directory, error) from error
        self._by_id[key.public.keyid] = key
        return key

    def settle(self, public: Mapping[str, Key]) -> None:
        """Put new keys in the place of those that they replaced, once `public` are the ones used.

        A new key that is not used yet keeps its name.
        """
        for keyid, key in self._by_id.items():
            if key.name.endswith(_NEW) and keyid in public:
                old = self.directory / f"{key.name}.pem"
                try:
                    old.replace(self.directory / f"{key.name.removesuffix(_NEW)}.pem")
                except OSError as error:
                    raise _failed("write", self.directory, error) from error


def make_directory(path: Path) -> None:
    """Make a directory for keys, for its owner alone, if there is none."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _failed("make", path, error) from error


def name_of(key: Key) -> str:
    """The name of a public key: that of the file of its private half."""
    name = key.unrecognized_fields.get(NAME_FIELD)
    return name if isinstance(name, str) else key.keyid[:12]


def names_of(keys: Iterable[Key]) -> str:
    """The names of public keys, on a line."""
    return few(sorted(map(name_of, keys)))


def _read(path: Path) -> Ed25519PrivateKey:
    content = path.read_bytes()
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
        raise _no_key(path) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path)
    if path.stat().st_mode & 0o077:
        raise DomainError(
            f"others than its owner can read the key {quote_path(str(path))}",
            f"chmod 600 {os.fspath(path)!r}; if somebody did, replace it with 'ipsecctl domain "
            "keygen'",
        )
    return key


def _no_key(path: Path) -> DomainError:
    return DomainError(
        f"{quote_path(str(path))} is no private Ed25519 key without a password",
        "move it elsewhere; keys are made with 'ipsecctl domain init' and 'ipsecctl domain keygen'",
    )


def _failed(doing: str, path: Path, error: OSError) -> StoreFailed:
    return StoreFailed(
        f"cannot {doing} the keys in {quote_path(str(path))}: {error.strerror or error}",
        "check the directory that --keys names, and who may use it",
    )
