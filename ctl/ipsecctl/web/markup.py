"""Owns how text becomes HTML, for all pages; must not know any of them.

1. What is not of type ``Markup`` is escaped. Only this module makes ``Markup``.
2. An address in a link, a form or a file to load is an ``Address``, which leads to this server.
3. Characters that hide text, turn it around or drive a terminal are shown as escapes.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from urllib.parse import quote, urlencode

from ipsecd.quoting import visible

EMPTY_TAGS = frozenset({"br", "input", "link", "meta"})
"""Elements without content or an end (HTML Living Standard, void elements)."""
_ADDRESSES = frozenset({"action", "href", "src"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


class Address(str):
    """Where something is on this server, relative to the page that names it."""

    __slots__ = ()


Content = str | Iterable["Content"] | None
"""Text, which is escaped, or markup, or several of them; None is nothing."""


def address(path: str, /, **query: str | None) -> Address:
    """The address of `path`, which has no directory, with what of the `query` is not empty."""
    given = {name: value for name, value in query.items() if value}
    return Address(quote(path, safe="") + (f"?{urlencode(given)}" if given else ""))


def tag(name: str, /, *content: Content, **attributes: str | bool | None) -> Markup:
    """The element `name`; ``class_`` is written ``class`` and ``data_x`` ``data-x``.

    An attribute that is True stands without a value, and one that is False or None is left out.
    Raises ``TypeError`` if an address is not one of this server.
    """
    written = "".join(
        _attribute(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in EMPTY_TAGS:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


def join(content: Iterable[Content], between: str = "") -> Markup:
    """All of `content` one after the other, with a text `between`."""
    return Markup(_escaped(between).join(_rendered(part) for part in content))


def lines(text: str) -> Markup:
    """A text that has line breaks of its own, for an element that shows them."""
    return Markup("\n".join(_escaped(line) for line in text.removesuffix("\n").split("\n")))


def document(head: Content, body: Content) -> Markup:
    """A whole page."""
    return Markup(
        "<!DOCTYPE html>\n" + tag("html", tag("head", head), tag("body", body), lang="en")
    )


def _rendered(part: Content) -> str:
    if part is None:
        return ""
    if isinstance(part, Markup):
        return part
    if isinstance(part, str):
        return _escaped(part)
    return "".join(_rendered(inner) for inner in part)


def _escaped(text: str) -> str:
    return escape(visible(text))


def _attribute(name: str, value: str | bool) -> str:
    if value is True:
        return f" {name}"
    if name in _ADDRESSES and not isinstance(value, Address):
        raise TypeError(f"{name} needs an address of this server")
    return f' {name}="{_escaped(str(value))}"'
