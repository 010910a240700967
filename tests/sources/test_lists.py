"""Lists on disk: what was acknowledged is there after a crash, and a bad part disables itself."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.config import Directories
from ipsecd.errors import InvalidInput, NotFound, Refused, StoreFailed
from ipsecd.language.address_lists import read_addresses, read_list
from ipsecd.language.list_entries import format_list
from ipsecd.model.lists import AddressList
from ipsecd.sources import list_journal, lists
from ipsecd.sources.files import Disk
from ipsecd.sources.list_files import Feed
from ipsecd.sources.list_journal import Journal, keys_of, list_of
from ipsecd.sources.lists import ListChange, ListStore
from tests.engine.effects import Crash, Fate, FatefulDisk

NOW = 1_800_000_000.0
TEXT = b"# mine\n192.0.2.1 # one\n192.0.2.8-192.0.2.11\n"
OTHER = b"198.51.100.0/24\n"
FEED = Feed(
    "https://feeds.example/drop",
    86400,
    "",
    '"tag"',
    "",
    NOW,
    NOW,
    read_addresses(["203.0.113.0/24"]),
)
FEED2 = Feed(
    "https://feeds.example/drop", 86400, "", '"new"', "", NOW, NOW, read_addresses(["203.0.113.8"])
)
Held = dict[str, tuple[list[str], dict[bytes, float]]]


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def store_in(path: Path, disk: Disk | None = None, clock: Clock | None = None) -> ListStore:
    return ListStore(Directories(path / "etc", path / "lib", path / "run"), disk, clock or Clock())


def loaded(path: Path, disk: Disk | None = None, clock: Clock | None = None) -> ListStore:
    store = store_in(path, disk, clock)
    store.load()
    return store


def texts(addresses: AddressList | None) -> list[str]:
    assert addresses is not None
    return list(format_list(addresses))


def held(store: ListStore) -> Held:
    """All lists with their entries, and the ends of those that were added."""
    return {
        name: (texts(stored.addresses), dict(stored.added)) for name, stored in store.lists.items()
    }


def carry_out(change: ListChange) -> None:
    change.commit()
    change.finish()


def create(store: ListStore, name: str, text: bytes) -> None:
    carry_out(store.create(name, text, read_list(text, name)))


def some(*entries: str) -> AddressList:
    return read_addresses(entries)


def filled(path: Path, disk: Disk | None = None) -> ListStore:
    """A store with a list that has a file and added entries, and one from a feed that has some."""
    store = loaded(path, disk)
    create(store, "mine", TEXT)
    carry_out(store.add("mine", some("192.0.2.1", "192.0.2.77"), NOW + 60))
    carry_out(store.add("mine", some("2001:db8::7")))
    carry_out(store.create_feed("drop", FEED))
    carry_out(store.add("drop", some("203.0.113.99"), NOW + 99))
    return store


CHANGES: dict[str, Callable[[ListStore], ListChange]] = {
    "create": lambda store: store.create("new", OTHER, read_list(OTHER, "x")),
    "create empty": lambda store: store.create("new", b"", read_list(b"", "x")),
    "create from a feed": lambda store: store.create_feed("new", FEED2),
    "replace": lambda store: store.replace("mine", OTHER, read_list(OTHER, "x")),
    "add": lambda store: store.add("mine", some("192.0.2.200"), NOW + 5),
    "add again": lambda store: store.add("mine", some("192.0.2.77"), inf),
    "add to a feed": lambda store: store.add("drop", some("192.0.2.200", "::/64")),
    "remove added": lambda store: store.remove("mine", some("192.0.2.77")),
    "remove from the file": lambda store: store.remove("mine", some("192.0.2.8/30")),
    "remove from both": lambda store: store.remove(
        "mine", some("192.0.2.1", "192.0.2.8/30", "2001:db8::7")
    ),
    "delete": lambda store: store.delete("mine"),
    "delete a feed": lambda store: store.delete("drop"),
    "update": lambda store: store.update("drop", FEED2),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_by_the_next_process(tmp_path: Path, name: str) -> None:
    """What is held after it is what a new process reads, and its preview said so."""
    store = filled(tmp_path)
    before = held(store)
    change = CHANGES[name](store)
    assert held(store) == before
    carry_out(change)
    after = held(store)
    assert after != before
    for changed, addresses in change.changes.items():
        assert (texts(addresses) if addresses is not None else None) == after.get(changed, (None,))[
            0
        ]
    again = loaded(tmp_path)
    assert held(again) == after
    assert not again.problems
    assert not any(stored.problems for stored in again.lists.values())
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_is_undone_leaves_nothing(tmp_path: Path, name: str) -> None:
    """It is undone in memory and on disk."""
    store = filled(tmp_path)
    before = held(store)
    change = CHANGES[name](store)
    change.commit()
    change.undo()
    assert held(store) == before
    assert held(loaded(tmp_path)) == before
    assert (tmp_path / "etc/lists/mine").read_bytes() == TEXT


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_leaves_the_old_lists_or_the_new(tmp_path: Path, name: str, after: bool) -> None:
    """Whichever effect the process dies before or after, the next one finds old or new."""
    model = filled(tmp_path / "model")
    before = held(model)
    carry_out(CHANGES[name](model))
    done = held(model)
    outcomes = set()
    number = 0
    while True:
        number += 1
        path = tmp_path / str(number)
        fate = Fate()
        store = filled(path, FatefulDisk(fate))
        fate.set(number, Crash(), after=after)
        try:
            carry_out(CHANGES[name](store))
        except Crash:
            # A boot may read it first, which writes nothing.
            booted = store_in(path)
            booted.load(read_only=True)
            again = loaded(path)
            assert held(again) in (before, done), number
            assert held(again) == held(booted)
            outcomes.add(held(again) == done)
            assert held(loaded(path)) == held(again)
            continue
        break
    assert held(loaded(path)) == done
    # Before the only effect it is the old, and after it the new.
    assert after in outcomes


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_once_leaves_old_or_new(tmp_path: Path, name: str, code: int) -> None:
    """An error while it is made is told and leaves the old; one after that changes nothing."""
    model = filled(tmp_path / "model")
    before = held(model)
    carry_out(CHANGES[name](model))
    done = held(model)
    number = 0
    while True:
        number += 1
        path = tmp_path / str(number)
        fate = Fate()
        store = filled(path, FatefulDisk(fate))
        change = CHANGES[name](store)
        fate.set(number, OSError(code, "no", str(path)))
        expected = done
        try:
            change.commit()
        except StoreFailed as error:
            assert error.hint  # noqa: PT017 - the last rounds raise nothing
            expected = before
        else:
            with suppress(StoreFailed):
                change.finish()
        assert held(store) == expected, number
        assert held(loaded(path)) == expected, number
        assert held(loaded(path)) == expected, number
        if fate.count < number:
            return


def test_without_the_condition_the_crash_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the journal does not regard the file, the test above finds a third state."""

    def at_once(self: Journal, _: str, keys: list[bytes], before: list_journal.Entries) -> None:
        after = before
        for key in keys:
            after = after.without(key)
        self.drop(keys, before, after)

    monkeypatch.setattr(Journal, "drop_with", at_once)
    with pytest.raises(AssertionError):
        test_a_crash_leaves_the_old_lists_or_the_new(tmp_path, "remove from both", after=True)


