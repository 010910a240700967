"""Owns shortening long lists of filters in documents, to read them faster; knows no filters.

A document of many filters is mostly lines of the same form, ``- "FILTER"`` with equal indentation.
A YAML reader takes long for a run of them and adds nothing. So one item takes its place, followed
by empty lines, so that the text after it keeps its line numbers.
"""

from __future__ import annotations

import re

MARK = "\N{SECTION SIGN}run "
"""Begins the item that stands for a run. In a document that contains this, nothing is shortened."""

_LEAST = 16
_ITEM = r'- "[ !#-\[\]-~]*"\n'
_RUN = re.compile(rf"^( *filters:\n)( *){_ITEM}(?:\2{_ITEM}){{{_LEAST - 1},}}", re.MULTILINE)


def fold(document: str) -> tuple[str, dict[str, list[str]]]:
    """The document with one item for each run, and the filters that each of these items stands for.

    What looks like a run can be part of a longer text. So a reader that does not come upon each of
    the items as a filter must read the original document instead.
    """
    runs: dict[str, list[str]] = {}
    if MARK in document:
        return document, runs

    def shorter(match: re.Match[str]) -> str:
        key, indentation = match.groups()
        prefix_length = len(indentation) + len('- "')
        lines = match.group()[len(key) :].split("\n")
        items = [line[prefix_length:-1] for line in lines[:-1]]
        mark = f"{MARK}{len(runs)}"
        runs[mark] = items
        return f'{key}{indentation}- "{mark}"' + "\n" * len(items)

    return _RUN.sub(shorter, document), runs
