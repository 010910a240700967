"""Restoring a backup: policies and lists as one change, once and again, and through every crash."""

from __future__ import annotations

import errno
import shutil
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import pytest

from ipsecd.config import Config, Directories
from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.engine.caller import Caller, ChangeOptions
from ipsecd.engine.feeds import SPREAD_S
from ipsecd.engine.this_boot import Boot
from ipsecd.errors import BackendFailed, InvalidInput, IpsecdError, Refused, StoreFailed
from ipsecd.language.address_lists import read_addresses
from ipsecd.language.documents import format_policy
from ipsecd.language.filters import format_filter
from ipsecd.language.list_entries import format_list
from ipsecd.model.persistent import PersistentMap
from ipsecd.sources.backups import Backup, ListParts, RuleText, pack, unpack
from ipsecd.sources.list_files import Feed
from ipsecd.sources.list_journal import keys_of
from tests.engine.effects import Crash, Fate, FatefulBackend, FatefulDisk

OLD = 'policy: P\nrules: [{rule: R, action: block, filters: ["@old=0", "@both=0"]}]\n'
NEW = 'policy: P  # mine\nrules: [{rule: R, action: block, filters: ["@new=0", "@both=0"]}]\n'
OTHER = "policy: Other\nrules: []\n"
FEED = Feed("https://feeds.example/x", 3600, addresses=read_addresses(["198.51.100.0/24"]))


def entries(*texts: str, end: float = inf) -> PersistentMap[bytes, float]:
    added: PersistentMap[bytes, float] = PersistentMap()
    for key in keys_of(read_addresses(texts)):
        added = added.with_item(key, end)
    return added


BACKUP = Backup(
    {"policies/new.yaml": NEW, "policies/other.yaml": OTHER},
    "policies/new.yaml",
    {
        "new": ListParts(b"# kept\n192.0.2.0/24\n", added=entries("203.0.113.9", end=4e9)),
        "both": ListParts(b"10.0.0.0/8\n"),
        "feed": ListParts(feed=FEED),
    },
)
ARCHIVE = pack(BACKUP)
WAITS = ChangeOptions(60.0)


class Desk:
    """A host in memory with a policy and two lists, and the disk that it is on."""

    def __init__(self, path: Path, fate: Fate | None = None, boot: str = "a" * 32) -> None:
        self.path = path
        self.boot = Boot(boot, lambda: 1000.0)
        self.fate = fate or Fate()
        self.engine = self.made()
        self.engine.start()

    def made(self) -> Engine:
        directories = Directories(self.path / "etc", self.path / "lib", self.path / "run")
        backend = FatefulBackend(self.fate)
        disk = FatefulDisk(self.fate)
        return Engine(Config(), directories, lambda: backend, disk, this_boot=self.boot)

    def filled(self) -> Desk:
        self.ask("ApplyPolicy", OLD.encode(), assign=True, dry_run=False)
        self.ask("CreateList", b"192.0.2.1\n", name="old", accept=True)
        self.ask("AddToList", name="old", addresses=["192.0.2.7"], accept=True)
        self.ask("CreateList", b"10.0.0.1\n", name="both", accept=True)
        return self

    def ask(self, method: str, content: bytes | None = None, **given: Any) -> dict[str, Any]:
        options = given.pop("options", ChangeOptions())
        caller = Caller(0, 1, "root", options)
        if method == "CreateList":
            given["source"] = "x"
        reply = Control(self.engine).call(method, given, "root", {}, content, caller=caller)
        return reply.get("outcome") or reply

    def restore(self, archive: bytes = ARCHIVE, **given: Any) -> dict[str, Any]:
        return self.ask("Restore", archive, **{"source": "host.tar", "dry_run": False, **given})

    def backup(self) -> bytes:
        return b64decode(self.ask("GetBackup")["archive"])

    def copied(self, path: Path, fate: Fate) -> Desk:
        """Another host that has the same files."""
        shutil.copytree(self.path, path, symlinks=True)
        return Desk(path, fate)

    def restarted(self) -> Desk:
        return Desk(self.path)

    def state(self) -> tuple[object, ...]:
        """What is in files, in memory and in force, without what was kept of an undone change."""
        etc = self.path / "etc"
        files = {
            str(file.relative_to(etc)): file.read_bytes()
            for folder in ("policies", "lists")
            for file in sorted((etc / folder).glob("[!.]*"))
            if ".unconfirmed-" not in file.name
        }
        link = etc / "assigned"
        stored = self.engine.kept_lists.store.lists
        lists = {
            name: (list(format_list(each.addresses)), dict(each.added), each.feed and each.feed.url)
            for name, each in stored.items()
        }
        assert {name: each.addresses for name, each in stored.items()} == dict(self.engine.lists)
        target = str(link.readlink()) if link.is_symlink() else None
        return files, target, lists, self.engine.observe().digest


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path).filled()


