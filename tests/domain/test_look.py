"""When a look asks for more than whether anything has changed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ipsecd_domain.bundle import read_bundle
from ipsecd_domain.errors import Expired, NotTrusted
from ipsecd_domain.fetcher import look as look_module
from ipsecd_domain.fetcher.look import Looker, News
from ipsecd_domain.fetcher.settings import Domain, Settings
from ipsecd_domain.selection import Host
from ipsecd_domain.trusted import refresh
from tests.domain.fake_web import FakeWeb, Handler, fake_web
from tests.domain.signed import SignedRepository


class Looking:
    """A looker, and a daemon's side that trusts what it brings."""

    def __init__(self, repository: SignedRepository, web: FakeWeb) -> None:
        self.repository = repository
        self.web = web
        self.settings = Settings(web.url, host="web1")
        self.trusted = {"root.json": repository.root.decode()}
        self._looker = Looker()

    def look(self, *, whole: bool = False, rung: bool = False) -> list[str]:
        """The paths that the look asked the server for."""
        before = len(self.web.answered)
        news = self._looker.look(Domain(self.settings, self.trusted), whole=whole, rung=rung)
        if news:
            self._take(news)
        return [path.removeprefix("/") for _, path in self.web.answered[before:]]

    def _take(self, news: News) -> None:
        fetch = read_bundle(json.loads(b"".join(news.bundle))).fetch
        self.trusted = dict(refresh(self.trusted, Host("web1"), fetch).trusted)


TIMESTAMP = ["metadata/timestamp.json"]


@pytest.fixture
def looking(tmp_path: Path) -> Iterator[Looking]:
    repository = SignedRepository(tmp_path / "fleet", timedelta(seconds=4))
    repository.publish(1)
    with fake_web(repository.directory) as web:
        looking = Looking(repository, web)
        assert len(looking.look()) > 3
        assert looking.look() == TIMESTAMP
        yield looking


def test_what_was_asked_for_is_gone_through_as_a_whole(looking: Looking) -> None:
    """Who asks wants to be sure; and the next look is a small one again."""
    assert len(looking.look(whole=True)) > 3
    assert looking.look() == TIMESTAMP


def test_once_a_day_it_is_gone_through_as_a_whole(
    looking: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New keys can come without a new timestamp."""
    monkeypatch.setattr(look_module, "WHOLE_EVERY", timedelta(0))
    assert "metadata/2.root.json" in looking.look()


def test_another_host_is_asked_for_as_a_whole(looking: Looking) -> None:
    """With other labels the same repository may have another policy for it."""
    looking.settings = Settings(looking.web.url, host="web1", labels=(("site", "paris"),))
    assert len(looking.look()) > 3


def test_what_the_daemon_does_not_trust_is_brought_again(looking: Looking) -> None:
    """It may have lost its file, or trust another root."""
    looking.trusted = {"root.json": looking.repository.root.decode()}
    assert len(looking.look()) > 3


def test_a_word_that_nothing_has_changed_is_not_enough_where_it_was_rung(
    looking: Looking,
) -> None:
    """A server, or a cache, may know only an old state."""

    def old(handler: Handler) -> bool:
        tagged = bool(handler.headers.get("If-None-Match"))
        if tagged:
            handler.answer(304, b"")
        return tagged

    looking.web.misbehave.append(old)
    looking.repository.publish(2)
    assert looking.look() == TIMESTAMP
    assert len(looking.look(rung=True)) > 3


def test_what_has_expired_is_said_though_nothing_has_changed(looking: Looking) -> None:
    """Somebody may hold back what is newer."""
    time.sleep(4.5)
    with pytest.raises(Expired):
        looking.look()


def test_a_failure_is_no_state_that_was_seen(looking: Looking) -> None:
    """The look after it goes through all again."""
    timestamp = looking.repository.directory / "metadata/timestamp.json"
    good = timestamp.read_bytes()
    timestamp.write_bytes(good.replace(b'"sig"', b'"gis"'))
    for _ in range(2):
        with pytest.raises(NotTrusted):
            looking.look()
    timestamp.write_bytes(good)
    assert len(looking.look()) > 3
