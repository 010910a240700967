"""Owns the long lists of filters in documents as they are written; must not know what they mean.

A document of many filters is mostly lines of one form, ``- "FILTER"`` with one indentation. Each
run of them stands in the way of a YAML reader for nothing: one item is left in its place, and
empty lines, so that what follows has the line that it had.
"""

from __future__ import annotations

import re

MARK = "\N{SECTION SIGN}run "
"""Begins the item that stands for a run; a document that holds it has no runs."""

_LEAST = 16
_ITEM = r'- "[ !#-\[\]-~]*"\n'
_RUN = re.compile(rf"^( *filters:\n)( *){_ITEM}(?:\2{_ITEM}){{{_LEAST - 1},}}", re.MULTILINE)


def fold(document: str) -> tuple[str, dict[str, list[str]]]:
    """The document with one item for each run, and the items that each of these stands for.

    What looks like a run can be part of a longer text. So whoever reads what is folded must meet
    each item as a filter, or read the document as it is.
    """
    runs: dict[str, list[str]] = {}
    if MARK in document:
        return document, runs

    def shorter(match: re.Match[str]) -> str:
        key, indentation = match.groups()
        before = len(indentation) + len('- "')
        lines = match.group()[len(key) :].split("\n")
        items = [line[before:-1] for line in lines[:-1]]
        mark = f"{MARK}{len(runs)}"
        runs[mark] = items
        return f'{key}{indentation}- "{mark}"' + "\n" * len(items)

    return _RUN.sub(shorter, document), runs
