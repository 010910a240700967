"""Owns the form of a backup: a tar archive of what a host blocks and permits, and what is in it.

It must not know where that lies on a host, nor how it is put there. The first member is
``manifest.json``, which names every other with its SHA-256, and has a checksum of itself:

* ``policies/FILE.yaml``: the file of a policy, as it is;
* ``shared-filters.yaml``: the filter lists and actions that policies share, as the file is;
* ``lists/NAME``: the file of a list, as it is;
* ``feeds/NAME``: what came from the URL of a list, an entry a line; the manifest has the URL;
* ``added/NAME``: the entries of a list that were added by command, each with its end;
* ``counted/NAME``: nothing, for a list that counts what its entries match;
* ``dynamic.json``: the dynamic rules, each with its end.

The same content makes the same bytes. Whatever else is in an archive is refused.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf, isfinite

from ipsecd import __version__
from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.language import address_lists
from ipsecd.language.list_entries import entries_in, format_list
from ipsecd.language.list_formats import check_format
from ipsecd.model.addresses import check_list_name
from ipsecd.model.lists import AddressList
from ipsecd.model.persistent import PersistentMap
from ipsecd.model.values import check_name
from ipsecd.quoting import quote
from ipsecd.sources.list_files import LEAST_EVERY_S, MAX_EVERY_S, Feed
from ipsecd.sources.list_journal import Entries, key_of, keys_of, list_of, text_of
from ipsecd.sources.reading import MAX_FILE_BYTES, POLICIES, SHARED, SUFFIX
from ipsecd.sources.strict_json import decode, integer, items, members, text

VERSION = 1
MAX_BYTES = 1 << 28
"""How long an archive may be."""
MAX_MEMBERS = 20_000
MAX_MANIFEST_BYTES = 1 << 24
MAX_URL = 2048
MAX_MOMENT = 1 << 40
MANIFEST = "manifest.json"
LISTS, FEEDS, ADDED, COUNTED = "lists", "feeds", "added", "counted"
DYNAMIC = "dynamic.json"
MAX_DYNAMIC_BYTES = 1 << 27
_POLICY = re.compile(rf"{POLICIES}/[^/.\0][^/\0]*{re.escape(SUFFIX)}")
_FORM = "ipsecd-backup"
_KEYS = (_FORM, "ipsecd", "assigned", "feeds", "members", "checksum")
_OF_RULE = ("name", "action", "filters", "interface", "when", "ends")
_NEVER = "-"
_HINT = "give a file that 'ipsecctl backup' has made; nothing has changed"


@dataclass(frozen=True, slots=True)
class ListParts:
    """The parts of one list: its file, what comes from a URL, and the entries that were added.

    ``counted`` says that it counts what its entries match.
    """

    file: bytes | None = None
    feed: Feed | None = None
    added: Entries = field(default_factory=PersistentMap)
    counted: bool = False


@dataclass(frozen=True, slots=True)
class RuleText:
    """A dynamic rule as it is written; ``ends`` is in seconds since the epoch, None for never."""

    name: str
    action: str
    filters: tuple[str, ...]
    interface: str | None
    when: str | None
    ends: int | None


@dataclass(frozen=True, slots=True)
class Backup:
    """Policy files by path, the path of the assigned one, lists by name, and dynamic rules.

    ``shared`` is the text of the filter lists and actions that policies share, None for none.
    """

    policies: Mapping[str, str]
    assigned: str | None
    lists: Mapping[str, ListParts]
    dynamic: tuple[RuleText, ...] = ()
    shared: str | None = None

    @property
    def texts(self) -> dict[str, str]:
        """The files of the static store by path."""
        shared = {} if self.shared is None else {SHARED: self.shared}
        return {**self.policies, **shared}


def pack(backup: Backup) -> bytes:
    """The archive that holds `backup`; raises ``LimitExceeded`` if it could not be read again."""
    contents = {path: document.encode() for path, document in backup.texts.items()}
    feeds = {}
    for name, parts in backup.lists.items():
        if parts.file is not None:
            contents[f"{LISTS}/{name}"] = parts.file
        if parts.feed is not None:
            feed = parts.feed
            feeds[name] = {"url": feed.url, "every_s": feed.every_s, "form": feed.form}
            contents[f"{FEEDS}/{name}"] = _lines(format_list(feed.addresses))
        if parts.added:
            ends = sorted(parts.added.items())
            contents[f"{ADDED}/{name}"] = _lines(f"{text_of(k)} {_end_text(e)}" for k, e in ends)
        if parts.counted:
            contents[f"{COUNTED}/{name}"] = b""
    if backup.dynamic:
        rules = [{key: getattr(rule, key) for key in _OF_RULE} for rule in backup.dynamic]
        contents[DYNAMIC] = json.dumps(rules, indent=1, ensure_ascii=False).encode()
    manifest: dict[str, object] = {
        _FORM: VERSION,
        "ipsecd": __version__,
        "assigned": backup.assigned,
        "feeds": feeds,
        "members": {path: _digest(content) for path, content in contents.items()},
    }
    manifest["checksum"] = checksum_of(manifest)
    listed = json.dumps(manifest, indent=1, sort_keys=True).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, content in ((MANIFEST, listed), *sorted(contents.items())):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o600
            tar.addfile(member, io.BytesIO(content))
    packed = archive.getvalue()
    if len(packed) > MAX_BYTES or len(contents) >= MAX_MEMBERS:
        raise LimitExceeded(
            f"the backup would have {len(packed):,} bytes and {len(contents):,} members, and at "
            f"most {MAX_BYTES:,} and {MAX_MEMBERS - 1:,} can be read again",
            "delete the lists that nothing needs, or copy the files of lists by other means",
        )
    return packed


def unpack(archive: bytes, source: str) -> Backup:
    """What an archive holds. It may come from anybody.

    Raises ``InvalidInput`` for one that is not exactly of this form, or ``LimitExceeded``.
    """
    try:
        return _backup(_contents(archive))
    except ValueError as error:
        raise _unusable(source, str(error)) from error
    except InvalidInput as error:
        raise _unusable(source, error.message) from error


def _unusable(source: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{quote(source)} is no backup that can be used: {reason}", _HINT)


def _contents(archive: bytes) -> dict[str, bytes]:
    """The members of an archive by name, bounded in number and size; raises ``ValueError``."""
    if len(archive) > MAX_BYTES:
        raise LimitExceeded(f"the backup is larger than {MAX_BYTES:,} bytes", _HINT)
    contents: dict[str, bytes] = {}
    try:
        # A stream is never read backwards, wherever a damaged header points to.
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r|") as tar:
            for member in tar:
                contents[member.name] = _content(tar, member, contents)
    except (ValueError, InvalidInput):
        raise
    except Exception as error:  # what a stranger wrote makes a library fail in any way
        raise ValueError(f"it is no tar archive, or is damaged: {error}") from error
    return contents


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, before: Mapping[str, bytes]) -> bytes:
    """The content of a member, which comes after those `before`."""
    name = member.name
    if len(before) == MAX_MEMBERS:
        raise ValueError(f"it has more than {MAX_MEMBERS:,} members")
    if member.type != tarfile.REGTYPE or member.sparse is not None:
        raise ValueError(f"its member {quote(name)} is not a regular file")
    if name in before:
        raise ValueError(f"its member {quote(name)} is there twice")
    check_member(name)
    if not 0 <= member.size <= _max_bytes(name):
        raise ValueError(f"its member {quote(name)} is too large")
    file = tar.extractfile(member)
    content = file.read() if file else b""
    if len(content) != member.size:
        raise ValueError("it ends too early")
    return content


def check_member(name: str) -> None:
    """Raise ``ValueError`` or ``InvalidInput`` unless a member may have this name."""
    if name == MANIFEST or (_POLICY.fullmatch(name) and name.isprintable()):
        _check_length(name.rpartition("/")[2])
        return
    if name in {DYNAMIC, SHARED}:
        return
    kind, _, list_name = name.partition("/")
    if kind not in {LISTS, FEEDS, ADDED, COUNTED}:
        raise ValueError(f"nothing in a backup is called {quote(name)}")
    check_list_name(list_name)


def _check_length(name: str) -> None:
    # What is written gets a longer name for a moment, and a file system takes 255 bytes.
    if len(name.encode("utf-8", "replace")) > 240:
        raise ValueError(f"its member {quote(name)} has too long a name")


def _max_bytes(name: str) -> int:
    if name == MANIFEST:
        return MAX_MANIFEST_BYTES
    if name == DYNAMIC:
        return MAX_DYNAMIC_BYTES
    is_of_store = name == SHARED or name.startswith(POLICIES)
    return MAX_FILE_BYTES if is_of_store else address_lists.MAX_BYTES


def _backup(contents: dict[str, bytes]) -> Backup:
    """The backup of these members; raises ``ValueError`` or ``InvalidInput``."""
    if MANIFEST not in contents:
        raise ValueError(f"it has no {MANIFEST}")
    manifest = _manifest(contents.pop(MANIFEST))
    listed = {
        name: text(digest, "a digest")
        for name, digest in members(manifest["members"], "the members").items()
    }
    for name in sorted(listed.keys() ^ contents.keys()):
        where = "manifest names" if name in listed else "archive holds"
        raise ValueError(f"only its {where} {quote(name)}")
    for name, content in contents.items():
        if _digest(content) != listed[name]:
            raise ValueError(f"its member {quote(name)} is damaged: its checksum is another's")
    dynamic = _dynamic(contents.pop(DYNAMIC, b"[]"))
    shared = contents.pop(SHARED, None)
    policies = {
        name: _text(name, content) for name, content in contents.items() if _POLICY.fullmatch(name)
    }
    assigned = manifest["assigned"]
    if assigned is not None and text(assigned, "the assigned policy") not in policies:
        raise ValueError("the policy that is assigned in it is not there")
    feeds = members(manifest["feeds"], "the feeds")
    names = {name.partition("/")[2] for name in contents.keys() - policies.keys()}
    if missing := feeds.keys() - names:
        raise ValueError(f"its list {quote(min(missing))} has no entries")
    lists = {name: _parts(name, contents, feeds) for name in sorted(names)}
    path = None if assigned is None else text(assigned, "the assigned policy")
    of_all = None if shared is None else _text(SHARED, shared)
    return Backup(policies, path, lists, dynamic, of_all)


def _dynamic(content: bytes) -> tuple[RuleText, ...]:
    rules = {}
    for given in items(decode(content), "the dynamic rules"):
        facts = members(given, "a dynamic rule", _OF_RULE)
        name = text(facts["name"], "its name")
        check_name("rule", name)
        if name in rules:
            raise ValueError(f"two dynamic rules in it are called {quote(name)}")
        filters = tuple(text(each, "a filter") for each in items(facts["filters"], "the filters"))
        interface, when = (
            None if facts[key] is None else text(facts[key], key) for key in ("interface", "when")
        )
        end = facts["ends"]
        ends = None if end is None else integer(end, "the end", 0, MAX_MOMENT)
        action = text(facts["action"], "the action")
        rules[name] = RuleText(name, action, filters, interface, when, ends)
    return tuple(rules.values())


def _manifest(content: bytes) -> dict[str, object]:
    manifest = members(decode(content), "the manifest")
    version = manifest.get(_FORM)
    if type(version) is not int:
        raise ValueError("its manifest is none of a backup")
    if version != VERSION:
        raise ValueError(
            f"another version of ipsecd made it: its form is {version}, and this version reads "
            f"{VERSION}"
        )
    facts = members(manifest, "the manifest", _KEYS)
    if text(facts.pop("checksum"), "the checksum") != checksum_of(facts):
        raise ValueError("its manifest is damaged: its checksum is another's")
    return facts


def checksum_of(manifest: Mapping[str, object]) -> str:
    """The SHA-256 of all else that a manifest says."""
    return _digest(json.dumps(manifest, sort_keys=True).encode())


def _parts(name: str, contents: Mapping[str, bytes], feeds: Mapping[str, object]) -> ListParts:
    came, added = contents.get(f"{FEEDS}/{name}"), contents.get(f"{ADDED}/{name}")
    if (came is None) != (name not in feeds):
        raise ValueError(f"its list {quote(name)} has a URL without entries, or entries without")
    feed = None if came is None else _feed(name, feeds[name], came)
    entries = PersistentMap() if added is None else _added(name, added)
    counted = f"{COUNTED}/{name}" in contents
    return ListParts(contents.get(f"{LISTS}/{name}"), feed, entries, counted)


def _feed(name: str, given: object, content: bytes) -> Feed:
    facts = members(given, f"list {name}", ("url", "every_s", "form"))
    url, form = text(facts["url"], "the URL"), text(facts["form"], "the form")
    scheme = url.partition(":")[0]
    if scheme not in {"https", "http", "file"} or len(url) > MAX_URL or not url.isprintable():
        raise ValueError(f"its list {quote(name)} comes from no URL")
    if form:
        check_format(form)
    every_s = integer(facts["every_s"], "the interval", LEAST_EVERY_S, MAX_EVERY_S)
    addresses = AddressList()
    if content:
        read = address_lists.read_list(content, f"{FEEDS}/{name}", "plain")
        if read.malformed:
            raise ValueError(f"its member {quote(f'{FEEDS}/{name}')} has malformed lines")
        addresses = read.addresses
    return Feed(url, every_s, form, addresses=addresses)


def _added(name: str, content: bytes) -> Entries:
    entries: Entries = PersistentMap()
    for number, line in enumerate(_text(f"{ADDED}/{name}", content).splitlines(), 1):
        entry, _, end_text = line.partition(" ")
        try:
            end = inf if end_text == _NEVER else float(end_text)
            ((form, packed),) = entries_in(entry)
        except ValueError as error:
            raise ValueError(
                f"line {number:,} of {ADDED}/{name} is no entry with an end"
            ) from error
        if end_text != _NEVER and not isfinite(end):
            raise ValueError(f"line {number:,} of {ADDED}/{name} has no end")
        entries = entries.with_item(key_of(form, packed), end)
    if set(keys_of(list_of(entries))) != set(entries):
        raise ValueError(f"an entry of {ADDED}/{name} has bits set behind its prefix length")
    return entries


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"its member {quote(name)} is not UTF-8 text") from error


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _end_text(end: float) -> str:
    return _NEVER if end == inf else repr(end)


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()
