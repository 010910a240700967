"""Tests of what somebody gets a host to do who is not whoever publishes its policy: nothing.

Every attack is on a host that has taken a policy, twice: on the fetcher, by what the web server
gives, and on the daemon, by a fetcher that is the attacker and hands all of that over.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, Root, TargetFile, Targets, Timestamp
from tuf.ngclient._internal import trusted_metadata_set

from ipsecd_domain import trusted as trusted_module
from ipsecd_domain.errors import DomainError, Expired, Missing, NotFetched, NotTrusted
from ipsecd_domain.layout import unhashed
from ipsecd_domain.repository.content import expiry, sign
from ipsecd_domain.repository.keys import Keys
from ipsecd_domain.repository.publishing import withdraw
from ipsecd_domain.repository.rotation import keygen, sign_anew
from ipsecd_domain.selection import Host
from ipsecd_domain.verify import answer
from tests.domain.fleets import WEB, WORM, Fleet, Member, now

CHANGED = WEB.replace(b"23", b"24")
EVIL = b"policy: Evil\nrules: []\n"


@pytest.fixture
def old(fleet: Fleet, tmp_path: Path) -> Fleet:
    """The repository as it was before the host took its policy from ``fleet``."""
    fleet.publish(WORM)
    fleet.publish(WORM, "db")
    fleet.publish(WEB, "web")
    copy = Fleet(tmp_path / "old", fleet.keys)
    shutil.copytree(fleet.repository, copy.repository)
    return copy


@pytest.fixture
def host(old: Fleet, fleet: Fleet) -> Member:
    """A host that has taken its policy."""
    fleet.publish(CHANGED, "web")
    host = Member.of(fleet, "web1", "web")
    assert host.look(old.repository).text == WEB.decode()
    assert host.look(fleet.repository).text == CHANGED.decode()
    return host


def handed_over(host: Member, repository: Path) -> dict[str, Any]:
    """What the daemon's child says when a fetcher hands over a whole repository."""
    metadata, targets = repository / "metadata", repository / "targets"
    text = json.dumps(
        {
            "trusted": dict(host.trusted),
            "host": {"name": host.name, "groups": [*host.groups], "labels": dict(host.labels)},
            "bundle": {
                "metadata": {path.name: path.read_text() for path in metadata.iterdir()},
                "targets": {
                    unhashed(str(path.relative_to(targets))): path.read_text()
                    for path in targets.rglob("*.*")
                },
            },
        }
    )
    return answer(text.encode())


def refused(
    host: Member,
    repository: Path,
    error: type[DomainError] | tuple[type[DomainError], ...],
    reason: str = ".",
) -> None:
    """The host refuses what a repository gives, and trusts afterwards what it did before."""
    before = dict(host.trusted)
    with pytest.raises(error, match=reason) as told:
        host.look(repository)
    assert told.value.hint
    said = handed_over(host, repository)
    assert said["outcome"] == "refused"
    assert said["reason"]
    assert said["hint"]
    assert (said["trusted"], host.trusted) == (before, before)


def file_of(repository: Path, role: str) -> Path:
    """The newest file of a role."""
    metadata = repository / "metadata"
    if role == "timestamp":
        return metadata / "timestamp.json"
    return max(metadata.glob(f"*.{role}.json"), key=lambda path: int(path.name.partition(".")[0]))


def signed_by(fleet: Fleet, metadata: Metadata[Any], *names: str) -> bytes:
    """`metadata` with the signatures of these keys alone."""
    metadata.signatures.clear()
    keys = Keys(fleet.keys)
    stolen = {key.public.keyid for name in names for key in keys.of(ids_of(keys, name))}
    sign(metadata, stolen, keys)
    return metadata.to_bytes()


def ids_of(keys: Keys, name: str) -> list[str]:
    return [keyid for keyid, key in keys._by_id.items() if key.name == name]


