"""Lists from URLs: what is fetched is judged before it is taken, and nothing withdraws a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import list_changes
from ipsecd.control.feeds import Fetched, Wanted
from ipsecd.engine.feeds import FIRST_S, Feeds
from ipsecd.errors import InvalidInput, NotFound, Refused
from tests.engine.test_kept_lists import FAR, LISTED, OTHER, POLICY, Desk

URL = "https://feeds.example/drop?key=secret"


class Reader(Desk):
    """Somebody who has feeds fetched, which are what a test says."""

    def fetch(self, method: str, fetched: Fetched, *, accept: bool = False, **given: Any) -> Any:
        parameters = {"name": "bans", "accept": accept, **given, "fetched": fetched}
        reply = self.control.call(method, parameters, "somebody", {}, None)
        return reply["outcome"]

    def create(self, text: bytes, **given: Any) -> Any:
        feed = {"url": URL, "every_s": 3600.0, "format": None, "plain_http": False}
        return self.fetch("CreateFeed", Fetched(text, etag='"1"'), **{**feed, **given})

    def update(self, text: bytes, *, accept: bool = False) -> Any:
        return self.fetch("UpdateList", Fetched(text, etag='"2"'), accept=accept)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setattr(list_changes, "needed_addresses", lambda: ())
    reader = Reader(tmp_path)
    reader.engine.change(put=[POLICY], assign="P")
    return reader


def test_a_feed_is_in_force_and_kept(reader: Reader) -> None:
    """A start without a network has what was fetched last, with what was added."""
    reader.create(b"203.0.113.7\n")
    reader.change("AddToList", name="bans", addresses=["198.51.100.1"])
    assert reader.blocked() == [LISTED, FAR]
    wanted = reader.control.wanted_feed("UpdateList", {"name": "bans"})
    assert wanted == Wanted(URL, '"1"', "")
    reader.update(b"203.0.113.8\n")
    assert reader.blocked() == [OTHER, FAR]
    reader.again()
    assert reader.blocked() == [OTHER, FAR]
    assert reader.control.wanted_feed("UpdateList", {"name": "bans"}).etag == '"2"'
    (described,) = reader.ask("ListLists")["lists"]
    assert described["url"] == "https://feeds.example/drop?…"
    assert described["path"] is None
    outcome = reader.fetch("UpdateList", Fetched(b"", unchanged=True, etag='"2"'))
    assert "nothing is new" in outcome["message"]
    assert reader.blocked() == [OTHER, FAR]
    reader.change("DeleteList", name="bans")
    assert reader.blocked() == []
    reader.again()
    assert reader.blocked() == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "it has no entry"),
        (b"<html>\n", "holds no address list"),
        (b"203.0.113.7\n", "would shrink from 3 entries to 1"),
        (b"0.0.0.0/0\n203.0.113.7\n203.0.113.8\n", "every IPv4 address"),
        (b"\x00" * 70_000, "longer than"),
    ],
)
def test_what_looks_wrong_is_not_taken(reader: Reader, text: bytes, why: str) -> None:
    """The list stays as it was, and says why, until an update goes well."""
    reader.create(b"203.0.113.7\n203.0.113.8\n198.51.100.1\n")
    with pytest.raises((Refused, InvalidInput), match=why):
        reader.update(text)
    assert reader.blocked() == [LISTED, OTHER, FAR]
    (warning,) = reader.engine.warnings
    assert warning.count("list 'bans' stays as it was: ") == 1
    assert why in warning
    (described,) = reader.ask("ListLists")["lists"]
    assert why in described["problems"][0]
    assert reader.control.wanted_feed("UpdateList", {"name": "bans"}).etag == '"1"'
    reader.update(b"203.0.113.7\n203.0.113.8\n198.51.100.1\n")
    assert not reader.engine.warnings


def test_what_is_held_back_can_be_accepted(reader: Reader) -> None:
    """By hand, and then it is in force."""
    reader.create(b"203.0.113.7\n203.0.113.8\n198.51.100.1\n")
    reader.update(b"203.0.113.7\n", accept=True)
    assert reader.blocked() == [LISTED]


def test_malformed_lines_are_told(reader: Reader) -> None:
    """The others are used."""
    outcome = reader.create(b"203.0.113.7\nfoo\n")
    assert outcome["malformed"] == 1
    assert "line 2: 'foo'" in outcome["warnings"][0]
    assert reader.blocked() == [LISTED]


@pytest.mark.parametrize("form", [None, "csv:ip"])
def test_files_of_this_host_are_not_shown(reader: Reader, form: str | None) -> None:
    """The fetcher may read some that who asks may not."""
    url = "file:///srv/drop"
    for text in (b"secret\nwords\n", b"secret,ip\nwords,203.0.113.7\nsecret,words\n"):
        try:
            said = str(reader.create(text, url=url, format=form))
        except InvalidInput as error:
            said = f"{error} {error.source}"
        assert "secret" not in said
        assert "words" not in said
    if form:
        assert "line 3: what stands there is" in said


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://feeds.example/x", "https://", "https:///x", "feeds.example", "file://host/x"),
        *("https://user:word@feeds.example/x", "https://feeds.example/x#y", "https://x/a b"),
        *("https://x/\r\nX: y", "https://é.example/", "https://x/" + "y" * 2000, "https://[x/"),
        *("file:x", ""),
    ],
)
def test_what_is_no_url_is_refused(reader: Reader, url: str) -> None:
    """Before anybody is asked for it."""
    parameters = {"name": "bans", "url": url, "every_s": 3600.0, "format": "", "plain_http": True}
    with pytest.raises(InvalidInput):
        reader.control.wanted_feed("CreateFeed", parameters)


def test_what_cannot_be_fetched_for_is_refused(reader: Reader) -> None:
    """Plain HTTP unless somebody insists, times that are none, lists that are there or are not."""
    parameters = {"name": "bans", "url": "http://feeds.example/x", "every_s": 3600.0,
                  "format": "", "plain_http": False}  # fmt: skip
    with pytest.raises(Refused, match="plain HTTP"):
        reader.control.wanted_feed("CreateFeed", parameters)
    assert reader.control.wanted_feed("CreateFeed", {**parameters, "plain_http": True})
    assert reader.control.wanted_feed("CreateFeed", {**parameters, "url": "file:///srv/drop"})
    for every_s in (0.0, 59.0, 1e9, float("nan")):
        with pytest.raises(InvalidInput, match="between a minute and a year"):
            reader.control.wanted_feed("CreateFeed", {**parameters, "every_s": every_s})
    with pytest.raises(InvalidInput, match="no format"):
        reader.control.wanted_feed("CreateFeed", {**parameters, "format": "xml"})
    with pytest.raises(NotFound):
        reader.control.wanted_feed("UpdateList", {"name": "bans"})
    reader.change("CreateList", b"", name="bans")
    with pytest.raises(Refused, match="comes from no URL"):
        reader.control.wanted_feed("UpdateList", {"name": "bans"})
    with pytest.raises(Refused, match="already"):
        reader.control.wanted_feed("CreateFeed", parameters)


def test_when_feeds_are_due(reader: Reader) -> None:
    """By the interval and chance; after failures soon, and later each time; at a start soon."""
    assert reader.control.next_feed() is None
    reader.create(b"203.0.113.7\n")
    store = reader.engine.kept_lists.store
    now = 2_000_000_000.0
    feeds = Feeds(store, lambda: now, lambda: 0.5)
    assert feeds.next() == (now + 30, "bans")
    feeds.went_well("bans")
    assert feeds.next() == (now + 3600 * 1.05, "bans")
    pauses = []
    for _ in range(8):
        feeds.failed("bans", "HTTP 500")
        due = feeds.next()
        assert due
        pauses.append(due[0] - now)
    assert pauses[:3] == [FIRST_S * 0.75, FIRST_S * 1.5, FIRST_S * 3]
    assert max(pauses) == pauses[-1] == 3600 * 0.75
    assert feeds.warnings == ("list 'bans' stays as it was: HTTP 500",)
    feeds.went_well("bans")
    assert not feeds.warnings
    checked = store.lists["bans"].feed
    assert checked
    for now, due_in in ((checked.checked + 10, 3590.0), (1.0, 3600.0)):
        assert Feeds(store, lambda: now, lambda: 0.5).next() == (now + due_in, "bans")  # noqa: B023
    reader.change("DeleteList", name="bans")
    assert feeds.next() is None
    feeds.failed("bans", "late")
    assert not feeds.warnings
