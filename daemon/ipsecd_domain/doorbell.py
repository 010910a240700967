"""Owns the doorbell of a fleet: a small key in etcd that says what was published last.

The key never has the document: what is watched by thousands must be small. What it says is not
signed and not believed: a ring makes hosts look at the source, and nothing else. ``digest`` is the
SHA-256 of timestamp.json, so that a host that has this state already need not look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote
from ipsecd_domain.errors import NotFetched, required_packages
from ipsecd_domain.tls import TlsFiles

if TYPE_CHECKING:
    from ipsecd_domain.etcd import Member

MOST_VALUE = 1024
"""Bytes of a ring that are read."""
DEFAULT_PORT = 2379
_DIGEST = re.compile(r"[0-9a-f]{0,64}")


@dataclass(frozen=True, slots=True)
class Ring:
    """What was published last: the version and the SHA-256 of timestamp.json, in hexadecimal."""

    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Doorbell:
    """Where the key is: the members of an etcd cluster, each host and port, and who asks."""

    members: tuple[tuple[str, int], ...]
    key: str
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)

    def open_members(self, files: TlsFiles) -> Iterator[Member]:
        """The members as connections that are made when they are used, one after the other."""
        with required_packages():
            from ipsecd_domain.etcd import Member  # noqa: PLC0415 - most hosts have no doorbell
        for host, port in self.members:
            files_used = files if self.tls else None
            yield Member(host, port, files_used, self.user, self.password)


def parse_doorbell(url: str) -> Doorbell:
    """The doorbell that a URL names; raises ``InvalidInput``, which never shows the password.

    ``etcd://USER:PASSWORD@HOST:PORT,HOST:PORT/KEY``, or ``etcds://`` for TLS.
    """
    scheme, _, rest = url.partition("://")
    place, _, key = rest.partition("/")
    login, _, hosts = place.rpartition("@")
    if scheme not in ("etcd", "etcds"):
        raise _wrong("it begins neither with etcd:// nor with etcds://")
    if not key:
        raise _wrong("it names no key")
    try:
        members = tuple(map(_member, hosts.split(",")))
    except ValueError:
        # What was wrong may be the password.
        raise _wrong("its hosts are not HOST:PORT,HOST:PORT") from None
    user, _, password = login.partition(":")
    return Doorbell(members, unquote(key), scheme == "etcds", unquote(user), unquote(password))


def ring(url: str, version: int, digest: str, files: TlsFiles | None = None) -> None:
    """Tell the fleet that there is a new state of the repository, once it can be fetched.

    Raises ``NotFetched`` if no member takes it: hosts then learn of it when they look anyway.
    """
    doorbell = parse_doorbell(url)
    value = json.dumps({"version": version, "digest": digest})
    reasons = []
    for member in doorbell.open_members(files or TlsFiles()):
        try:
            member.put(doorbell.key, value)
        except NotFetched as error:
            reasons.append(error.message)
        else:
            return
        finally:
            member.close()
    raise NotFetched(
        f"the doorbell could not be rung: {'; '.join(reasons)}",
        "it is published nevertheless: hosts take it when they look by themselves",
    )


def read_ring(value: bytes) -> Ring | None:
    """The ring that a value of the key is; None if it is none."""
    if len(value) > MOST_VALUE:
        return None
    try:
        members = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(members, dict):
        return None
    version, digest = members.get("version"), members.get("digest")
    if type(version) is not int or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return None
    return Ring(version, digest)


def _member(text: str) -> tuple[str, int]:
    """Host and port as a URL writes them; raises ``ValueError``."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path:
        raise ValueError(text)
    return parts.hostname, parts.port or DEFAULT_PORT


def _wrong(why: str) -> InvalidInput:
    example = quote("etcd://USER:PASSWORD@HOST:2379,HOST:2379/ipsecd")
    return InvalidInput(f"the doorbell cannot be used: {why}", f"write it like {example}")
