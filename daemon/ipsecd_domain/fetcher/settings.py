"""Owns what the daemon says about its domain: settings, what it trusts, and what is in force."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ipsecd.errors import IpsecdError
from ipsecd.quoting import quote
from ipsecd_domain.tls import TlsFiles

DEFAULT_INTERVAL_S = 90 * 60.0
SHORTEST_INTERVAL_S = 1.0
TIMESTAMP = "timestamp.json"


class NotUnderstood(IpsecdError):
    """The daemon's answer is not what this fetcher can use."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The key ``domain`` of ipsecd.yaml; without a source there is no domain policy."""

    source: str = ""
    doorbell: str = field(default="", repr=False)
    host: str = ""
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    interval_s: float = DEFAULT_INTERVAL_S
    tls: TlsFiles = field(default_factory=TlsFiles)
    proxy: str = field(default="", repr=False)
    reports: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """What the daemon answers to GetDomain.

    ``trusted`` has the metadata that it verified last, by file name; ``digest`` is that of the
    policy in force, in hexadecimal; ``taken_at`` is in seconds since the epoch; ``refresh`` is the
    number of the last look that was asked for; ``lists`` are the digests of the lists that it has.
    """

    settings: Settings
    trusted: Mapping[str, str] = field(default_factory=dict)
    policy: str = ""
    digest: str = ""
    version: int = 0
    withdrawn: bool = False
    taken_at: float = 0.0
    refresh: int = 0
    lists: frozenset[str] = frozenset()

    @property
    def timestamp_digest(self) -> str:
        """SHA-256 of timestamp.json, which names the state of the repository; "" without one."""
        text = self.trusted.get(TIMESTAMP)
        return hashlib.sha256(text.encode()).hexdigest() if text else ""


def domain_of(reply: Mapping[str, Any]) -> Domain:
    """The domain that a reply of the daemon describes; raises ``NotUnderstood``."""
    members = reply.get("domain")
    if not isinstance(members, dict):
        raise NotUnderstood("the daemon's answer to GetDomain has no domain", _VERSIONS)
    reader = _Reader(members)
    interval_s = reader.number("interval_s")
    settings = Settings(
        source=reader.text("source"),
        doorbell=reader.text("doorbell"),
        host=reader.text("host"),
        groups=reader.texts("groups"),
        labels=tuple(sorted(reader.map("labels").items())),
        interval_s=max(interval_s, SHORTEST_INTERVAL_S) if interval_s else DEFAULT_INTERVAL_S,
        tls=TlsFiles(reader.text("ca"), reader.text("certificate"), reader.text("key")),
        proxy=reader.text("proxy"),
        reports=reader.text("reports"),
    )
    return Domain(
        settings,
        reader.map("trusted"),
        policy=reader.text("policy"),
        digest=reader.text("digest"),
        version=int(reader.number("version")),
        withdrawn=members.get("withdrawn") is True,
        taken_at=reader.number("taken_at"),
        refresh=int(reader.number("refresh")),
        lists=reader.digests("lists"),
    )


_VERSIONS = "the daemon and this fetcher may be of different versions"


class _Reader:
    """Members of an object; one that is absent or null is empty."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = members

    def text(self, name: str) -> str:
        value = self._members.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise _wrong(name)
        return value

    def number(self, name: str) -> float:
        value = self._members.get(name)
        if value is None:
            return 0
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise _wrong(name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._members.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _wrong(name)
        return tuple(value)

    def digests(self, name: str) -> frozenset[str]:
        """Those of lists, without those that were lost; a daemon that is older names none."""
        value = self._members.get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise _wrong(name)
        digests = [item.get("digest") for item in value]
        return frozenset(digest for digest in digests if isinstance(digest, str) and digest)

    def map(self, name: str) -> dict[str, str]:
        value = self._members.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise _wrong(name)
        return value


def _wrong(name: str) -> NotUnderstood:
    return NotUnderstood(f"the daemon's answer has another {quote(name)} than expected", _VERSIONS)
