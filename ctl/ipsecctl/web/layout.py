"""Owns what all pages have around them: the menu, the files they load; must not know any page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ipsecctl.web.markup import Address, Content, address, document, tag

HERE = Path(__file__).parent
FILES = {
    "style.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The files beside this module that a browser loads."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a page is, but for its content.

    `path` is its place in the menu, `seconds` how often it is looked at again by a script, and
    `plain_seconds` by a browser without one; 0 is never.
    """

    path: str
    title: str
    host: str
    seconds: int = 0
    plain_seconds: int = 0


def page(frame: Frame, menu: Sequence[tuple[str, str]], content: Content) -> bytes:
    """A whole page; `menu` has the path and the title of each page in it."""
    again = (
        tag("noscript", tag("meta", http_equiv="refresh", content=str(frame.plain_seconds)))
        if frame.plain_seconds
        else None
    )
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{frame.title} · {frame.host}"),
        tag("link", rel="stylesheet", href=address("style.css")),
        tag("link", rel="icon", href=address("icon.svg"), type="image/svg+xml"),
        tag("script", src=address("page.js"), defer=True),
        again,
    ]
    links = [
        tag(
            "a",
            title,
            href=address(path),
            aria_current="page" if path == frame.path else None,
        )
        for path, title in menu
    ]
    body = [
        tag("a", "To the content", href=Address("#content"), class_="skip"),
        tag(
            "header",
            tag("p", tag("strong", "ipsecd"), " on ", tag("span", frame.host), class_="brand"),
            tag("nav", links, aria_label="Pages"),
        ),
        tag("p", "", id="gone", class_="notice bad", role="alert", hidden=True),
        tag(
            "main",
            tag("h1", frame.title),
            content,
            id="content",
            data_seconds=str(frame.seconds) if frame.seconds else None,
        ),
        tag("footer", "For looking only. Change something with ", tag("code", "ipsecctl"), "."),
    ]
    return str(document(head, body)).encode()