def forged(fleet: Fleet, keys: tuple[str, ...], change: Callable[[Targets], None]) -> None:
    """Put a group's metadata into a repository as somebody would who has these keys."""
    repository = fleet.repository
    web = Metadata[Targets].from_file(str(file_of(repository, "group-web")))
    change(web.signed)
    web.signed.version += 1
    version = web.signed.version
    content = signed_by(fleet, web, *keys)
    (repository / f"metadata/{version}.group-web.json").write_bytes(content)
    publish_by_force(fleet, keys, {"group-web.json": MetaFile(version)})


def publish_by_force(fleet: Fleet, keys: tuple[str, ...], meta: dict[str, MetaFile]) -> None:
    """Sign a new snapshot and timestamp, with those of these keys that are theirs."""
    repository = fleet.repository
    snapshot = Metadata[Any].from_file(str(file_of(repository, "snapshot")))
    snapshot.signed.meta |= meta
    snapshot.signed.version += 1
    version = snapshot.signed.version
    content = signed_by(fleet, snapshot, *keys)
    (repository / f"metadata/{version}.snapshot.json").write_bytes(content)
    timestamp = Metadata[Timestamp].from_file(str(file_of(repository, "timestamp")))
    timestamp.signed.snapshot_meta = MetaFile(version)
    timestamp.signed.version += 1
    content = signed_by(fleet, timestamp, *keys)
    (repository / "metadata/timestamp.json").write_bytes(content)


def put_target(fleet: Fleet, signed: Targets, path: str, content: bytes) -> None:
    """Name a file in metadata, and put it where it is looked for."""
    digest = hashlib.sha256(content).hexdigest()
    directory, _, name = path.rpartition("/")
    file = fleet.repository / "targets" / directory / f"{digest}.{name}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    signed.targets[path] = TargetFile(len(content), {"sha256": digest}, path)


def evil_index(path: str) -> bytes:
    offer = {"path": path, "policy": "Evil", "published": "2100-01-01T00:00:00Z"}
    return json.dumps({"format": 1, "withdrawn": False, "policies": [offer]}).encode()


ROLES = ("timestamp", "snapshot", "targets", "group-web")


@pytest.mark.parametrize("role", ROLES)
def test_unsigned_metadata(fleet: Fleet, host: Member, role: str) -> None:
    """A file without signatures, in its own place."""
    fleet.publish(WEB)
    fleet.publish(WEB, "web")
    file = file_of(fleet.repository, role)
    file.write_bytes(signed_by(fleet, Metadata[Any].from_file(str(file))))
    refused(host, fleet.repository, NotTrusted)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("key", ["timestamp", "snapshot", "targets", "group-web", "group-db"])
def test_the_key_of_another_role(fleet: Fleet, host: Member, role: str, key: str) -> None:
    """It signs nothing but what is its own."""
    fleet.publish(WEB)
    fleet.publish(WEB, "web")
    file = file_of(fleet.repository, role)
    content = signed_by(fleet, Metadata[Any].from_file(str(file)), key)
    if role == key:
        assert content == file.read_bytes()
        return
    file.write_bytes(content)
    refused(host, fleet.repository, NotTrusted)


@pytest.mark.parametrize("role", ROLES)
def test_truncated_metadata(fleet: Fleet, host: Member, role: str) -> None:
    """Half of a file, and nothing of it."""
    fleet.publish(WEB)
    fleet.publish(WEB, "web")
    file = file_of(fleet.repository, role)
    whole = file.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 1, 0):
        file.write_bytes(whole[:length])
        refused(host, fleet.repository, NotTrusted)


@pytest.mark.parametrize("name", ["index.json", "web.yaml"])
def test_changed_and_truncated_targets(fleet: Fleet, host: Member, name: str) -> None:
    """A document or an index that is not the one that was signed."""
    fleet.publish(WEB, "web")
    kept = Metadata[Targets].from_file(str(file_of(fleet.repository, "group-web")))
    digest = kept.signed.targets[f"group/web/{name}"].hashes["sha256"]
    file = fleet.repository / f"targets/group/web/{digest}.{name}"
    whole = file.read_bytes()
    for content in (
        whole[:-1],
        b"",
        whole.replace(b"2", b"3"),
        whole + b"\n",
        b"\xff" * len(whole),
    ):
        file.write_bytes(content)
        before = dict(host.trusted)
        with pytest.raises((NotTrusted, NotFetched)):
            host.look(fleet.repository)
        assert host.trusted == before


