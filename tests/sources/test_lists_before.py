"""What is kept of lists before an unconfirmed change: read back as it was, or refused."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path

import pytest

from ipsecd.errors import StoreFailed
from ipsecd.language.address_lists import read_addresses
from ipsecd.sources.list_files import Feed, FileRead
from ipsecd.sources.list_journal import keys_of
from ipsecd.sources.lists import ListStore
from ipsecd.sources.lists_before import FeedBefore, FileBefore, ListBefore
from ipsecd.sources.lists_put_back import ListsPutBack
from ipsecd.sources.unconfirmed import Unconfirmed, UnconfirmedFile
from tests.sources.test_lists import filled
from tests.sources.test_mutations import sealed, trees

KEYS = list(keys_of(read_addresses(["192.0.2.1", "192.0.2.0/24", "2001:db8::/32"])))
ENDS: dict[bytes, tuple[float | None, float | None]] = {
    KEYS[0]: (None, inf),
    KEYS[1]: (1000.5, None),
    KEYS[2]: (inf, 2e9),
}


def change(lists: dict[str, ListBefore] | None) -> Unconfirmed:
    return Unconfirmed("a" * 32, 5.0, "1", 0, "root", "root", "", "X", "", lists=lists)


def files(path: Path) -> tuple[ListStore, ListsPutBack, UnconfirmedFile]:
    store = filled(path)
    lists = ListsPutBack(store, path)
    return store, lists, UnconfirmedFile(path, lists.load)


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    """Files and feeds, of which there may have been none, and entries with their ends."""
    store, lists, file = files(tmp_path)
    mine, drop = store.get("mine"), store.get("drop")
    kept = {
        "mine": ListBefore(FileBefore(mine.file), None, ENDS),
        "drop": ListBefore(None, FeedBefore(drop.feed, 7.25)),
        "new": ListBefore(FileBefore(None), FeedBefore(None, None)),
        "more": ListBefore(None, FeedBefore(None, 1e9), ENDS),
    }
    lists.keep(kept)
    file.save(change(kept))
    assert file.load() == change(kept)
    file.save(change(None))
    assert file.load() == change(None)
    # What an older daemon has left knows of no lists.
    assert b"lists" not in (tmp_path / "unconfirmed").read_bytes()


def test_any_shape_with_the_right_checksum(tmp_path: Path) -> None:
    """It is a change, or refused with the reason; nothing else is raised."""
    store, lists, file = files(tmp_path)
    kept = {"mine": ListBefore(FileBefore(store.get("mine").file), FeedBefore(None, 1.0), ENDS)}
    lists.keep(kept)
    file.save(change(kept))
    content = (tmp_path / "unconfirmed").read_bytes().partition(b"\n")[2]
    refusals: list[StoreFailed] = []
    for tree in trees(json.loads(content)):
        (tmp_path / "unconfirmed").write_bytes(sealed("unconfirmed", json.dumps(tree).encode()))
        try:
            file.load()
        except StoreFailed as error:
            refusals.append(error)
    assert len(refusals) > 100
    assert all(refusal.hint for refusal in refusals)


@pytest.mark.parametrize(
    ("now", "after"),
    [
        (Feed("u", 60, fetched=2.0, checked=9.0), Feed("u", 60, fetched=1.0, checked=9.0)),
        (Feed("u", 60, fetched=3.0, checked=9.0), Feed("u", 60, fetched=3.0, checked=9.0)),
        (Feed("u", 60, fetched=1.0, checked=4.0), Feed("u", 60, fetched=1.0, checked=4.0)),
        (None, Feed("u", 60, fetched=1.0, checked=1.0)),
    ],
)
def test_a_feed_returns_unless_it_has_moved_on(now: Feed | None, after: Feed) -> None:
    """What it was is put in the place of what the change brought, and of nothing else."""
    assert FeedBefore(Feed("u", 60, fetched=1.0, checked=1.0), 2.0).over(now) == after


def test_a_file_is_told_by_its_bytes() -> None:
    """That it was read anew is no change."""
    assert FileBefore(FileRead("d", read_addresses(["192.0.2.1"]))).digest == "d"
    assert FileBefore(None).digest is None