def test_the_journal_may_end_at_any_byte(tmp_path: Path) -> None:
    """What was acknowledged before is there, what was not is left out and told, and goes on."""
    store = loaded(tmp_path)
    create(store, "bans", b"")
    path = tmp_path / "lib/lists/bans.entries"
    states = {0: held(store)}
    for number in range(4):
        carry_out(store.add("bans", some(f"192.0.2.{number}", f"2001:db8::{number}"), NOW + 60))
        states[path.stat().st_size] = held(store)
    carry_out(store.remove("bans", some("192.0.2.1")))
    states[path.stat().st_size] = held(store)
    content = path.read_bytes()
    header = content.index(b"\n") + 1
    for end in range(header, len(content) + 1):
        path.write_bytes(content[:end])
        again = loaded(tmp_path)
        last = max(size for size in states if size <= end)
        assert held(again) == states[last]
        torn = content[:end].rpartition(b"\n")[2]
        assert bool(again.lists["bans"].problems) == bool(torn)
        carry_out(again.add("bans", some("198.51.100.7")))
        after = held(again)
        assert "198.51.100.7" in after["bans"][0]
        assert held(loaded(tmp_path)) == after


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_in_a_journal_harm_nothing_else(data: st.DataObject) -> None:
    """Lines that are not damaged are read, and the other lists are there whatever happens."""
    with TemporaryDirectory() as directory:
        path = Path(directory)
        store = loaded(path)
        create(store, "mine", TEXT)
        create(store, "bans", b"")
        for number in range(3):
            carry_out(store.add("bans", some(f"192.0.2.{number}"), NOW + 60))
        journal = path / "lib/lists/bans.entries"
        content = journal.read_bytes()
        at = data.draw(st.integers(0, len(content)))
        removed = data.draw(st.integers(0, 20))
        inserted = data.draw(st.binary(max_size=20))
        journal.write_bytes(content[:at] + inserted + content[at + removed :])
        again = loaded(path)
        assert texts(again.lists["mine"].addresses) == texts(store.lists["mine"].addresses)
        left = set(texts(again.lists["bans"].addresses))
        assert left <= set(texts(store.lists["bans"].addresses))
        unharmed = set(content.split(b"\n")) & set(journal.read_bytes().split(b"\n")[:-1])
        if journal.read_bytes().startswith(b"ipsecd list-entries 1\n"):
            for number in range(3):
                if any(f" 192.0.2.{number}".encode() in line for line in unharmed):
                    assert f"192.0.2.{number}" in left
        try:
            carry_out(again.add("bans", some("198.51.100.7")))
        except StoreFailed:
            assert again.lists["bans"].problems
        else:
            assert held(loaded(path)) == held(again)


