"""Owns what is read of a root, the document of TUF that says whose signatures count.

Whether it is signed is not judged here: nothing is trusted because of what is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipsecd.errors import InvalidInput
from ipsecd.sources.strict_json import decode, integer, items, members, text

ROOT = "root.json"
"""The name of its file."""
MAX_BYTES = 1 << 20
_HINT = "pass the file metadata/root.json of the repository, or run: ipsecctl domain trust REPO"


@dataclass(frozen=True, slots=True)
class Root:
    """A root: ``threshold`` of its ``keys`` sign the next one; ``timestamp_keys`` are key ids."""

    version: int
    keys: int
    threshold: int
    timestamp_keys: frozenset[str]


def read_root(document: str) -> Root:
    """The root in `document`; raises ``InvalidInput``."""
    try:
        return _root(document.encode())
    except ValueError as error:
        raise InvalidInput(f"this is no root of a domain: {error}", _HINT) from error


def _root(content: bytes) -> Root:
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES:,} bytes")
    signed = members(members(decode(content), "the whole").get("signed"), "what is signed")
    if text(signed.get("_type"), "its type") != "root":
        raise ValueError(f"its type is {signed['_type']!r}")
    roles = members(signed.get("roles"), "the roles")
    own = members(roles.get("root"), "the role root")
    timestamp = members(roles.get("timestamp"), "the role timestamp")
    keys = len(set(_key_ids(own)))
    return Root(
        integer(signed.get("version"), "its version", 1, 1 << 53),
        keys,
        integer(own.get("threshold"), "its threshold", 1, keys),
        frozenset(_key_ids(timestamp)),
    )


def _key_ids(role: dict[str, object]) -> list[str]:
    return [text(key, "a key id") for key in items(role.get("keyids"), "the key ids")]
