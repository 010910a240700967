"""Owns the methods about lists that come from URLs, and what has to be fetched for them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from ipsecd.control.list_changes import carried_out, must_pass, sentence
from ipsecd.control.method import Method, Parameters, Request, Role, Work
from ipsecd.engine import Engine
from ipsecd.engine.confirmation import Part
from ipsecd.errors import InvalidInput, IpsecdError, Refused
from ipsecd.language.address_lists import ReadList, read_list
from ipsecd.language.list_formats import check_format
from ipsecd.model.lists import AddressList
from ipsecd.quoting import quote, quote_path
from ipsecd.sources.list_files import LEAST_EVERY_S, MAX_EVERY_S, Feed, shown_url

MAX_URL = 2000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A feed that is to be fetched, and what its server said of the state that is here."""

    url: str
    etag: str = ""
    modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched, or that nothing is new; and what the server said of it."""

    text: bytes
    unchanged: bool = False
    etag: str = ""
    modified: str = ""


def wanted(engine: Engine, method: str, parameters: Parameters) -> Wanted:
    """What has to be fetched before a method can be carried out; raises ``IpsecdError``."""
    store, name = engine.kept_lists.store, parameters["name"]
    if method == "CreateFeed":
        store.must_be_new(name)
        _check(parameters)
        return Wanted(parameters["url"])
    feed = _feed_of(engine, name)
    return Wanted(feed.url, feed.etag, feed.modified)


def _create_feed(engine: Engine, request: Request) -> dict[str, Any]:
    store, name, fetched = engine.kept_lists.store, request["name"], request["fetched"]
    store.must_be_new(name)
    form = request["format"] or ""
    read = _read(fetched.text, request["url"], form)
    must_pass(AddressList(), read.addresses, request, malformed=read.malformed)
    now = time.time()
    url, every_s = request["url"], int(request["every_s"])
    feed = Feed(url, every_s, form, fetched.etag, fetched.modified, now, now, read.addresses)
    change = store.create_feed(name, feed)
    dry_run = bool(request["dry_run"])
    words = sentence(request, "made")
    counts = bool(request["counted"])
    reply = carried_out(engine, name, change, words, read, dry_run=dry_run, new_counts=counts)
    if not dry_run:
        engine.kept_lists.feeds.went_well(name)
    return reply


def _update_list(engine: Engine, request: Request) -> dict[str, Any]:
    """Take what was fetched; what keeps it from being taken is told with the list."""
    name = request["name"]
    try:
        reply = _updated(engine, name, request)
    except IpsecdError as error:
        engine.kept_lists.feeds.failed(name, str(error))
        raise
    engine.kept_lists.feeds.went_well(name)
    return reply


def _updated(engine: Engine, name: str, request: Request) -> dict[str, Any]:
    store, fetched = engine.kept_lists.store, request["fetched"]
    feed = _feed_of(engine, name)
    now = time.time()
    if fetched.unchanged:
        change = store.update(name, replace(feed, checked=now))
        message = f"nothing is new in list {name!r}"
        return carried_out(engine, name, change, message, changed=False)
    read = _read(fetched.text, feed.url, feed.form)
    must_pass(feed.addresses, read.addresses, request, malformed=read.malformed)
    new = replace(
        feed,
        etag=fetched.etag,
        modified=fetched.modified,
        fetched=now,
        checked=now,
        addresses=read.addresses,
    )
    change = store.update(name, new)
    changed = read.addresses != feed.addresses
    return carried_out(engine, name, change, f"list {name!r} is updated", read, changed=changed)


def _read(text: bytes, url: str, form: str) -> ReadList:
    """What was fetched from a URL; raises ``InvalidInput`` or ``LimitExceeded``.

    The fetcher may read files of this host that who asks may not. So nothing of the text of such a
    file is shown.
    """
    if not url.startswith("file:"):
        return read_list(text, shown_url(url), form)
    try:
        read = read_list(text, url, form)
    except InvalidInput as error:
        raise InvalidInput(
            f"{quote_path(url)} holds no address list, or none in this form",
            "ipsecctl list check FILE says why, to whoever may read the file",
        ) from error
    return replace(read, shown=tuple(replace(line, text="") for line in read.shown))


def _feed_of(engine: Engine, name: str) -> Feed:
    feed = engine.kept_lists.store.get(name).feed
    if feed is None:
        raise Refused(
            f"list {quote(name)} comes from no URL",
            f"replace what it holds with: ipsecctl list replace {name} FILE",
        )
    return feed


def _check(parameters: Parameters) -> None:
    """Raise ``InvalidInput`` or ``Refused`` unless there can be such a feed."""
    if parameters["format"]:
        check_format(parameters["format"])
    every_s = parameters["every_s"]
    if not LEAST_EVERY_S <= every_s <= MAX_EVERY_S:
        raise InvalidInput(
            f"{every_s:g} s is not between a minute and a year", "write --every 1d for once a day"
        )
    url = parameters["url"]
    try:
        parts = urlsplit(url)
        is_url = bool(parts.hostname) if parts.scheme != "file" else parts.path.startswith("/")
        is_plain = parts.username is None and not parts.fragment
    except ValueError:
        is_url = is_plain = False
    if (
        not is_url
        or not is_plain
        or len(url) > MAX_URL
        or not (url.isascii() and url.isprintable() and " " not in url)
        or parts.scheme not in {"https", "http", "file"}
        or (parts.scheme == "file" and parts.netloc)
    ):
        raise InvalidInput(
            f"{quote(url)} is not the URL of a feed",
            "write https://HOST/PATH or file:///PATH, without a user and a fragment",
        )
    if parts.scheme == "http" and not parameters["plain_http"]:
        raise Refused(
            f"{quote(url)} is plain HTTP: whoever is between can put anything into the list",
            "use https:, or have it all the same with --plain-http",
        )


def _await_feeds(_: Engine, __: Request) -> dict[str, Any]:
    return {"number": 0, "url": "", "etag": "", "modified": ""}


def _answer_feed(_: Engine, __: Request) -> dict[str, Any]:
    return {}


METHODS = (
    Method("CreateFeed", Role.CHANGE, Work.CHANGE, _create_feed, takes_feed=True, part=Part.LISTS),
    Method("UpdateList", Role.CHANGE, Work.CHANGE, _update_list, takes_feed=True, part=Part.LISTS),
    Method("AwaitFeeds", Role.FETCH, Work.QUICK, _await_feeds, for_fetcher=True),
    Method(
        "AnswerFeed",
        Role.FETCH,
        Work.QUICK,
        _answer_feed,
        takes_document=True,
        takes_list=True,
        for_fetcher=True,
    ),
)
