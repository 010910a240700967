"""Owns what is answered to a browser, as a value and as bytes; must not know what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What a page may load, run and send: files of this server only, and nothing that is written in
the page itself (Content Security Policy Level 3)."""
ALWAYS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Connection": "close",
}
"""The headers of every answer. A connection carries one request, so that none can hide in another
one behind a proxy that reads it differently."""
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
EVENTS = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Response:
    """An answer with its whole body."""

    status: int
    body: bytes
    kind: str = HTML
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self, *, is_head: bool = False) -> bytes:
        """What goes to the browser; to a HEAD request without the body."""
        length = {"Content-Length": str(len(self.body))}
        head = head_of(self.status, self.kind, {**length, **self.headers})
        return head if is_head else head + self.body


def head_of(status: int, kind: str, headers: Mapping[str, str]) -> bytes:
    """The head of an answer, with the empty line that ends it."""
    reason = HTTPStatus(status).phrase
    every = {"Content-Type": kind, **ALWAYS, **headers}
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {text}" for name, text in every.items())]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")


def plain(status: int, text: str, **headers: str) -> Response:
    """A short answer in words."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, f"{text}\n".encode(), TEXT, named)
