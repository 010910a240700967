"""Fuzz target: any bytes are a backup that is packed and read again, or an error."""

from __future__ import annotations

import io
import json
import tarfile
from hashlib import sha256
from math import inf

from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.language.address_lists import read_addresses
from ipsecd.model.persistent import PersistentMap
from ipsecd.sources.backups import MANIFEST, Backup, ListParts, checksum_of, pack, unpack
from ipsecd.sources.list_files import Feed
from ipsecd.sources.list_journal import keys_of
from tests.fuzz.running import fuzz

_KEY = next(keys_of(read_addresses(["192.0.2.7"])))
_FEED = Feed("https://feeds.example/drop", 3600, "plain", addresses=read_addresses(["10.0.0.0/8"]))
_LIST = ListParts(b"10.0.0.1\n", _FEED, PersistentMap[bytes, float]().with_item(_KEY, inf))
FULL = pack(Backup({"policies/p.yaml": "policy: P\n"}, "policies/p.yaml", {"drop": _LIST}))
SEEDS = (
    FULL,
    FULL[:5120],
    pack(Backup({}, None, {})),
    b"added/drop\n192.0.2.7 4000000000.0\n2001:db8::/32 -\n",
    b"feeds/drop\n10.0.0.0/8\n",
    b"lists/drop\n# nothing\n",
    b"policies/p.yaml\npolicy: P\nrules: []\n",
    b"",
)


def fuzz_one(data: bytes) -> None:
    """Read `data` as an archive, and as a member of one whose checksums are right."""
    check(data)
    name, _, content = data.partition(b"\n")
    check(signed(name.decode("utf-8", "replace")[:80], content))


def check(archive: bytes) -> None:
    """Read an archive, and what is made of it again."""
    try:
        backup = unpack(archive, "fuzz")
    except (InvalidInput, LimitExceeded):
        return
    assert unpack(pack(backup), "fuzz") == backup


def signed(name: str, content: bytes) -> bytes:
    """An archive in which one member is another, as its manifest says."""
    with tarfile.open(fileobj=io.BytesIO(FULL)) as tar:
        read = {member.name: tar.extractfile(member) for member in tar}
    members = {key: file.read() for key, file in read.items() if file}
    manifest = json.loads(members.pop(MANIFEST))
    members[name] = content
    manifest["members"] = {key: sha256(value).hexdigest() for key, value in members.items()}
    del manifest["checksum"]
    sealed = json.dumps({**manifest, "checksum": checksum_of(manifest)}).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for key, value in ((MANIFEST, sealed), *members.items()):
            member = tarfile.TarInfo(key)
            member.size = len(value)
            tar.addfile(member, io.BytesIO(value))
    return packed.getvalue()


if __name__ == "__main__":
    fuzz(fuzz_one)
