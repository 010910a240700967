"""Owns what this host keeps of its domain: the metadata it has verified, and the policy it took.

One file, which is replaced as a whole, so that a policy is never kept without what vouches for it,
and beside it a file for each list that the policy carries, which is there before that one names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ipsecd.model.addresses import check_list_name
from ipsecd.model.packed_form import MAX_CARRIED
from ipsecd.model.values import Store
from ipsecd.sources.checked import CheckedFile, Form
from ipsecd.sources.domain_lists import DomainList, DomainListFiles, DomainLists
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
    ``interval_s`` is the time between two looks that the policy asks for. ``lists`` are those that
    the policy carries, by the names that its filters have.
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
    lists: DomainLists = field(default_factory=dict)

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
    """The file, replaced as a whole, and those of lists."""

    def __init__(self, state_dir: Path, disk: Disk | None = None) -> None:
        self._file = CheckedFile(state_dir / "domain" / "taken", FORM, disk)
        self._lists = DomainListFiles(state_dir / "domain" / "lists", disk)

    def save(self, taken: Taken) -> None:
        """Keep `taken`, on disk when this returns; raises ``StoreFailed``, or ``LimitExceeded``.

        The lists of what was kept before stay until ``tidy``.
        """
        self._lists.save(taken.lists.values())
        self._file.save(taken_to_json(taken))

    def tidy(self, taken: Taken) -> None:
        """Delete the lists that `taken`, which is kept, does not name."""
        self._lists.tidy(taken.lists.values())

    def load(self, reader: PolicyReader) -> Taken | None:
        """What was kept last, None if nothing was; raises ``StoreFailed`` if it cannot be used.

        A list that cannot be used has its problem, and keeps nothing else from being used.
        """
        return self._file.load(lambda content: taken_from_json(content, reader, self._lists.load))


def taken_to_json(taken: Taken) -> bytes:
    """What was taken, as JSON."""
    stored = taken.stored
    digests = digests_by_name(taken.lists)
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
            # Versions that do not know lists read what has none.
            **({LISTS: digests} if digests else {}),
        },
        ensure_ascii=False,
    ).encode()


LISTS = "lists"
_DIGEST = re.compile(r"[0-9a-f]{64}")
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


def taken_from_json(
    content: bytes, reader: PolicyReader, load: Callable[[str, str], DomainList]
) -> Taken:
    """The inverse of ``taken_to_json``; raises ``ValueError`` or ``InvalidInput``.

    `load` gives the list of a name and digest.
    """
    whole = members(decode(content), "the whole")
    digests = digests_of(whole.pop(LISTS, {}))
    node = members(whole, "the whole", _KEYS)
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
        {name: load(name, digest) for name, digest in digests.items()},
    )


def digests_by_name(lists: DomainLists) -> dict[str, str]:
    """The digests of lists by name, in the order of names."""
    return {name: carried.digest for name, carried in sorted(lists.items())}


def digests_of(node: object) -> dict[str, str]:
    """The digests of lists by name; raises ``ValueError`` or ``InvalidInput``."""
    digests = members(node, "the lists")
    if len(digests) > MAX_CARRIED:
        raise ValueError(f"there are {len(digests)} lists, and {MAX_CARRIED} are the most")
    for name, digest in digests.items():
        check_list_name(name)
        if not _DIGEST.fullmatch(text(digest, "a digest")):
            raise ValueError("a list has a digest that is none")
    return {name: text(digest, "a digest") for name, digest in digests.items()}


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