def test_a_journal_of_another_version_is_left_alone(tmp_path: Path) -> None:
    """It is told by name, is not written, and disables only itself."""
    store = filled(tmp_path)
    journal = tmp_path / "lib/lists/mine.entries"
    newer = journal.read_bytes().replace(b"entries 1", b"entries 9")
    journal.write_bytes(newer)
    again = loaded(tmp_path)
    assert texts(again.lists["mine"].addresses) == ["192.0.2.1", "192.0.2.8/30"]
    assert "mine.entries" in again.lists["mine"].problems[0]
    assert again.lists["drop"] == store.lists["drop"]
    with pytest.raises(StoreFailed, match="another version"):
        carry_out(again.add("mine", some("192.0.2.5")))
    assert journal.read_bytes() == newer


def test_a_file_that_is_spoilt_stays_in_force_as_it_was(tmp_path: Path) -> None:
    """At a reload and at a start, with what it held last; it is told, and the others are read."""
    store = filled(tmp_path)
    before = held(store)
    (tmp_path / "etc/lists/mine").write_bytes(b"<html>\n")
    (tmp_path / "etc/lists/other").write_bytes(OTHER)
    (tmp_path / "etc/lists/never good").write_bytes(OTHER)
    (tmp_path / "etc/lists/bad").write_bytes(b"nonsense\n")
    (tmp_path / "etc/lists/.mine.swp").write_bytes(b"nonsense\n")
    (tmp_path / "etc/lists/mine~").write_bytes(b"nonsense\n")
    change = store.reloaded()
    assert texts(change.changes["other"]) == ["198.51.100.0/24"]
    assert list(change.changes) == ["other"]
    carry_out(change)
    for current in (store, loaded(tmp_path)):
        assert {
            name: entries for name, entries in held(current).items() if name != "other"
        } == before
        assert "holds no address list" in current.lists["mine"].problems[0]
        assert len(current.problems) == 2
        assert "never good" in current.problems[0]
        assert "lists/bad" in current.problems[1]
    create(store, "new", TEXT)
    (tmp_path / "etc/lists/mine").write_bytes(b"192.0.2.1\nnonsense\n192.0.2.9\n")
    carry_out(store.reloaded())
    for current in (store, loaded(tmp_path)):
        assert "192.0.2.9" in texts(current.lists["mine"].addresses)
        assert "1 malformed line; line 2: 'nonsense'" in current.lists["mine"].problems[0]


