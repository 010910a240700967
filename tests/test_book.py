"""The book: every page is reached from its index, every link leads somewhere, all of it is here."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ipsecd.control import METHODS
from ipsecd.service import reference

ROOT = Path(__file__).parents[1]
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
"""The attributes of elements with what a browser loads by itself."""


class _Loads(HTMLParser):
    """Notes what a page has a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(LOADED.get(tag, ""))
        if address:
            self.addresses.append(address)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book as HTML; a warning is an error: a broken link, or a page that no other leads to."""
    made = tmp_path_factory.mktemp("book")
    options = ("--quiet", "--fail-on-warning", "--keep-going")
    words: list[str | Path] = [
        sys.executable,
        "-m",
        "sphinx",
        *options,
        "-c",
        ROOT / "docs",
        ROOT,
        made,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return made


def pages(book: Path) -> Iterator[tuple[str, str]]:
    for page in sorted(book.rglob("*.html")):
        yield str(page.relative_to(book)), page.read_text()


def test_every_page_is_in_it(book: Path) -> None:
    """Also manual pages, and the parts that begin outside of docs."""
    expected = {page.relative_to(ROOT).with_suffix("") for page in ROOT.glob("docs/**/*.md")}
    expected = {page for page in expected if "changelog.d" not in page.parts}
    expected |= {Path("README"), Path("CONTRIBUTING"), Path("docs/reference/man/ipsecctl.1")}
    assert {str(page) for page in expected} <= {
        name.removesuffix(".html") for name, _ in pages(book)
    }


def test_no_page_has_anything_loaded_from_elsewhere(book: Path) -> None:
    """It can be read without a network, and tells nobody who reads it."""
    for name, text in pages(book):
        loads = _Loads()
        loads.feed(text)
        assert loads.addresses, name
        assert not [each for each in loads.addresses if re.match(r"(\w+:)?//", each)], name
    for sheet in book.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(\w+:)?//", sheet.read_text()), sheet


def test_the_reference_has_every_method(book: Path) -> None:
    """As the description of the interface has them; make generated writes it."""
    assert reference.PAGE.read_text() == reference.protocol()
    text = (book / "docs/reference/protocol.html").read_text()
    for name in METHODS:
        assert f"<h3>{name}<" in text, name
