"""Owns what this host keeps of its domain: the metadata it has verified, and the policy it took.

One file, which is replaced as a whole, so that a policy is never kept without what vouches for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ipsecd.model.values import Store
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.files import Disk
from ipsecd.sources.reading import StoredPolicy
from ipsecd.sources.remembered import PolicyReader
from ipsecd.sources.root import ROOT, read_root
from ipsecd.sources.strict_json import decode, flag, integer, items, members, number, text

FORM = Form(
    "domain",
    1,
    256 << 20,
    "what was in force stays; run: ipsecctl domain trust REPO, and then: ipsecctl domain refresh",
)
MAX_VERSION = 1 << 53
MAX_TRUSTED = 400
"""Files of metadata: one for each role."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What this host said of itself when the policy was chosen for it."""

    name: str = ""
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken from the domain last.

    ``trusted`` is the metadata by the names of its files. ``stored`` is the policy with its
    document and its path in the domain, None if there is none; it is ``withdrawn`` if the domain
    said so. ``version`` is that of the metadata, which is good until ``expires``, a time as ISO
    8601 has it. ``taken_at``, in seconds since the epoch, is when this policy or the withdrawal
    came; ``why`` says why it is this policy.
    ``interval_s`` is the time between two looks that the policy asks for.
    """

    trusted: Mapping[str, str] = field(default_factory=dict)
    stored: StoredPolicy | None = None
    withdrawn: bool = False
    version: int = 0
    expires: str = ""
    taken_at: float = 0.0
    why: str = ""
    interval_s: float | None = None
    host: Selection = field(default_factory=Selection)

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's document, in hexadecimal; empty without one."""
        return self.stored.digest if self.stored else ""

    def is_expired(self, now: float) -> bool:
        """Whether the metadata has ended; `now` is in seconds since the epoch."""
        return bool(self.expires) and time_of(self.expires) < now

    def trusting(self, root: str) -> Taken:
        """The same policy, with `root` alone trusted; raises ``InvalidInput``."""
        keys = read_root(root).timestamp_keys
        former = self.trusted.get(ROOT)
        # Versions count by the keys that sign them.
        is_same = former is not None and read_root(former).timestamp_keys == keys
        version = self.version if is_same else 0
        return replace(self, trusted={ROOT: root}, version=version, expires="")


def time_of(expires: str) -> float:
    """A time as ISO 8601 has it, in seconds since the epoch; raises ``ValueError``."""
    moment = datetime.fromisoformat(expires)
    if moment.tzinfo is None:
        raise ValueError(f"{expires!r} does not say its time zone")
    return moment.timestamp()


class DomainFile:
    """The file, replaced as a whole."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._file = CheckedFile(state_dir / "domain" / "taken", FORM, disk)

    def save(self, taken: Taken) -> None:
        """Keep `taken`, on disk when this returns; raises ``StoreFailed``, or ``LimitExceeded``."""
        self._file.save(taken_to_json(taken))

    def load(self, reader: PolicyReader) -> Taken | None:
        """What was kept last, None if nothing was; raises ``StoreFailed`` if it cannot be used."""
        return self._file.load(lambda content: taken_from_json(content, reader))


def taken_to_json(taken: Taken) -> bytes:
    """What was taken, as JSON."""
    stored = taken.stored
    return json.dumps(
        {
            "trusted": dict(sorted(taken.trusted.items())),
            "document": stored.text if stored else None,
            "path": stored.path if stored else "",
            "digest": taken.digest,
            "withdrawn": taken.withdrawn,
            "version": taken.version,
            "expires": taken.expires,
            "taken_at": taken.taken_at,
            "why": taken.why,
            "interval_s": taken.interval_s,
            "host": taken.host.name,
            "groups": list(taken.host.groups),
            "labels": dict(taken.host.labels),
        },
        ensure_ascii=False,
    ).encode()


_KEYS = (
    "trusted",
    "document",
    "path",
    "digest",
    "withdrawn",
    "version",
    "expires",
    "taken_at",
    "why",
    "interval_s",
    "host",
    "groups",
    "labels",
)


def taken_from_json(content: bytes, reader: PolicyReader) -> Taken:
    """The inverse of ``taken_to_json``; raises ``ValueError`` or ``InvalidInput``."""
    node = members(decode(content), "the whole", _KEYS)
    path = text(node["path"], "the path")
    stored = None
    if node["document"] is not None:
        document = text(node["document"], "the document")
        stored = StoredPolicy(reader.read(document, path), path, document, Store.DOMAIN)
    if (stored.digest if stored else "") != text(node["digest"], "the digest"):
        raise ValueError("the document is not the one that its digest tells")
    expires = text(node["expires"], "the end")
    if expires:
        time_of(expires)
    interval = node["interval_s"]
    labels = texts_of(node["labels"], "the labels")
    return Taken(
        texts_of(node["trusted"], "the metadata"),
        stored,
        flag(node["withdrawn"], "withdrawn"),
        integer(node["version"], "the version", 0, MAX_VERSION),
        expires,
        number(node["taken_at"], "a time"),
        text(node["why"], "why"),
        None if interval is None else number(interval, "the interval"),
        Selection(
            text(node["host"], "the host"),
            tuple(text(group, "a group") for group in items(node["groups"], "the groups")),
            tuple(sorted(labels.items())),
        ),
    )


def texts_of(node: object, what: str) -> dict[str, str]:
    """An object of texts, which can be written again; raises ``ValueError``."""
    texts = {name: text(value, f"a part of {what}") for name, value in members(node, what).items()}
    if len(texts) > MAX_TRUSTED:
        raise ValueError(f"{what} has {len(texts)} members, and {MAX_TRUSTED} are the most")
    for name, value in texts.items():
        try:
            (name + value).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{what} holds a character that no text has") from None
    return texts
