"""Text of others stays text, whatever is in it, and every address leads to this server."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecctl.web.markup import Markup, address, document, join, lines, tag
from ipsecd.quoting import visible

ANY = st.text(st.characters(exclude_categories=()), max_size=40)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</td></table><h1>forged",
    "&lt;b&gt;",
    "a\nb\r\n\r\nc",
    "\x1b[31mred\x07",
    "\u202edesrever",
    "{{7*7}}${7*7}",
)


class Reader(HTMLParser):
    """What a browser makes of markup: elements, their attributes, and text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(text: str) -> None:
    """In an element, in an attribute and in a document of its own lines."""
    read = Reader(tag("p", text, tag("b", text), title=text))
    assert [name for name, _ in read.elements] == ["p", "b"]
    assert read.elements[0][1] == {"title": visible(text)}
    assert read.text == visible(text) * 2
    assert Reader(tag("pre", lines(text))).text == "\n".join(map(visible, text.split("\n")))


@given(st.lists(ANY, min_size=1, max_size=4))
def test_any_text_is_text(texts: list[str]) -> None:
    """No text makes an element, leaves an attribute, or is lost."""
    read = Reader(tag("p", texts, data_text=texts[0]))
    assert read.elements == [("p", {"data-text": visible(texts[0])})]
    assert read.text == "".join(map(visible, texts))
    assert "".join(map(visible, texts)).isprintable()


def test_markup_is_not_escaped_again() -> None:
    """What is markup by its type stays what it is, and nothing else does."""
    inner = tag("b", "1 < 2")
    assert tag("p", inner) == "<p><b>1 &lt; 2</b></p>"
    assert tag("p", str(inner)) != tag("p", inner)
    assert not isinstance(inner + "<i>", Markup)
    assert join([inner, "<i>"], "&") == "<b>1 &lt; 2</b>&amp;&lt;i&gt;"


def test_attributes() -> None:
    """True stands alone, None and False are left out, and names are those of HTML."""
    made = tag("input", type="text", autofocus=True, disabled=False, value=None, aria_label="x")
    assert made == '<input type="text" autofocus aria-label="x">'


@pytest.mark.parametrize("name", ["href", "src", "action"])
@pytest.mark.parametrize("text", ["javascript:alert(1)", "https://evil.example/", "rules"])
def test_an_address_that_is_a_mere_text_is_refused(name: str, text: str) -> None:
    """Only what was made as an address of this server is one."""
    attributes: dict[str, Any] = {name: text}
    with pytest.raises(TypeError):
        tag("a", "x", **attributes)


@pytest.mark.parametrize("text", HOSTILE)
def test_an_address_leads_here_whatever_is_asked(text: str) -> None:
    """A name cannot add a parameter, a scheme, a host or a directory to it."""
    made = address("policy", name=text, sort=None)
    assert made.startswith("policy?name=")
    assert not set(made) & set("<>\"' \n&;:")
    assert ":" not in address(text).partition("?")[0]
    assert "/" not in address(text)


def test_a_document_begins_as_one() -> None:
    """A browser that sees another beginning would read it as a page of the nineties."""
    made = document(tag("title", "x"), tag("p", "y"))
    assert made.startswith('<!DOCTYPE html>\n<html lang="en"><head><title>x</title></head><body>')