@pytest.mark.parametrize("end", [".feed", ".entries", ".read"])
def test_a_damaged_part_disables_itself(tmp_path: Path, end: str) -> None:
    """The other parts of the list are there, and all other lists."""
    filled(tmp_path)
    for path in (tmp_path / "lib/lists").glob(f"*{end}"):
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(bytes(content))
    again = loaded(tmp_path)
    mine, drop = again.lists["mine"], again.lists.get("drop")
    assert texts(mine.addresses)[:2] == ["192.0.2.1", "192.0.2.8/30"]
    assert drop
    assert (
        texts(drop.addresses)
        == {
            ".feed": ["203.0.113.99"],
            ".entries": ["203.0.113.0/24"],
            ".read": ["203.0.113.0/24", "203.0.113.99"],
        }[end]
    )
    assert bool(drop.problems) == (end != ".read")


def test_an_edit_by_hand_is_not_overwritten(tmp_path: Path) -> None:
    """A change to a file that was edited since is refused, until the edit is read."""
    store = filled(tmp_path)
    file = tmp_path / "etc/lists/mine"
    file.write_bytes(TEXT + b"192.0.2.99\n")
    for name in ("replace", "remove from the file", "remove from both", "delete"):
        with pytest.raises(Refused, match="edited since"):
            carry_out(CHANGES[name](store))
    carry_out(store.add("mine", some("192.0.2.100")))
    carry_out(store.reloaded())
    carry_out(store.remove("mine", some("192.0.2.99", "192.0.2.1")))
    assert file.read_bytes() == b"# mine\n192.0.2.8-192.0.2.11\n"
    (tmp_path / "etc/lists/late").write_bytes(TEXT)
    with pytest.raises(Refused, match="edited since"):
        create(store, "late", OTHER)


def test_a_deletion_takes_only_the_file_that_was_to_go(tmp_path: Path) -> None:
    """What people wrote after a crash in the middle of one is a list of its own."""
    store = filled(tmp_path)
    store.delete("mine").commit()
    file = tmp_path / "etc/lists/mine"
    file.write_bytes(OTHER)
    booted = store_in(tmp_path)
    booted.load(read_only=True)
    for again in (booted, loaded(tmp_path), loaded(tmp_path)):
        assert texts(again.lists["mine"].addresses) == ["198.51.100.0/24"]
    assert file.read_bytes() == OTHER
    assert not (tmp_path / "lib/lists/mine.entries").exists()


def test_removing_keeps_what_people_wrote(tmp_path: Path) -> None:
    """Comments, order and malformed lines stay; a range keeps what is left of it."""
    text = (
        b"\xef\xbb\xbf# h\xc3\xa9\r\n192.0.2.1-192.0.2.4 # both\r\nfoo\r\n10.0.0.1/8\n192.0.2.9\n"
        b"192.0.2.7\n\n2001:DB8::7"
    )
    store = loaded(tmp_path)
    create(store, "mine", text)
    carry_out(store.remove("mine", some("192.0.2.2/31", "192.0.2.9", "10.0.0.0/8", "2001:db8::7")))
    assert (tmp_path / "etc/lists/mine").read_bytes() == (
        b"\xef\xbb\xbf# h\xc3\xa9\r\n192.0.2.1 # both\r\n192.0.2.4\r\nfoo\r\n192.0.2.7\n\n"
    ).removesuffix(b"\n")
    assert texts(store.lists["mine"].addresses) == ["192.0.2.1", "192.0.2.4", "192.0.2.7"]
    assert held(loaded(tmp_path)) == held(store)


def test_what_is_written_is_plain_text(tmp_path: Path) -> None:
    """Other forms are converted, so that people can edit the file, and entries be removed."""
    text = b"create s hash:ip\nadd s 192.0.2.7\nadd s 192.0.2.8\n"
    store = loaded(tmp_path)
    create(store, "bans", text)
    assert (tmp_path / "etc/lists/bans").read_text() == "# 2 entries\n192.0.2.7\n192.0.2.8\n"
    (tmp_path / "etc/lists/saved").write_bytes(text)
    carry_out(store.reloaded())
    with pytest.raises(Refused, match="not in the plain form"):
        store.remove("saved", some("192.0.2.7"))


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    """Names that are none, lists that are not there or are, entries that are none or of a feed."""
    store = filled(tmp_path)
    for name in ("", ".x", "a/b", "../x", "x" * 65, "a b", "-x", "é"):
        with pytest.raises(InvalidInput, match="cannot name a list"):
            store.create(name, b"", read_list(b"", "x"))
    with pytest.raises(Refused, match="already"):
        store.create("mine", b"", read_list(b"", "x"))
    with pytest.raises(NotFound, match="no list 'gone'"):
        store.add("gone", some("192.0.2.7"))
    with pytest.raises(NotFound, match=r"no entry 192\.0\.2\.9") as error:
        store.remove("mine", some("192.0.2.9"))
    assert "prefix length 30" in error.value.hint
    with pytest.raises(Refused, match=r"comes from 'https://feeds.example/drop'"):
        store.remove("drop", some("203.0.113.0/24"))
    with pytest.raises(Refused, match="comes from"):
        store.replace("drop", b"", read_list(b"", "x"))