def test_a_whole_older_repository(old: Fleet, host: Member) -> None:
    """Everything in it is signed; it is older than what the host has."""
    refused(host, old.repository, NotTrusted, "went back")


def test_an_older_timestamp(old: Fleet, fleet: Fleet, host: Member) -> None:
    """In front of a repository that is up to date."""
    shutil.copy(file_of(old.repository, "timestamp"), file_of(fleet.repository, "timestamp"))
    refused(host, fleet.repository, NotTrusted, "went back")


@pytest.mark.parametrize("role", ["targets", "group-web"])
def test_an_older_role_in_a_new_snapshot(fleet: Fleet, host: Member, role: str) -> None:
    """Who has stolen the keys of snapshot and timestamp still cannot go back."""
    publish_by_force(fleet, ("snapshot", "timestamp"), {f"{role}.json": MetaFile(1)})
    refused(host, fleet.repository, NotTrusted)


@pytest.mark.parametrize("role", ["snapshot", "targets", "group-web"])
def test_files_of_two_versions(fleet: Fleet, host: Member, role: str) -> None:
    """Mix and match: an older file under the name of the new one."""
    older = file_of(fleet.repository, role).read_bytes()
    fleet.publish(WEB)
    fleet.publish(WEB, "web")
    file_of(fleet.repository, role).write_bytes(older)
    refused(host, fleet.repository, NotTrusted)


def test_roles_that_change_places(fleet: Fleet, host: Member) -> None:
    """What one group has signed is nothing for another one."""
    fleet.publish(WEB, "web")
    shutil.copy(file_of(fleet.repository, "group-db"), file_of(fleet.repository, "group-web"))
    refused(host, fleet.repository, NotTrusted)


def test_a_freeze(fleet: Fleet, host: Member, at: Callable[[datetime], None]) -> None:
    """Who gives the same for ever is believed until it expires, and then not: policies stay."""
    at(now() + timedelta(days=6))
    assert host.look(fleet.repository).text == CHANGED.decode()
    at(now() + timedelta(days=8))
    refused(host, fleet.repository, Expired, "too old")
    sign_anew(fleet.repository, fleet.keys, now() + timedelta(days=8))
    assert host.look(fleet.repository).text == CHANGED.decode()


@pytest.mark.parametrize("role", ["snapshot", "targets", "group-web", "root"])
def test_a_freeze_of_one_role(
    fleet: Fleet, host: Member, at: Callable[[datetime], None], role: str
) -> None:
    """A timestamp that is renewed does not help what lies behind it."""
    life = {"snapshot": 31}.get(role, 366)
    later = now() + timedelta(days=life)
    publish_at(fleet, later)
    if role == "root":
        for path in fleet.keys.glob("root*.pem"):
            path.rename(path.with_suffix(".away"))
        sign_anew(fleet.repository, fleet.keys, later)
    at(later)
    refused(host, fleet.repository, Expired, "too old")


