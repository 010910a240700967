"""Owns which names of lists there are on disk; must not know what is in their files."""

from __future__ import annotations

import re
from pathlib import Path

from ipsecd.errors import IpsecdError, Refused
from ipsecd.model.addresses import check_list_name
from ipsecd.quoting import quote
from ipsecd.sources.steps import UNCONFIRMED

_KEPT = re.compile(rf".*\.{UNCONFIRMED}-[0-9]+")
"""The names of files that are kept beside one which got back what it held before a change."""


def names_in(files: Path, own: Path) -> tuple[list[str], list[str]]:
    """The names of all lists that have a part, and what is wrong with other names.

    `files` is the directory of people, `own` that in which the daemon keeps the other parts.
    """
    names: set[str] = set()
    problems = []
    for directory in (files, own):
        try:
            present = sorted(path.name for path in directory.iterdir())
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{str(directory)!r} cannot be read: {error.strerror}")
            continue
        for name in present:
            # Editors keep files of these names beside those that people edit.
            if name.startswith(".") or name.endswith("~") or _KEPT.fullmatch(name):
                continue
            list_name = name if directory == files else name.rpartition(".")[0]
            try:
                check_list_name(list_name)
            except IpsecdError as error:
                problems.append(f"{str(directory / name)!r} is not used: {error.message}")
            else:
                names.add(list_name)
    return sorted(names), problems


def must_be_of_a_list(name: str) -> None:
    """Raise ``InvalidInput`` or ``Refused`` if no list can be made that is called `name`."""
    check_list_name(name)
    if _KEPT.fullmatch(name):
        raise Refused(
            f"a file called {quote(name)} is one that was kept when a change was put back",
            "give the list another name",
        )
