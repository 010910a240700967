"""Owns the process that fetches one feed of addresses; must not know lists, nor the daemon.

It reads a question from standard input, writes what the feed holds to standard output, a file in
memory, and says to standard error what came of it. Whatever a server does, whoever waits for this
process ends it after a time:

1. No more than so many bytes are read and kept.
2. A redirect leads to the same or a safer scheme, never to a file, and there are few of them.
3. What comes encoded, cut off or with another status than 200 and 304 is no content.
4. It writes to no file that was not open when it was started, and reads those alone that it needs:
   where the kernel has landlock(7), a server that took it over would find nothing of this host.
"""

from __future__ import annotations

import json
import os
import resource
import ssl
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError

import ipsecd
from ipsecd.errors import IpsecdError
from ipsecd.host import capabilities, landlock
from ipsecd.quoting import quote_path
from ipsecd_domain.errors import NotFetched
from ipsecd_domain.fetcher.web import (
    AGENT,
    MOST_REDIRECTS,
    PIECE,
    context_of,
    followed,
    is_redirect,
    pool_of,
    requested,
    tag_of,
    unreachable,
)
from ipsecd_domain.tls import TlsFiles

MAX_BYTES = 1 << 27
"""What the daemon takes for a list, at the most."""
MAX_DATE = 64
"""Characters of a date that are kept."""
CONTENT, ANSWER = 1, 2
"""The descriptors to which the content and the answer go: nobody reads them on a terminal."""
MAX_MEMORY = 1 << 30
"""Of address space, most of which is libraries; the content is written as it comes."""

_READABLE = (
    # Python, its libraries and what OpenSSL reads when it is loaded; whom TLS trusts.
    *("/usr", "/lib", "/lib64", sys.prefix, sys.base_prefix, "/etc/ld.so.cache"),
    *("/etc/ssl/openssl.cnf", "/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust"),
    # What the C library looks names up with; and what Python asks of the system.
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"),
    *("/etc/services", "/etc/localtime", "/proc/self", "/dev/null", "/dev/urandom"),
)