def publish_at(fleet: Fleet, moment: datetime) -> None:
    """Renew nothing but the timestamp."""
    timestamp = Metadata[Timestamp].from_file(str(file_of(fleet.repository, "timestamp")))
    timestamp.signed.version += 1
    timestamp.signed.expires = expiry("timestamp", moment)
    content = signed_by(fleet, timestamp, "timestamp")
    file_of(fleet.repository, "timestamp").write_bytes(content)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Sets the clock of the host, and of nobody else."""

    def set_clock(moment: datetime) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return moment if tz else moment.replace(tzinfo=None)

            @classmethod
            def utcnow(cls) -> Any:
                return moment.replace(tzinfo=None)

        own: Any = trusted_metadata_set.datetime
        # Newer versions of the library import the module, and older ones the class.
        its: Any = Clock
        if not isinstance(own, type):
            its = SimpleNamespace(datetime=Clock, timezone=own.timezone)
        monkeypatch.setattr(trusted_metadata_set, "datetime", its)
        monkeypatch.setattr(trusted_module, "datetime", Clock)

    return set_clock


def test_a_clock_in_1970(
    old: Fleet, fleet: Fleet, host: Member, at: Callable[[datetime], None]
) -> None:
    """Nothing has expired then; what is older than what the host has is refused all the same."""
    at(datetime(1970, 1, 1, tzinfo=UTC))
    refused(host, old.repository, NotTrusted, "went back")
    fleet.publish(WEB, "web")
    assert host.look(fleet.repository).text == WEB.decode()


def test_a_clock_in_2100(fleet: Fleet, host: Member, at: Callable[[datetime], None]) -> None:
    """Everything has expired then; the host keeps what it has, and goes on when its clock does."""
    fleet.publish(WEB, "web")
    at(datetime(2100, 1, 1, tzinfo=UTC))
    refused(host, fleet.repository, Expired, "too old")
    with pytest.raises(Expired):
        fleet.root()
    at(now())
    assert host.look(fleet.repository).text == WEB.decode()


def test_an_old_repository_after_a_rotation(old: Fleet, fleet: Fleet, host: Member) -> None:
    """Who has kept it, and has stolen the key that was replaced, signs for nobody any more."""
    stolen = fleet.keys.parent / "stolen"
    shutil.copytree(fleet.keys, stolen)
    keygen(fleet.repository, fleet.keys, ["timestamp", "snapshot"], now())
    assert host.look(fleet.repository).versions["root.json"] == 2
    refused(host, old.repository, NotTrusted, "not signed")
    thief = Fleet(old.repository, stolen)
    for _ in range(5):
        publish_by_force(thief, ("timestamp", "snapshot"), {})
    refused(host, old.repository, NotTrusted, "not signed")


@pytest.mark.parametrize("names", [("root1",), ("targets", "snapshot", "timestamp"), ()])
def test_a_root_that_too_few_have_signed(
    fleet: Fleet, host: Member, names: tuple[str, ...]
) -> None:
    """One root key is not enough, nor are all the others together."""
    root = Metadata[Root].from_file(str(file_of(fleet.repository, "root")))
    root.signed.version += 1
    root.signed.roles["root"].threshold = 1
    content = signed_by(fleet, root, *names)
    (fleet.repository / "metadata/2.root.json").write_bytes(content)
    refused(host, fleet.repository, NotTrusted)


def test_another_fleet(host: Member, tmp_path: Path) -> None:
    """A repository with keys of its own is nothing for this host."""
    (tmp_path / "other").mkdir()
    other = Fleet.made_in(tmp_path / "other")
    for _ in range(8):
        other.publish(EVIL)
    other.publish(EVIL, "web")
    refused(host, other.repository, NotTrusted, "not signed")
    keygen(other.repository, other.keys, ["root1"], now())
    refused(host, other.repository, NotTrusted)


def test_a_stolen_online_key_signs_no_policy(fleet: Fleet, host: Member) -> None:
    """Who has the keys of timestamp and snapshot decides nothing but what is the newest."""
    put = ("snapshot", "timestamp")
    forged(fleet, put, lambda web: put_target(fleet, web, "group/web/web.yaml", EVIL))
    refused(host, fleet.repository, NotTrusted, "not signed")


def test_a_stolen_key_of_a_group(fleet: Fleet, host: Member) -> None:
    """It signs for its group alone, whatever paths it names."""
    thief = ("group-web", "snapshot", "timestamp")

    def act(web: Targets) -> None:
        for path in ("all/index.json", "group/db/index.json"):
            put_target(fleet, web, path, evil_index(f"{path.rpartition('/')[0]}/evil.yaml"))
        for path in ("all/evil.yaml", "group/db/evil.yaml"):
            put_target(fleet, web, path, EVIL)

    forged(fleet, thief, act)
    assert Member.of(fleet, "h", "db", "web").look(fleet.repository).policy == "Web"
    assert Member.of(fleet, "h", "db").look(fleet.repository).policy == "Worm"
    assert Member.of(fleet, "h").look(fleet.repository).policy == "Worm"
    assert host.look(fleet.repository).text == CHANGED.decode()


@pytest.mark.parametrize("path", ["all/worm.yaml", "group/db/worm.yaml", "../web.yaml"])
def test_a_policy_of_another_group(fleet: Fleet, host: Member, path: str) -> None:
    """An index that names what lies with somebody else, valid as that is, is none."""
    index = evil_index(path)
    thief = ("group-web", "snapshot", "timestamp")
    forged(fleet, thief, lambda web: put_target(fleet, web, "group/web/index.json", index))
    refused(host, fleet.repository, NotTrusted, "index of the repository")


def test_a_policy_that_nobody_has_signed(fleet: Fleet, host: Member) -> None:
    """An index names a path that its role has not signed."""
    index = evil_index("group/web/other.yaml")
    thief = ("group-web", "snapshot", "timestamp")
    forged(fleet, thief, lambda web: put_target(fleet, web, "group/web/index.json", index))
    refused(host, fleet.repository, NotTrusted, "nobody has signed it")


def test_a_policy_that_is_moved(fleet: Fleet, host: Member) -> None:
    """The files of another group's policy under the names of this one's."""
    fleet.publish(WEB, "web")
    targets = fleet.repository / "targets/group"
    for path in (targets / "web").iterdir():
        kind = path.name.partition(".")[2].replace("web", "worm")
        path.write_bytes(next((targets / "db").glob(f"*.{kind}")).read_bytes())
    refused(host, fleet.repository, (NotTrusted, NotFetched))


@pytest.mark.parametrize("name", ["metadata/timestamp.json", "metadata/2.root.json", "index"])
def test_a_file_of_a_hundred_megabytes(fleet: Fleet, host: Member, name: str) -> None:
    """No more of it is read than may be."""
    fleet.publish(WEB, "web")
    file = fleet.repository / name
    if name == "index":
        [file, *_] = (fleet.repository / "targets/group/web").glob("*.index.json")
        for path in (fleet.repository / "targets/group/web").glob("*.index.json"):
            path.write_bytes(b" " * (100 << 20))
    else:
        file.write_bytes(b" " * (100 << 20))
    asked: list[int] = []

    def fetch(path: str, most: int) -> bytes:
        asked.append(most)
        try:
            with (fleet.repository / path).open("rb") as opened:
                return opened.read(most + 1)
        except FileNotFoundError as error:
            raise Missing(path, "there is none") from error

    before = dict(host.trusted)
    with pytest.raises(NotTrusted, match="at most"):
        trusted_module.refresh(host.trusted, Host("web1", ("web",)), fetch)
    assert max(asked) <= 4 << 20
    assert host.trusted == before


@pytest.mark.parametrize("path", ["group/web/index.json", "group/web/web.yaml"])
def test_a_hundred_megabytes_that_are_signed(fleet: Fleet, host: Member, path: str) -> None:
    """Who has the key of a group cannot fill the memory of its hosts: it is not even fetched."""

    def act(web: Targets) -> None:
        web.targets[path] = TargetFile(100 << 20, {"sha256": "ab" * 32}, path)

    forged(fleet, ("group-web", "snapshot", "timestamp"), act)
    refused(host, fleet.repository, NotTrusted, "at most")


def test_half_a_repository(fleet: Fleet, host: Member, tmp_path: Path) -> None:
    """Copied file by file in any order: hosts have the old policy, or the new one."""
    chance = random.Random(7)
    before = tmp_path / "before"
    shutil.copytree(fleet.repository, before)
    keygen(fleet.repository, fleet.keys, ["snapshot"], now())
    fleet.publish(WEB, "web")
    paths = [path for path in fleet.repository.rglob("*.*") if path.is_file()]
    kinds: set[object] = set()
    for number in range(12):
        chance.shuffle(paths)
        copy = tmp_path / f"copy{number}"
        shutil.copytree(before, copy)
        member = Member(host.name, host.groups, (), host.trusted)
        for path in paths:
            target = copy / path.relative_to(fleet.repository)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            try:
                text = member.look(copy).text
            except (NotFetched, NotTrusted) as error:
                kinds.add(type(error))
            else:
                assert text in (WEB.decode(), CHANGED.decode())
                kinds.add(text)
        assert text == WEB.decode()
    assert {NotTrusted, Missing, WEB.decode(), CHANGED.decode()} == kinds


def test_a_repository_that_is_gone(fleet: Fleet, host: Member) -> None:
    """Absence withdraws nothing."""
    shutil.rmtree(fleet.repository)
    before = dict(host.trusted)
    with pytest.raises(Missing):
        host.look(fleet.repository)
    assert host.trusted == before


def test_a_withdrawal_by_somebody_else(fleet: Fleet, host: Member) -> None:
    """It has to be signed like a policy."""
    forged(
        fleet,
        ("snapshot", "timestamp"),
        lambda web: put_target(
            fleet,
            web,
            "group/web/index.json",
            b'{"format": 1, "withdrawn": true, "policies": []}',
        ),
    )
    refused(host, fleet.repository, NotTrusted, "not signed")


def test_a_version_that_is_none(fleet: Fleet, host: Member) -> None:
    """Who has stolen the key of timestamp cannot have a host say numbers that nobody can read."""
    timestamp = Metadata[Timestamp].from_file(str(file_of(fleet.repository, "timestamp")))
    for version in (trusted_module.MAX_VERSION + 1, 10**300):
        timestamp.signed.version = version
        content = signed_by(fleet, timestamp, "timestamp")
        file_of(fleet.repository, "timestamp").write_bytes(content)
        refused(host, fleet.repository, NotTrusted, "no versions")


def test_recovery_from_stolen_online_keys(fleet: Fleet, host: Member, tmp_path: Path) -> None:
    """The thief has gone as far ahead as there are numbers; new keys start where we are.

    As docs/domain.md has it: put the repository back, and replace the keys, all at once.
    """
    kept = tmp_path / "kept"
    shutil.copytree(fleet.repository, kept)
    far = trusted_module.MAX_VERSION
    web = Metadata[Targets].from_file(str(file_of(fleet.repository, "group-web")))
    web.signed.version = far
    put_target(fleet, web.signed, "group/web/web.yaml", EVIL)
    put_target(fleet, web.signed, "group/web/index.json", evil_index("group/web/web.yaml"))
    thief = ("group-web", "snapshot", "timestamp")
    (fleet.repository / f"metadata/{far}.group-web.json").write_bytes(signed_by(fleet, web, *thief))
    for role in ("snapshot", "timestamp"):
        signed = Metadata[Any].from_file(str(file_of(fleet.repository, role)))
        signed.signed.version = far
        if role == "snapshot":
            signed.signed.meta["group-web.json"] = MetaFile(far)
            name = f"{far}.snapshot.json"
        else:
            signed.signed.snapshot_meta = MetaFile(far)
            name = "timestamp.json"
        (fleet.repository / "metadata" / name).write_bytes(signed_by(fleet, signed, *thief))
    assert host.look(fleet.repository).policy == "Evil"
    assert host.trusted["timestamp.json"].count(str(far))

    shutil.rmtree(fleet.repository)
    shutil.copytree(kept, fleet.repository)
    refused(host, fleet.repository, NotTrusted, "went back")
    keygen(fleet.repository, fleet.keys, ["timestamp", "snapshot", "group-web"], now())
    taken = host.look(fleet.repository)
    assert (taken.text, taken.versions["root.json"]) == (CHANGED.decode(), 2)
    assert taken.version < 100
    withdraw(fleet.repository, fleet.keys, now(), group="web")
    assert host.look(fleet.repository).policy == "Worm"