def test_entries_end_at_their_time(tmp_path: Path) -> None:
    """Also in a later process; an entry of the file stays, and a later end counts."""
    clock = Clock()
    store = loaded(tmp_path, clock=clock)
    create(store, "mine", TEXT)
    carry_out(store.add("mine", some("192.0.2.1", "192.0.2.77"), NOW + 60))
    carry_out(store.add("mine", some("192.0.2.78"), NOW + 30))
    carry_out(store.add("mine", some("192.0.2.79"), NOW + 30))
    carry_out(store.add("mine", some("192.0.2.79"), NOW + 90))
    store = loaded(tmp_path, clock=clock)
    assert store.next_end() == NOW + 30
    assert store.expire() is None
    clock.now = NOW + 30
    change = store.expire()
    assert change
    carry_out(change)
    assert texts(store.lists["mine"].addresses) == [
        "192.0.2.1",
        "192.0.2.8/30",
        "192.0.2.77",
        "192.0.2.79",
    ]
    assert store.next_end() == NOW + 60
    assert held(loaded(tmp_path, clock=clock)) == held(store)
    clock.now = NOW + 89
    change = store.expire()
    assert change
    change.commit()
    change.undo()
    assert store.next_end() == NOW + 60
    carry_out(change)
    assert texts(store.lists["mine"].addresses) == ["192.0.2.1", "192.0.2.8/30", "192.0.2.79"]
    carry_out(store.remove("mine", some("192.0.2.79")))
    assert store.next_end() is None


def test_the_journal_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once most of its lines are out of date it is written anew."""
    monkeypatch.setattr(list_journal, "SPARE_LINES", 10)
    store = loaded(tmp_path)
    create(store, "bans", b"")
    for number in range(200):
        carry_out(store.add("bans", some(f"192.0.2.{number}"), NOW + 60))
        carry_out(store.remove("bans", some(f"192.0.2.{number}")))
    carry_out(store.add("bans", some("198.51.100.1"), NOW + 60))
    assert len((tmp_path / "lib/lists/bans.entries").read_bytes().splitlines()) < 20
    assert held(loaded(tmp_path)) == held(store)


def test_a_boot_writes_nothing(tmp_path: Path) -> None:
    """It reads all parts, and leaves every file as it is."""
    store = filled(tmp_path)
    (tmp_path / "etc/lists/late").write_bytes(OTHER)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    booted = store_in(tmp_path)
    booted.load(read_only=True)
    assert held(booted).items() >= held(store).items()
    assert "late" in booted.lists
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_file_that_is_gone_is_a_list_that_is_gone(tmp_path: Path) -> None:
    """Unless entries were added to it; what it held is forgotten."""
    store = filled(tmp_path)
    create(store, "other", OTHER)
    for name in ("mine", "other"):
        (tmp_path / "etc/lists" / name).unlink()
    change = store.reloaded()
    assert change.changes["other"] is None
    carry_out(change)
    assert texts(store.lists["mine"].addresses) == ["192.0.2.1", "192.0.2.77", "2001:db8::7"]
    assert not list((tmp_path / "lib/lists").glob("*.read"))
    shutil.rmtree(tmp_path / "etc")
    assert held(loaded(tmp_path)) == held(store)


def test_entries_are_named_by_keys() -> None:
    """The keys of a list make it again."""
    entries = some("192.0.2.0/24", "192.0.2.7", "::/0", "2001:db8::7")
    assert list_of(keys_of(entries)) == entries
    assert lists.LISTS == "lists"