@dataclass(frozen=True, slots=True)
class Question:
    """Where a feed is, and by what its server knows the state of it that is here."""

    url: str
    etag: str = ""
    modified: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it: a problem, or that nothing is new, or by what the new state is known."""

    problem: str = ""
    hint: str = ""
    unchanged: bool = False
    etag: str = ""
    modified: str = ""


def main() -> int:
    """Answer the question on standard input."""
    for kind, most in (
        (resource.RLIMIT_FSIZE, MAX_BYTES + PIECE),
        (resource.RLIMIT_AS, MAX_MEMORY),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))
    question = Question(**json.load(sys.stdin))
    confine(question.url)
    try:
        answer = fetch(question, CONTENT)
    except IpsecdError as error:
        answer = Answer(error.message, error.hint)
    except MemoryError:
        answer = Answer(f"{quote_path(shown(question.url))} needs too much memory")
    with open(ANSWER, "w", encoding="utf-8", closefd=False) as out:
        json.dump(asdict(answer), out)
    return 0


def confine(url: str) -> bool:
    """Give up for ever what is not needed to fetch a feed from there; raises ``OSError``.

    Whether the kernel can keep files from it. Its unit has left it no capabilities, and forbids it
    the call that drops them.
    """
    capabilities.forbid_new_privileges()
    trusted = ssl.get_default_verify_paths()
    parts = urlsplit(url)
    paths = (
        *_READABLE,
        *(path for path in sys.path if path),
        str(Path(ipsecd.__file__).parents[1]),
        *(path for path in (trusted.cafile, trusted.capath) if path),
        *((unquote(parts.path),) if parts.scheme == "file" else ()),
    )
    return landlock.confine(paths, (), may_connect=True)


def fetch(question: Question, target: int, most: int = MAX_BYTES) -> Answer:
    """Write what a feed holds to the descriptor `target`; raises ``NotFetched``."""
    if urlsplit(question.url).scheme == "file":
        _copy_file(question.url, target, most)
        return Answer()
    context = context_of(TlsFiles())
    pools: dict[str, urllib3.PoolManager] = {}
    url = question.url
    try:
        for _ in range(MOST_REDIRECTS + 1):
            proxy = _proxy_for(url)
            pool = pools.get(proxy) or pools.setdefault(proxy, pool_of(context, proxy))
            response = _get(pool, url, question)
            try:
                if response.status == 304 and (question.etag or question.modified):
                    return Answer(unchanged=True, etag=question.etag, modified=question.modified)
                if is_redirect(response.status):
                    url = followed(url, response.headers.get("Location") or "")
                    continue
                _copy(response, url, target, most)
                tag = tag_of(response.headers)
                return Answer(etag=tag, modified=_date(response.headers) if not tag else "")
            finally:
                response.close()
    finally:
        for pool in pools.values():
            pool.clear()
    raise NotFetched(
        f"{quote_path(shown(question.url))} leads on after {MOST_REDIRECTS} redirects",
        "name the last URL as the source",
    )


def _proxy_for(url: str) -> str:
    """The proxy that the environment of the unit names for a URL; "" for none."""
    parts, proxies = urlsplit(url), getproxies_environment()
    if proxy_bypass(parts.netloc):
        return ""
    return proxies.get(parts.scheme) or proxies.get("all") or ""


def _get(pool: urllib3.PoolManager, url: str, question: Question) -> urllib3.BaseHTTPResponse:
    headers = {"Accept-Encoding": "identity", "User-Agent": AGENT}
    if question.etag:
        headers["If-None-Match"] = question.etag
    elif question.modified:
        headers["If-Modified-Since"] = question.modified
    return requested(pool, url, headers, shown(url))


def _copy(response: urllib3.BaseHTTPResponse, url: str, target: int, most: int) -> None:
    if response.status != 200:
        raise NotFetched(
            f"{quote_path(shown(url))} was answered with HTTP status {response.status}",
            "see whether the URL is right, and may be asked so often",
        )
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise NotFetched(
            f"{quote_path(shown(url))} came encoded, though it was asked for as it is",
            "name a URL that gives it as text",
        )
    announced = response.headers.get("Content-Length") or ""
    if announced.isdecimal() and int(announced) > most:
        raise _too_long(url, most)
    length = 0
    try:
        while piece := response.read(min(PIECE, most + 1 - length)):
            length += len(piece)
            if length > most:
                raise _too_long(url, most)
            os.write(target, piece)
    except (HTTPError, OSError, ValueError) as error:
        raise unreachable(shown(url), error) from error
    if announced.isdecimal() and int(announced) != length:
        raise NotFetched(
            f"{quote_path(shown(url))} ended after {length:,} of {int(announced):,} bytes",
            "see what is between; it is tried again soon",
        )


def _copy_file(url: str, target: int, most: int) -> None:
    path = unquote(urlsplit(url).path)
    try:
        # What is no file, a FIFO for one, must not make us wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise NotFetched(f"{quote_path(path)} is not a file", "name a file")
            length = 0
            while piece := file.read(PIECE):
                length += len(piece)
                if length > most:
                    raise _too_long(url, most)
                os.write(target, piece)
    except OSError as error:
        raise NotFetched(
            f"{quote_path(path)} cannot be read: {error.strerror or error}",
            "user ipsecd-domain must be able to read it; its unit sees neither /home nor /tmp",
        ) from error


def shown(url: str) -> str:
    """A URL as everybody may see it: what is behind the question mark may be a secret."""
    place, mark, _ = url.partition("?")
    return f"{place}?…" if mark else place


def _too_long(url: str, most: int) -> NotFetched:
    return NotFetched(f"{quote_path(shown(url))} is longer than {most:,} bytes", "split it")


def _date(headers: Mapping[str, str]) -> str:
    """When the server says that the feed was changed, for the next question."""
    date = headers.get("Last-Modified") or ""
    return date if len(date) <= MAX_DATE and date.isprintable() and date.isascii() else ""


if __name__ == "__main__":
    sys.exit(main())
