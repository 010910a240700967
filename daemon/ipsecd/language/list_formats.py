"""Owns the forms in which lists are written line by line; must not know entries or files.

* ``plain``: an entry a line; also netsets of FireHOL and the text of Spamhaus DROP;
* ``json``: an object a line with a member ``cidr``, as Spamhaus DROP;
* ``ipset``: what ``ipset save`` prints;
* ``csv:COLUMN``: a table with a line of names, separated by commas, semicolons or tabs.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable

from ipsecd.errors import InvalidInput
from ipsecd.quoting import count, few, quote, quote_path, visible

PLAIN, JSON, IPSET, CSV = "plain", "json", "ipset", "csv:"
_FORMS = "it is plain, json, ipset or csv:COLUMN"
_IN_QUOTES = re.compile(r'"[^"]*"')
"""The comments of entries, which may hold any words."""
_SEPARATORS = ",;\t"

Extract = Callable[[str], str]
"""The entry in a line; "" if the line holds none and need not, ``ValueError`` if it should."""


def check_format(form: str) -> None:
    """Raise ``InvalidInput`` unless there is a form of this name."""
    if form not in {PLAIN, JSON, IPSET} and not (form.startswith(CSV) and form != CSV):
        raise InvalidInput(f"there is no format {quote(form)}", _FORMS)


def format_of(chunk: bytes) -> str:
    """The form that the first line with content is in; "" if there is no such line."""
    for line in chunk.split(b"\n"):
        content = line.strip()
        if content and not content.startswith((b"#", b";")):
            if content.startswith(b"{"):
                return JSON
            return IPSET if content.startswith((b"create ", b"add ")) else PLAIN
    return ""


def extractor(form: str, source: str) -> Extract:
    """What takes the entries out of lines of a form; raises ``InvalidInput`` for another."""
    check_format(form)
    if form == JSON:
        return _of_object
    if form == IPSET:
        return _of_ipset
    return _Table(form.removeprefix(CSV), source).entry


def _of_object(line: str) -> str:
    if _is_comment(line):
        return ""
    try:
        members = json.loads(_as_utf8(line))
    except (ValueError, RecursionError):
        raise ValueError("is not a JSON object on a line") from None
    entry = members.get("cidr") if isinstance(members, dict) else None
    if isinstance(entry, str) and entry.strip():
        return entry.strip()
    if isinstance(members, dict) and entry is None and members.get("type") == "metadata":
        return ""
    raise ValueError("is not an object with a text as its member cidr")


def _of_ipset(line: str) -> str:
    words = line.split()
    if _is_comment(line) or words[0] in {"create", "COMMIT"}:
        return ""
    if words[0] != "add" or len(words) < 3:
        raise ValueError("is not a line that ipset saves")
    if "," in words[2]:
        raise ValueError("holds more than an address, and a list holds addresses")
    if "nomatch" in _IN_QUOTES.sub("", line).split()[3:]:
        raise ValueError("is an exception (nomatch), which a list cannot have")
    return words[2]


class _Table:
    """A table of comma-separated values, read line by line.

    So a quote that is not closed spoils its own line, and does not swallow those after it.
    """

    def __init__(self, column: str, source: str) -> None:
        self._column = column
        self._source = source
        self._place = -1
        self._separator = ","

    def entry(self, line: str) -> str:
        content = line.strip()
        if not content or (self._place >= 0 and content.startswith("#")):
            return ""
        if self._place < 0:
            self._take_names(content)
            return ""
        cells = _cells(line, self._separator)
        if len(cells) <= self._place:
            raise ValueError(
                f"has {count(len(cells), 'column')}, and the address is in number {self._place + 1}"
            )
        if not cells[self._place].strip():
            raise ValueError("has no address")
        return cells[self._place].strip()

    def _take_names(self, line: str) -> None:
        """Find the column in the line of names, which some feeds have in a comment."""
        names_line = _as_utf8(line).lstrip("# ")
        separator = max(_SEPARATORS, key=names_line.count)
        try:
            names = [name.strip() for name in _cells(names_line, separator)]
        except ValueError:
            names = []
        if self._column in names:
            self._place, self._separator = names.index(self._column), separator
        elif not line.startswith("#"):
            raise InvalidInput(
                f"{quote_path(self._source)} has no column {quote(self._column)}",
                f"its columns are {few([visible(name[:40]) for name in names])}",
                source=self._source,
            )


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error as error:
        raise ValueError("is not a line of comma-separated values") from error


def _is_comment(line: str) -> bool:
    """Whether it may stand before the first line with content, by which the form is seen."""
    return line.strip()[:1] in {"", "#", ";"}


def _as_utf8(line: str) -> str:
    """What was read byte by byte, as the text it is."""
    return line.encode("latin-1").decode("utf-8", "replace")
