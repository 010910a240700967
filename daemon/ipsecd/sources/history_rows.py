"""Owns what one change is in the history, and its form on disk; must not know where rows lie."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from ipsecd.sources.reading import SHARED, Loaded, StoredPolicy
from ipsecd.sources.strict_json import decode, integer, items, members, number, text

MOST_UID = (1 << 32) - 1
MOST_COUNT = 1 << 53
MOST_WHAT = 8
"""How many things a row names that several changes have put together."""


class Kind(StrEnum):
    """What a change was about. Only a change of policies has a state that it was made from."""

    POLICIES = "policies"
    RULES = "rules"
    LISTS = "lists"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The policies at one moment: for each file its policy and the SHA-256 of its text.

    The file of shared filters is among them, and has no name. ``link`` is where the assigned link
    led. ``domain`` is the policy of the domain, by name and SHA-256, None if there was none.
    """

    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    link: str | None = None
    assigned: str | None = None
    domain: tuple[str, str] | None = None

    @classmethod
    def of(cls, loaded: Loaded, domain: StoredPolicy | None) -> Manifest:
        """That of what the static store and the domain hold."""
        files = {stored.path: (name, stored.digest) for name, stored in loaded.policies.items()}
        if loaded.shared:
            files[SHARED] = ("", loaded.shared.digest)
        return cls(
            files,
            loaded.link,
            loaded.assigned,
            (domain.policy.name, domain.digest) if domain else None,
        )

    @property
    def policies(self) -> dict[str, str]:
        """The SHA-256 of each policy, by name."""
        return {name: digest for path, (name, digest) in self.files.items() if path != SHARED}

    @property
    def shared(self) -> str | None:
        """The SHA-256 of the shared filters; None if there are none."""
        return self.files[SHARED][1] if SHARED in self.files else None

    @property
    def digests(self) -> frozenset[str]:
        """Those of all documents."""
        of_domain = {self.domain[1]} if self.domain else set()
        return frozenset({digest for _, digest in self.files.values()} | of_domain)


@dataclass(frozen=True, slots=True)
class Author:
    """Who made a change. ``pid`` is 0 and ``user`` empty where the daemon did it by itself.

    ``login_uid`` is who logged in, in the audit's words, None if that is not known; ``sudo_user``
    is whom the command names, and ``command`` the name of the process.
    """

    uid: int = 0
    user: str = ""
    login_uid: int | None = None
    login_user: str = ""
    sudo_user: str = ""
    pid: int = 0
    command: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One change, or several of one caller within a second where they are of rules or lists.

    ``number`` is greater than those of all changes before; ``at`` is in seconds since the epoch.
    ``what`` says in words what changed; ``put`` and ``removed`` count rules. ``lists`` has for each
    list that changed the number of entries before and after. The digests are those of what was in
    force, empty where it stayed. ``after`` are the policies after a change of policies, None for
    any other, and for one that is so old that its documents are gone.
    """

    number: int
    at: float
    kind: Kind
    source: str
    method: str
    author: Author
    message: str = ""
    what: tuple[str, ...] = ()
    changes: int = 1
    put: int = 0
    removed: int = 0
    lists: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    digest_before: str = ""
    digest_after: str = ""
    after: Manifest | None = None

    def with_more(self, later: Row) -> Row:
        """This row with what a later change of the same caller did."""
        what = self.what
        if len(what) < MOST_WHAT:
            what = tuple(dict.fromkeys((*what, *later.what)))[:MOST_WHAT]
        lists = self.lists
        if later.lists:
            lists = dict(lists)
            for name, (before, after) in later.lists.items():
                lists[name] = (lists[name][0] if name in lists else before, after)
        return replace(
            self,
            what=what,
            changes=self.changes + later.changes,
            put=self.put + later.put,
            removed=self.removed + later.removed,
            lists=lists,
        )


def line_of(row: Row) -> bytes:
    """A row as a line with a checksum."""
    content = json.dumps(asdict(row), separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(content), content)


def row_of(line: bytes) -> Row:
    """The inverse of ``line_of``, without the end of the line; raises ``ValueError``."""
    checksum, _, content = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        raise ValueError("it is damaged: its checksum is another's")
    facts = members(decode(content), "the row", tuple(Row.__dataclass_fields__))
    after = facts["after"]
    return Row(
        number=integer(facts["number"], "the number", 1, MOST_COUNT),
        at=number(facts["at"], "the time"),
        kind=Kind(text(facts["kind"], "the kind")),
        author=_author(facts["author"]),
        what=tuple(text(each, "a change") for each in items(facts["what"], "what changed")),
        lists={name: _counts(pair) for name, pair in members(facts["lists"], "the lists").items()},
        after=None if after is None else _manifest(after),
        source=text(facts["source"], "the source"),
        method=text(facts["method"], "the method"),
        message=text(facts["message"], "the message"),
        digest_before=text(facts["digest_before"], "a digest"),
        digest_after=text(facts["digest_after"], "a digest"),
        changes=integer(facts["changes"], "the number of changes", 1, MOST_COUNT),
        put=integer(facts["put"], "the number of rules", 0, MOST_COUNT),
        removed=integer(facts["removed"], "the number of rules", 0, MOST_COUNT),
    )


def _author(given: object) -> Author:
    facts = members(given, "the author", tuple(Author.__dataclass_fields__))
    login = facts["login_uid"]
    return Author(
        uid=integer(facts["uid"], "the user", 0, MOST_UID),
        login_uid=None if login is None else integer(login, "the login", 0, MOST_UID),
        pid=integer(facts["pid"], "the process", 0, MOST_UID),
        **{key: text(facts[key], key) for key in ("user", "login_user", "sudo_user", "command")},
    )


def _manifest(given: object) -> Manifest:
    facts = members(given, "the policies", tuple(Manifest.__dataclass_fields__))
    return Manifest(
        {path: _pair(pair) for path, pair in members(facts["files"], "the files").items()},
        _text_or_none(facts["link"]),
        _text_or_none(facts["assigned"]),
        None if facts["domain"] is None else _pair(facts["domain"]),
    )


def _pair(given: Any) -> tuple[str, str]:
    name, digest = items(given, "a policy", 2)
    return text(name, "a name"), text(digest, "a digest")


def _counts(given: Any) -> tuple[int, int]:
    before, after = (
        integer(each, "a number", 0, MOST_COUNT) for each in items(given, "numbers", 2)
    )
    return before, after


def _text_or_none(given: object) -> str | None:
    return None if given is None else text(given, "a text")