def test_all_is_as_in_the_backup_and_nothing_else(desk: Desk) -> None:
    """Every byte of every file, each end, and the URL; a restart finds the same."""
    outcome = desk.restore()
    assert outcome["changed"]
    assert outcome["changes"] == [
        "+ policy 'Other'",
        "policy 'P':",
        '- rule "R": @old=0',
        '+ rule "R": @new=0',
        "~ list 'both': 1 entry, 1 new, 1 gone",
        "+ list 'feed': 1 entry",
        "+ list 'new': 2 entries",
        "- list 'old'",
    ]
    assert unpack(desk.backup(), "x") == BACKUP
    assert desk.backup() == ARCHIVE
    again = desk.restarted()
    assert again.state() == desk.state()
    assert again.backup() == ARCHIVE
    assert not (desk.path / "lib/restoring").exists()


def test_the_second_time_nothing_changes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is written, nothing is told the kernel, and the history has no row of it."""
    desk.restore()
    rows = desk.ask("GetHistory")["rows"]
    desk.fate.set(0, Crash())
    monkeypatch.setattr(desk.engine.backend, "apply", None)
    for dry_run in (True, False):
        assert desk.restore(dry_run=dry_run)["changed"] is False
    assert desk.fate.count == 0
    assert desk.ask("GetHistory")["rows"] == rows


def test_a_dry_run_tells_the_truth_and_changes_nothing(desk: Desk) -> None:
    """The same lines as the change itself."""
    before = desk.state()
    told = desk.restore(dry_run=True)
    assert (told["changed"], desk.state()) == (True, before)
    assert desk.restore()["changes"] == told["changes"]


def test_a_backup_goes_there_and_back(desk: Desk) -> None:
    """What was before is restored as well."""
    mine, before = desk.backup(), desk.state()
    desk.restore()
    assert desk.restore(mine)["changed"]
    assert desk.state() == before
    assert desk.restarted().state() == before


def test_a_restore_is_one_row_of_the_history(desk: Desk) -> None:
    """With the policies and the lists in it, so that a rollback has the policies back."""
    desk.restore(options=ChangeOptions(message="moved"))
    row = desk.ask("GetHistory")["rows"][0]
    assert (row["source"], row["method"], row["message"]) == ("restore", "Restore", "moved")
    assert {each["name"] for each in row["lists"]} == {"old", "new", "both", "feed"}


def test_the_entries_of_a_feed_that_is_there_stay(desk: Desk) -> None:
    """They were fetched later than those in the backup; the interval is that of the backup."""
    desk.restore()
    later = Feed(FEED.url, 60, addresses=read_addresses(["198.51.100.7"]))
    desk.engine.kept_lists.carry_out(desk.engine.kept_lists.store.update("feed", later))
    assert desk.restore()["changed"]
    feed = desk.engine.kept_lists.store.lists["feed"].feed
    assert feed
    assert (feed.every_s, feed.addresses) == (3600, later.addresses)
    assert desk.restore()["changed"] is False


def test_a_feed_that_comes_from_elsewhere_is_due_at_once(desk: Desk) -> None:
    """Whenever the one before would have been, and whatever went wrong with that."""
    feeds = desk.engine.kept_lists.feeds
    before = Feed("https://feeds.example/old", 86400, checked=time.time())
    store = desk.engine.kept_lists.store
    desk.engine.kept_lists.carry_out(store.create_feed("feed", before))
    feeds.went_well("feed")
    feeds.failed("feed", "gone")
    due = feeds.next()
    assert due
    assert due[0] > time.time() + 20
    desk.restore()
    due = feeds.next()
    assert due
    assert due[0] <= time.time() + SPREAD_S
    assert feeds.problem_of("feed") == ()


def test_entries_that_have_ended_do_not_return(desk: Desk) -> None:
    """Their time is over."""
    parts = ListParts(b"192.0.2.1\n", added=entries("192.0.2.7", end=1000.0))
    desk.restore(pack(Backup({"policies/p.yaml": OLD}, None, {"old": parts})))
    assert list(format_list(desk.engine.lists["old"])) == ["192.0.2.1"]


def test_what_was_edited_is_neither_saved_nor_overwritten(desk: Desk) -> None:
    """Neither a policy, nor a list, until it is loaded."""
    policy, listed = desk.path / "etc/policies/p.yaml", desk.path / "etc/lists/both"
    for file in (policy, listed):
        before = file.read_text()
        file.write_text(f"# mine\n{before}")
        for ask in (desk.backup, desk.restore):
            with pytest.raises(Refused, match="was edited since it was loaded"):
                ask()
        assert file.read_text() == f"# mine\n{before}"
        file.write_text(before)
    listed.write_text("# mine\n10.0.0.1\n")
    desk.ask("Reload", resolve=False)
    assert b"# mine" in desk.backup()
    desk.restore()


def archive(policies: dict[str, str], assigned: str | None = None) -> bytes:
    return pack(Backup(policies, assigned, {}))


UNMET = """policy: P
rules: [{rule: R, action: block, filters: ["*=0:1:UDP"]}]
expect: ["permit udp 192.0.2.1:1 > me:1"]
"""
UNUSABLE: dict[str, tuple[bytes, str]] = {
    "a text": (b"policy: P\n", "is no backup"),
    "a policy that is none": (archive({"policies/a.yaml": "nonsense"}), "cannot be used"),
    "two of one name": (archive({"policies/a.yaml": OLD, "policies/b.yaml": NEW}), "of one name"),
    "a list that is none": (pack(Backup({}, None, {"x": ListParts(b"nonsense\n")})), "x"),
    "unmet": (archive({"policies/a.yaml": UNMET}, "policies/a.yaml"), "expect"),
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_cannot_be_used_changes_nothing(desk: Desk, name: str, dry_run: bool) -> None:
    """Nothing is written before all of it was checked and compiled."""
    content, reason = UNUSABLE[name]
    before = desk.state()
    desk.fate.set(0, Crash())
    with pytest.raises((InvalidInput, Refused), match=reason):
        desk.restore(content, dry_run=dry_run)
    assert (desk.state(), desk.fate.count) == (before, 0)


def test_what_nobody_confirms_is_put_back_whole(desk: Desk) -> None:
    """Policies and lists: what was there, what has come, and what has gone."""
    before = desk.state()
    desk.restore(options=WAITS)
    assert unpack(desk.backup(), "x") == BACKUP
    with pytest.raises(Refused, match="confirm"):
        desk.restore()
    desk.ask("Revert")
    assert desk.state() == before
    assert desk.restarted().state() == before


def test_a_policy_that_is_unusable_keeps_a_backup_from_being_made(desk: Desk) -> None:
    """Where it is assigned; another one is told, and is not in it."""
    file = desk.path / "etc/policies/spoilt.yaml"
    file.write_text("nonsense")
    desk.ask("Reload", resolve=False)
    (warning,) = desk.ask("GetBackup")["warnings"]
    assert "spoilt.yaml" in warning or "not in the backup" in warning
    (desk.path / "etc/policies/p.yaml").write_text("nonsense")
    with suppress(IpsecdError):
        desk.ask("Reload", resolve=False)
    with pytest.raises(Refused):
        desk.backup()


def files_in(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


# -- dynamic rules -------------------------------------------------------------------------------


def banned(desk: Desk, text: str, name: str, until: float | None = None) -> None:
    given = {"filters": [text], "action": "block", "name": name, "until": until}
    parameters = Control(desk.engine).with_filters_read({"source": None, **given}, None)
    desk.ask("AddDynamicRules", **parameters, existing="replace")


def in_force(desk: Desk) -> dict[str, tuple[str, ...]]:
    return {rule.name: tuple(map(format_filter, rule.filters)) for rule in desk.engine.dynamic}


def test_dynamic_rules_are_restored_when_that_is_asked_for(desk: Desk) -> None:
    """With their ends, beside those that are in force; the second time nothing changes."""
    banned(desk, "192.0.2.1=0", "short", time.time() + 3600)
    banned(desk, "192.0.2.2=0", "long")
    banned(desk, "@both=0", "listed")
    saved = desk.backup()
    assert desk.ask("GetBackup")["dynamic_rules"] == 3
    desk.ask("FlushDynamic")
    banned(desk, "192.0.2.9=0", "new")
    banned(desk, "192.0.2.8=0", "long")
    assert desk.restore(saved)["changed"] is False
    told = desk.restore(saved, dynamic=True, dry_run=True)
    assert (told["changed"], set(in_force(desk))) == (True, {"new", "long"})
    assert told["changes"] == ["+ 3 dynamic rules: 'short', 'long', 'listed'"]
    assert desk.restore(saved, dynamic=True)["changes"] == told["changes"]
    assert in_force(desk) == {
        "new": ("192.0.2.9=0",),
        "long": ("192.0.2.2=0",),
        "short": ("192.0.2.1=0",),
        "listed": ("@both=0",),
    }
    left = {each["name"]: each["remaining_s"] for each in desk.ask("ListDynamic")["rules"]}
    assert left["long"] is None
    assert 3500 < left["short"] <= 3601
    assert desk.ask("GetHistory")["rows"][0]["source"] == "restore"
    assert desk.restore(saved, dynamic=True)["changed"] is False


def test_dynamic_rules_come_with_what_lasts(desk: Desk) -> None:
    """In one call; what cannot be in force is told, and what has ended is left out."""
    rules = (
        RuleText("good", "block", ("@new=0",), None, "opening", None),
        RuleText("over", "block", ("192.0.2.1=0",), None, None, 1000),
        RuleText("none", "block", ("nonsense",), None, None, None),
        RuleText("name", "block", ("absent.example=0",), None, None, None),
        RuleText("drops", "drop", ("192.0.2.1=0",), None, None, None),
    )
    archive = pack(Backup(BACKUP.policies, BACKUP.assigned, BACKUP.lists, rules))
    outcome = desk.restore(archive, dynamic=True)
    assert outcome["changed"]
    assert outcome["changes"][-1] == "+ 1 dynamic rule: 'good'"
    assert in_force(desk) == {"good": ("@new=0",)}
    warned = [line for line in outcome["warnings"] if "is not restored" in line]
    assert [line.split("'")[1] for line in warned] == ["none", "name", "drops"]
    row = desk.ask("GetHistory")["rows"][0]
    assert (row["kind"], row["source"]) == ("policies", "restore")


def test_rules_and_policies_together_wait_for_no_confirmation(desk: Desk) -> None:
    """One of both alone can be put back."""
    banned(desk, "192.0.2.1=0", "short")
    saved = desk.backup()
    desk.ask("FlushDynamic")
    with pytest.raises(Refused, match="together cannot be put back"):
        desk.restore(saved, dynamic=True, options=ChangeOptions(60.0))
    assert not in_force(desk)


def test_quarantines_are_not_in_a_backup(desk: Desk) -> None:
    """Their rules depend on what is permitted at the moment."""
    desk.ask("Quarantine", who="container:web", permits=[])
    assert in_force(desk)
    assert desk.ask("GetBackup")["dynamic_rules"] == 0


# -- crashes -----------------------------------------------------------------------------------


class LastFate(Fate):
    """A process that has died does nothing any more: nothing is undone by it either."""

    def meets(self, effect: Callable[[], Any]) -> Any:
        if self.at and self.count >= self.at and isinstance(self.error, Crash):
            raise self.error
        return super().meets(effect)


SAME_POLICIES = pack(Backup({"policies/p.yaml": OLD}, "policies/p.yaml", BACKUP.lists))


@pytest.mark.parametrize("content", [ARCHIVE, SAME_POLICIES])
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_leaves_the_old_state_or_the_new(
    tmp_path: Path, content: bytes, after: bool
) -> None:
    """Whichever effect the process dies before or after: policies and lists are of one time."""
    model, fresh = Desk(tmp_path / "model").filled(), Desk(tmp_path / "fresh").filled()
    # The form that the daemon writes is the one that is compared.
    content = content if content is ARCHIVE else _with_policies_of(model.backup())
    before = model.state()
    model.restore(content)
    done = model.state()
    seen = set()
    for number in range(1, 200):
        fate = LastFate()
        desk = fresh.copied(tmp_path / str(number), fate)
        fate.set(number, Crash(), after=after)
        try:
            desk.restore(content)
        except Crash:
            found = desk.restarted()
            assert not (found.path / "lib/restoring").exists()
            assert found.state() in (before, done), number
            seen.add(found.state() == done)
            continue
        break
    assert number > 8
    assert seen == {False, True}


@pytest.mark.parametrize("after", [False, True])
def test_what_nobody_confirms_is_put_back_after_any_crash(tmp_path: Path, after: bool) -> None:
    """The next boot has all as it was before, in force and on disk."""
    fresh = Desk(tmp_path / "fresh").filled()
    before = fresh.state()
    for number in range(1, 200):
        fate = LastFate()
        desk = fresh.copied(tmp_path / str(number), fate)
        fate.set(number, Crash(), after=after)
        try:
            desk.restore(options=WAITS)
        except Crash:
            for _ in range(2):
                booted = Desk(desk.path, boot="b" * 32)
                assert booted.state() == before, number
                booted.engine.close()
            continue
        break
    assert number > 20


def _with_policies_of(archive: bytes) -> bytes:
    mine = unpack(archive, "x")
    return pack(Backup(mine.policies, mine.assigned, BACKUP.lists))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_or_kernel_that_fails_once_leaves_the_old_state(tmp_path: Path, code: int) -> None:
    """Each error is told, and all is as it was: in memory, on disk and in force."""
    fresh = Desk(tmp_path / "fresh").filled()
    for number in range(1, 200):
        fate = Fate()
        desk = fresh.copied(tmp_path / str(number), fate)
        before = desk.state()
        fate.set(number, OSError(code, "no", "x"))
        try:
            desk.restore()
        except (StoreFailed, BackendFailed) as error:
            assert error.hint  # noqa: PT017 - the last round raises nothing
            assert desk.state() == before, number
            assert desk.restarted().state() == before, number
            continue
        if fate.count < number:
            break
    assert number > 8


def test_a_boot_has_the_lists_that_a_crash_kept_from_being_written(tmp_path: Path) -> None:
    """The first packet after it meets policies and lists of one time; nothing is written."""
    done, fresh = Desk(tmp_path / "model").filled(), Desk(tmp_path / "fresh").filled()
    done.restore()
    seen = set()
    for number in range(1, 40):
        fate = LastFate()
        desk = fresh.copied(tmp_path / str(number), fate)
        old = dict(desk.engine.lists)
        fate.set(number, Crash(), after=True)
        with suppress(Crash):
            desk.restore()
        files = files_in(desk.path)
        desk.fate = Fate()
        engine = desk.made()
        engine.boot()
        assert engine.policy
        is_new = "@new" in format_policy(engine.policy)
        seen.add(is_new)
        assert dict(engine.lists) == (dict(done.engine.lists) if is_new else old), number
        # What is put in force is the only effect.
        assert desk.fate.count <= 1
        assert files == files_in(desk.path)
    assert seen == {False, True}
