"""The archive of a backup: what is in it comes out again, and nothing else is taken for one."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from math import inf

import pytest

from ipsecd.errors import InvalidInput, IpsecdError, LimitExceeded
from ipsecd.language.address_lists import read_addresses
from ipsecd.model.persistent import PersistentMap
from ipsecd.sources import backups
from ipsecd.sources.backups import MANIFEST, Backup, ListParts, RuleText, checksum_of, pack, unpack
from ipsecd.sources.list_files import Feed
from ipsecd.sources.list_journal import keys_of

WEB = 'policy: Web  # mine\nrules: [{rule: R, action: block, filters: ["*=0:80:TCP"]}]\n'


def entries(**ends: float) -> PersistentMap[bytes, float]:
    added: PersistentMap[bytes, float] = PersistentMap()
    for text, end in ends.items():
        for key in keys_of(read_addresses([text.replace("_", ".")])):
            added = added.with_item(key, end)
    return added


FEED = Feed(
    "https://feeds.example/drop?key=7", 3600, "plain", addresses=read_addresses(["10.0.0.0/8"])
)
FULL = Backup(
    {"policies/web.yaml": WEB, "policies/ö h.yaml": "policy: Ö\n"},
    "policies/web.yaml",
    {
        "drop": ListParts(b"# \xff comment\n192.0.2.1\n", FEED),
        "bans": ListParts(added=entries(**{"192_0_2_9": inf, "192_0_2_8": 4_000_000_000.25})),
        "file": ListParts(b""),
    },
    (
        RuleText("ban 'ö'", "block", ("203.0.113.7=0",), None, None, 4_000_000_000),
        RuleText("ssh", "permit", ("*=0:22:TCP", "@drop=0"), "eth0", "opening", None),
    ),
)


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        read = {member.name: tar.extractfile(member) for member in tar}
    return {name: file.read() for name, file in read.items() if file}


def sealed(manifest: dict[str, object]) -> bytes:
    """A manifest with its checksum."""
    facts = {key: value for key, value in manifest.items() if key != "checksum"}
    return json.dumps({**facts, "checksum": checksum_of(facts)}).encode()


def archive_of(contents: dict[str, bytes], *, signed: bool = True) -> bytes:
    """An archive of these members, with the checksums of what they hold if it is `signed`."""
    contents = dict(contents)
    if signed:
        manifest = json.loads(contents[MANIFEST])
        manifest["members"] = {
            name: sha256(content).hexdigest()
            for name, content in contents.items()
            if name != MANIFEST
        }
        contents[MANIFEST] = sealed(manifest)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_what_goes_in_comes_out() -> None:
    """Byte by byte, with ends, comments and URLs; the same content makes the same archive."""
    archive = pack(FULL)
    assert unpack(archive, "x") == FULL
    assert pack(unpack(archive, "x")) == archive
    assert unpack(pack(Backup({}, None, {})), "x") == Backup({}, None, {})
    assert members(archive)["policies/web.yaml"] == WEB.encode()


def with_manifest(**changed: object) -> bytes:
    contents = members(pack(FULL))
    contents[MANIFEST] = sealed({**json.loads(contents[MANIFEST]), **changed})
    return archive_of(contents, signed=False)


def with_member(name: str, content: bytes = b"") -> bytes:
    return archive_of({**members(pack(FULL)), name: content})


def with_special(kind: bytes, target: str = "/etc/passwd") -> bytes:
    packed = io.BytesIO(pack(FULL))
    with tarfile.open(fileobj=packed, mode="a") as tar:
        member = tarfile.TarInfo("policies/evil.yaml")
        member.type, member.linkname = kind, target
        tar.addfile(member)
    return packed.getvalue()


def compressed() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(MANIFEST)
        member.size = 1 << 20
        tar.addfile(member, io.BytesIO(bytes(1 << 20)))
    return packed.getvalue()


def rule(**given: object) -> dict[str, object]:
    facts = {"name": "r", "action": "block", "filters": ["10.0.0.1=0"], "interface": None}
    return {**facts, "when": None, "ends": None, **given}


def damaged(name: str) -> bytes:
    return archive_of({**members(pack(FULL)), name: b"other"}, signed=False)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "no tar archive"),
    "a text": (lambda: b"policy: Web\n" * 99, "no tar archive"),
    "compressed": (compressed, "no tar archive"),
    "no manifest": (lambda: archive_of({"policies/a.yaml": b""}, signed=False), "has no manifest"),
    "a later version": (lambda: with_manifest(**{"ipsecd-backup": 2}), "another version"),
    "no version": (lambda: with_manifest(**{"ipsecd-backup": "1"}), "none of a backup"),
    "another key": (lambda: with_manifest(more=1), "does not have the keys"),
    "an assigned policy that is not there": (
        lambda: with_manifest(assigned="policies/b.yaml"),
        "assigned in it is not there",
    ),
    "a damaged manifest": (
        lambda: pack(FULL).replace(b"https://feeds.example", b"https://heeds.example"),
        "its manifest is damaged",
    ),
    "a damaged member": (lambda: damaged("policies/web.yaml"), "checksum is another's"),
    "a missing member": (
        lambda: archive_of(
            {k: v for k, v in members(pack(FULL)).items() if k != "lists/drop"}, signed=False
        ),
        "only its manifest names 'lists/drop'",
    ),
    "a member too many": (
        lambda: archive_of({**members(pack(FULL)), "lists/x": b""}, signed=False),
        "only its archive holds 'lists/x'",
    ),
    "cut off": (lambda: pack(FULL)[:3000], "is no tar archive, or is damaged|ends too early|only"),
    "a path outside": (lambda: with_member("../../etc/shadow"), "is called"),
    "a path below": (lambda: with_member("policies/../../x.yaml"), "is called"),
    "an absolute path": (lambda: with_member("/etc/ipsecd/policies/x.yaml"), "is called"),
    "a hidden file": (lambda: with_member("policies/.x.yaml"), "is called"),
    "a file of another kind": (lambda: with_member("policies/x.sh"), "is called"),
    "a line break in a name": (lambda: with_member("policies/a\nb.yaml"), "is called"),
    "a name too long": (lambda: with_member(f"policies/{'x' * 250}.yaml"), "too long a name"),
    "a list outside": (lambda: with_member("lists/../x"), "cannot name a list"),
    "a list of the domain": (lambda: with_member("lists/domain:x"), "cannot name a list"),
    "a symbolic link": (lambda: with_special(tarfile.SYMTYPE), "not a regular file"),
    "a hard link": (lambda: with_special(tarfile.LNKTYPE, MANIFEST), "not a regular file"),
    "a device": (lambda: with_special(tarfile.CHRTYPE), "not a regular file"),
    "a directory": (lambda: with_special(tarfile.DIRTYPE), "not a regular file"),
    "a sparse file": (lambda: with_special(tarfile.GNUTYPE_SPARSE), "not a regular|no tar"),
    "a policy that is no text": (lambda: with_member("policies/x.yaml", b"\xff"), "not UTF-8"),
    "a feed without a URL": (lambda: with_member("feeds/bans"), "URL without entries"),
    "a URL without entries": (
        lambda: with_manifest(feeds={"x": {"url": "https://x", "every_s": 60, "form": ""}}),
        "has no entries",
    ),
    "a URL that is none": (
        lambda: with_manifest(feeds={"drop": {"url": "gopher://x", "every_s": 60, "form": ""}}),
        "comes from no URL",
    ),
    "an interval of nothing": (
        lambda: with_manifest(feeds={"drop": {"url": "https://x", "every_s": 0, "form": ""}}),
        "the interval",
    ),
    "a feed that is none": (
        lambda: with_member("feeds/drop", b"nonsense\n10.0.0.1\n"),
        "malformed",
    ),
    "an entry without an end": (lambda: with_member("added/bans", b"10.0.0.1\n"), "no entry with"),
    "an end that is none": (lambda: with_member("added/bans", b"10.0.0.1 nan\n"), "has no end"),
    "an entry that is none": (lambda: with_member("added/bans", b"x -\n"), "no entry with an end"),
    "an entry that is a range": (
        lambda: with_member("added/bans", b"10.0.0.1-10.0.0.9 -\n"),
        "no entry with an end",
    ),
    "two rules of one name": (
        lambda: with_member("dynamic.json", json.dumps([rule(), rule()]).encode()),
        "two dynamic rules",
    ),
    "a rule that is none": (lambda: with_member("dynamic.json", b"[7]"), "a dynamic rule"),
    "rules that are none": (lambda: with_member("dynamic.json", b"{}"), "the dynamic rules"),
    "a rule without a name": (
        lambda: with_member("dynamic.json", json.dumps([rule(name="")]).encode()),
        "cannot name a rule",
    ),
    "a rule that ends at no time": (
        lambda: with_member("dynamic.json", json.dumps([rule(ends="soon")]).encode()),
        "the end",
    ),
    "bits behind a prefix": (lambda: with_member("added/bans", b"10.0.0.1/8 -\n"), "bits set"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_backup_is_refused(name: str) -> None:
    """With the name of the file, and the reason."""
    make, reason = HOSTILE[name]
    with pytest.raises(InvalidInput, match=reason) as caught:
        unpack(make(), "host.tar")
    assert "'host.tar' is no backup that can be used" in caught.value.message
    assert caught.value.hint


def test_a_member_twice_is_refused() -> None:
    """Which of both is meant, nobody knows."""
    packed = io.BytesIO(pack(FULL))
    with tarfile.open(fileobj=packed, mode="a") as tar:
        tar.addfile(tarfile.TarInfo("policies/web.yaml"))
    with pytest.raises(InvalidInput, match="is there twice"):
        unpack(packed.getvalue(), "x")


def test_a_header_that_points_backwards_ends() -> None:
    """A size that is negative must not be read again and again."""
    archive = bytearray(pack(FULL))
    archive[124:136] = b"\xff" * 10 + b"\xf8\x00"
    with pytest.raises(InvalidInput):
        unpack(bytes(archive), "x")


def test_what_is_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes and members, when it is made and when it is read."""
    archive = pack(FULL)
    for limit, value in (("MAX_BYTES", 4096), ("MAX_MEMBERS", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(backups, limit, value)
            with pytest.raises(LimitExceeded):
                pack(FULL)
            with pytest.raises((LimitExceeded, InvalidInput), match=r"more than|larger than"):
                unpack(archive, "x")
    monkeypatch.setattr(backups, "MAX_FILE_BYTES", 10)
    with pytest.raises(InvalidInput, match="is too large"):
        unpack(archive, "x")


def test_any_bytes_are_a_backup_or_an_error() -> None:
    """Whatever a byte is changed to, and wherever it is cut off."""
    whole = replace(FULL, policies={"policies/web.yaml": WEB})
    archive = pack(whole)
    chance = random.Random(7)
    for _ in range(600):
        changed = bytearray(archive)
        for _ in range(chance.randrange(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        cut = bytes(changed[: chance.randrange(len(changed))] if chance.random() < 0.3 else changed)
        try:
            backup = unpack(cut, "x")
        except IpsecdError:
            continue
        # What a checksum does not cover says nothing: owners, times, and what fills blocks up.
        assert backup == whole
