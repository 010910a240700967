"""Owns what a browser asks, as bytes and as a value; must not know sockets, pages or who may ask.

It reads a small part of HTTP/1.1 (RFC 9112): the head of a GET or HEAD request without a body.
Any bytes give a ``Request`` or one ``BadRequest``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

MOST_BYTES = 16 << 10
MOST_HEADERS = 64
MOST_PARAMETERS = 32
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"/[!-~]*")
_VERSIONS = ("HTTP/1.1", "HTTP/1.0")
_ONCE = frozenset(
    {"content-length", "cookie", "host", "origin", "sec-fetch-site", "transfer-encoding"}
)
"""What is decided by, so that two of them would be read in two ways."""


class BadRequest(Exception):
    """A request that is not answered; `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Request:
    """A request; names of headers are in lower case, the path and the query are decoded."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    is_head: bool = False

    def cookie(self, name: str) -> str:
        """The value of a cookie, "" if there is none."""
        for part in self.headers.get("cookie", "").split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
        return ""


def read_head(head: bytes) -> Request:
    """The request in `head`, all bytes before the empty line; raises ``BadRequest``."""
    try:
        first, *rest = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError as error:
        raise BadRequest(400, "the request is not ASCII") from error
    method, target, version = _words(first)
    if version not in _VERSIONS:
        raise BadRequest(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if method not in ("GET", "HEAD"):
        raise BadRequest(405, "this page is for looking only: GET and HEAD")
    headers = _headers(rest)
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise BadRequest(413, "a request has no body here")
    path, _, query = target.partition("?")
    return Request(_decoded(path), _query(query), headers, method == "HEAD")


def _words(line: str) -> tuple[str, str, str]:
    words = line.split(" ")
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or not _TARGET.fullmatch(words[1]):
        raise BadRequest(400, "the request line is not one of HTTP")
    return words[0], words[1], words[2]


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > MOST_HEADERS:
        raise BadRequest(431, f"the request has more than {MOST_HEADERS} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        if not colon or not _TOKEN.fullmatch(name) or not value.replace("\t", " ").isprintable():
            raise BadRequest(400, "a header is not one of HTTP")
        name = name.lower()
        if name in headers and name in _ONCE:
            raise BadRequest(400, f"the header {name} stands twice in the request")
        headers[name] = value
    return headers


def _decoded(path: str) -> str:
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError as error:
        raise BadRequest(400, "the path is not UTF-8") from error


def _query(text: str) -> dict[str, str]:
    try:
        return dict(
            parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
        )
    except ValueError as error:
        raise BadRequest(400, "the query is too long, or not UTF-8") from error
