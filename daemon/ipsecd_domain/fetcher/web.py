"""Owns reading files from a web server, over urllib3 (1.26 and 2).

1. A redirect leads to the same or a safer scheme: from ``https`` never back to ``http``.
2. What comes encoded is refused, so that a little on the wire is never much in memory.
3. Proxies are those of the settings; the environment is not asked.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote as quote_url
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers, parse_url
from urllib3.util.ssl_ import create_urllib3_context

from ipsecd import __version__
from ipsecd.errors import InvalidInput
from ipsecd.quoting import quote, quote_path, shorten
from ipsecd_domain.errors import Missing, NotFetched, words_of
from ipsecd_domain.fetcher.source import Content, check_path
from ipsecd_domain.tls import TlsFiles

CONNECT_S, READ_S = 10.0, 30.0
AGENT = f"ipsecd-domain/{__version__}"
MOST_REDIRECTS = 5
MOST_TAG = 256
"""Characters of an ETag that are kept."""
PIECE = 1 << 16
SETTLED = timedelta(seconds=5)
"""So long after a change of a file its tag is believed to stand for it alone."""
_SAFETY = {"http": 0, "https": 1}
_REDIRECTS = (301, 302, 303, 307, 308)
_NOT_THERE = (403, 404, 410)
"""403 too: it is what object stores answer for what is not there."""


class WebSource:
    """A repository below one URL; keeps its connections until it is closed."""

    def __init__(self, url: str, tls: TlsFiles, proxy: str) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None or parts.query or parts.fragment:
            raise InvalidInput(
                "the source is not a plain URL: it has no host, or a user, a query or a fragment",
                "write https://HOST/PATH; a client certificate says who asks",
            )
        self._base = url.rstrip("/") + "/"
        self._pool = pool_of(context_of(tls), proxy)

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def read(self, path: str, most: int) -> bytes:
        """All of a file."""
        content = self.read_if_changed(path, most, "")
        if content is None:
            raise NotFetched(f"the server says that {quote(path)} has not changed, unasked")
        return content.data

    def read_if_changed(self, path: str, most: int, tag: str) -> Content | None:
        """The file, or None if the server answers 304 for `tag`."""
        url = self._base + quote_url(check_path(path))
        for _ in range(MOST_REDIRECTS + 1):
            response = self._get(url, tag)
            try:
                if response.status == 304 and tag:
                    return None
                if not is_redirect(response.status):
                    return _content(response, url, most)
                url = followed(url, response.headers.get("Location") or "")
            finally:
                response.close()
        raise NotFetched(
            f"{quote_path(url)} leads on after {MOST_REDIRECTS} redirects",
            "name the last URL as the source",
        )

    def _get(self, url: str, tag: str) -> urllib3.BaseHTTPResponse:
        headers = {"Accept-Encoding": "identity", "User-Agent": AGENT}
        if tag:
            headers["If-None-Match"] = tag
        return requested(self._pool, url, headers, url)


def requested(
    pool: urllib3.PoolManager, url: str, headers: Mapping[str, str], shown: str
) -> urllib3.BaseHTTPResponse:
    """The answer to a question for a URL, whose content is still to be read as it was sent.

    Raises ``NotFetched`` about the URL as it is `shown` if there is none.
    """
    try:
        return pool.request(
            "GET",
            url,
            headers=headers,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
        )
    except (HTTPError, OSError, ValueError) as error:
        raise unreachable(shown, error) from error


def is_redirect(status: int) -> bool:
    """Whether an answer with this status leads elsewhere."""
    return status in _REDIRECTS


def post(url: str, data: bytes, tls: TlsFiles, proxy: str) -> None:
    """Send a JSON text to a web server; raises ``NotFetched`` if that does not take it."""
    pool = pool_of(context_of(tls), proxy)
    try:
        response = pool.request(
            "POST",
            url,
            body=data,
            headers={"Content-Type": "application/json", "User-Agent": AGENT},
            redirect=False,
            retries=False,
            preload_content=False,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
        )
        response.close()
    except (HTTPError, OSError, ValueError) as error:
        raise unreachable(url, error) from error
    finally:
        pool.clear()
    if not 200 <= response.status < 300:
        raise NotFetched(f"{quote_path(url)} was answered with HTTP status {response.status}")


def _content(response: urllib3.BaseHTTPResponse, url: str, most: int) -> Content:
    """What an answer that is none of the special ones holds."""
    if response.status in _NOT_THERE:
        raise Missing(
            f"{quote_path(url)} is not there (HTTP status {response.status})",
            "see whether the source is right, and was copied as a whole",
        )
    if response.status != 200:
        raise NotFetched(
            f"{quote_path(url)} was answered with HTTP status {response.status}",
            "the log of the web server says more",
        )
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise NotFetched(
            f"{quote_path(url)} came encoded, though it was asked for as it is",
            "switch compression off for the repository",
        )
    pieces, length = [], 0
    try:
        while piece := response.read(min(PIECE, most + 1 - length)):
            pieces.append(piece)
            length += len(piece)
            if length > most:
                raise NotFetched(
                    f"{quote_path(url)} is longer than {most:,} bytes",
                    "what is signed is not as long; somebody has put another file in its place",
                )
    except (HTTPError, OSError, ValueError) as error:
        raise unreachable(url, error) from error
    announced = response.headers.get("Content-Length") or ""
    # Of urllib3 only version 2 sees this by itself.
    if announced.isdecimal() and int(announced) != length:
        raise NotFetched(
            f"{quote_path(url)} ended after {length:,} of {int(announced):,} bytes",
            "see what is between; the next look is soon",
        )
    return Content(b"".join(pieces), tag_of(response.headers))


def tag_of(headers: Mapping[str, str]) -> str:
    """The tag that an answer came with, if the next state of the file will have another one.

    Web servers make it of the time in seconds and the size (RFC 9110, section 8.8.1): two states
    of one second have the same.
    """
    tag = headers.get("ETag") or ""
    if len(tag) > MOST_TAG or not tag.isprintable():
        return ""
    changed, answered = headers.get("Last-Modified"), headers.get("Date")
    if changed and answered:
        try:
            age = parsedate_to_datetime(answered) - parsedate_to_datetime(changed)
        except (TypeError, ValueError):
            return ""
        return tag if age > SETTLED else ""
    return tag


def followed(url: str, location: str) -> str:
    """Where a redirect from `url` leads; raises ``NotFetched`` if one must not go there."""
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
    except ValueError:
        parts = urlsplit("")
    if (
        not location
        or not parts.hostname
        or _SAFETY.get(parts.scheme, -1) < _SAFETY[urlsplit(url).scheme]
    ):
        raise NotFetched(
            f"{quote_path(url)} leads to {quote(location)}, which is not as safe",
            "name the right URL as the source",
        )
    return target


def context_of(tls: TlsFiles) -> ssl.SSLContext:
    """What TLS goes by: these files, or else the authorities of the system."""
    try:
        # One of ssl's own knows no addresses in the place of names under urllib3 1.26.
        context = create_urllib3_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.ca:
            context.load_verify_locations(tls.ca)
        else:
            context.load_default_certs()
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key or None)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"the certificates of the settings cannot be used: {shorten(str(error))}",
            "user ipsecd-domain must be able to read the files of ca, certificate and key",
        ) from error
    return context


def pool_of(context: ssl.SSLContext, proxy: str) -> urllib3.PoolManager:
    """Connections, by way of a proxy if one is given."""
    if not proxy:
        return urllib3.PoolManager(ssl_context=context)
    try:
        who = parse_url(proxy).auth
        headers = make_headers(proxy_basic_auth=who) if who else None
        return urllib3.ProxyManager(
            proxy, proxy_headers=headers, ssl_context=context, proxy_ssl_context=context
        )
    except (HTTPError, ValueError) as error:
        raise InvalidInput(
            "the proxy of the settings is not one", "write http://HOST:PORT"
        ) from error


def unreachable(url: str, error: Exception) -> NotFetched:
    """The error to raise when a server cannot be reached, or breaks off."""
    return NotFetched(
        f"{quote_path(url)} could not be read: {words_of(error)}",
        "what is in force stays in force; see whether the server runs, and what is between",
    )
