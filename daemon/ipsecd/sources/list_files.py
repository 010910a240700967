"""Owns lists in the checked form in which the daemon keeps them; must not know who changes them.

A file holds a line of JSON, with what there is to say about a list, and its entries, packed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ipsecd.language.list_formats import check_format
from ipsecd.model.lists import AddressList
from ipsecd.model.packed_form import pack, unpack
from ipsecd.sources import checked
from ipsecd.sources.checked import CheckedFile
from ipsecd.sources.files import MAX_OWN_FILE_BYTES, Disk
from ipsecd.sources.strict_json import decode, flag, integer, members, number, text

FEED, READ, TEXT = ".feed", ".read", ".text"
"""The ends of the names of files: what came from a URL, what a file of people held, its bytes."""
FEED_FORM = checked.Form(
    "list-feed",
    1,
    MAX_OWN_FILE_BYTES,
    "delete it and make the list anew: ipsecctl list create NAME --from URL",
)
READ_FORM = checked.Form(
    "list-read",
    1,
    MAX_OWN_FILE_BYTES,
    "nothing need be done: the file of the list is read, and it is written again",
)
_SAID, _TIMES = ("etag", "modified"), ("fetched", "checked")
MAX_EVERY_S = 366 * 86400
LEAST_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class Feed:
    """What comes from a URL: where from, how often, what the server said of it, and its entries.

    ``fetched`` and ``checked`` are seconds since the epoch: when it was last new, and when it was
    last asked for with success.
    """

    url: str
    every_s: int
    form: str = ""
    etag: str = ""
    modified: str = ""
    fetched: float = 0.0
    checked: float = 0.0
    addresses: AddressList = field(default_factory=AddressList)


def shown_url(url: str) -> str:
    """A URL as everybody may see it: what is behind the question mark may be a secret."""
    place, mark, _ = url.partition("?")
    return f"{place}?…" if mark else place


@dataclass(frozen=True, slots=True)
class FileRead:
    """What a file of people held when it could last be read, and the SHA-256 of its bytes.

    ``malformed`` says in words which lines could not be read; it is empty if all could.
    """

    digest: str
    addresses: AddressList
    plain: bool = True
    malformed: str = ""

    def told(self, path: str) -> list[str]:
        """What there is to tell of the file at `path`."""
        return [f"{path!r} has {self.malformed}"] if self.malformed else []


class FeedFile:
    """The file of a feed, replaced as a whole."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._file = CheckedFile(path, FEED_FORM, disk)

    def save(self, feed: Feed) -> None:
        """Keep a feed; raises ``StoreFailed``."""
        self._file.save(
            _encode(
                {
                    "url": feed.url,
                    "every_s": feed.every_s,
                    "form": feed.form,
                    "etag": feed.etag,
                    "modified": feed.modified,
                    "fetched": feed.fetched,
                    "checked": feed.checked,
                },
                feed.addresses,
            )
        )

    def load(self) -> Feed | None:
        """The feed; None if there is no file. Raises ``StoreFailed`` if it cannot be used."""
        return self._file.load(_feed)


class FileReadFile:
    """The file with what a file of people held, replaced as a whole."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._file = CheckedFile(path, READ_FORM, disk)

    def save(self, read: FileRead) -> None:
        """Keep what was read; raises ``StoreFailed``."""
        self._file.save(
            _encode(
                {"digest": read.digest, "plain": read.plain, "malformed": read.malformed},
                read.addresses,
            )
        )

    def load(self) -> FileRead | None:
        """What was read; None if there is no file. Raises ``StoreFailed``."""
        return self._file.load(_file_read)


def _feed(content: bytes) -> Feed:
    facts, addresses = _decode(content)
    members(facts, "the feed", ("url", "every_s", "form", *_SAID, *_TIMES))
    form = text(facts["form"], "the form")
    if form:
        check_format(form)
    etag, modified = (text(facts[key], key) for key in _SAID)
    fetched, asked = (number(facts[key], key) for key in _TIMES)
    every_s = integer(facts["every_s"], "the interval", LEAST_EVERY_S, MAX_EVERY_S)
    url = text(facts["url"], "the URL")
    return Feed(url, every_s, form, etag, modified, fetched, asked, addresses)


def _file_read(content: bytes) -> FileRead:
    facts, addresses = _decode(content)
    members(facts, "the list", ("digest", "plain", "malformed"))
    return FileRead(
        text(facts["digest"], "the digest"),
        addresses,
        flag(facts["plain"], "whether it is plain"),
        text(facts["malformed"], "what is malformed"),
    )


def _encode(facts: Mapping[str, object], addresses: AddressList) -> bytes:
    return json.dumps(facts).encode() + b"\n" + pack(addresses)


def _decode(content: bytes) -> tuple[dict[str, object], AddressList]:
    """The inverse of ``_encode``; raises ``ValueError``."""
    line, _, rest = content.partition(b"\n")
    return members(decode(line), "the first line"), unpack(rest)
