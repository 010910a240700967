"""Owns reading sets of addresses out of ``ipset save``; must not know rules."""

from __future__ import annotations

from collections.abc import Iterable

from ipsecctl.importing.source import InputFile
from ipsecd.errors import InvalidInput
from ipsecd.language.list_entries import entries_in
from ipsecd.model.addresses import Family
from ipsecd.quoting import quote

Entries = list[tuple[Family, int, int]]
_OF_ADDRESSES = ("hash:ip", "hash:net", "bitmap:ip")


def read_sets(files: Iterable[InputFile]) -> dict[str, Entries]:
    """The entries of the sets that hold addresses alone, by name; other sets are left out.

    Raises ``InvalidInput`` with file and line for what is no output of ``ipset save``.
    """
    found: dict[str, Entries] = {}
    others: set[str] = set()
    for file in files:
        for number, line in enumerate(file.text.split("\n"), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if words[0] == "create" and len(words) >= 3:
                if words[2] in _OF_ADDRESSES:
                    found.setdefault(words[1], [])
                else:
                    others.add(words[1])
            elif words[0] == "add" and len(words) >= 3 and words[1] in found:
                if "nomatch" in words[3:]:
                    others.add(words[1])
                found[words[1]] += _entries(words[2], file.path, number)
            elif words[0] not in ("add", "create") or len(words) < 3:
                raise InvalidInput(
                    f"{quote(line)} is no line of ipset save",
                    "give what 'ipset save' prints",
                    source=file.path,
                    line=number,
                )
    return {name: entries for name, entries in found.items() if name not in others}


def _entries(text: str, path: str, number: int) -> Entries:
    try:
        return addresses_in(text)
    except ValueError as error:
        what, hint = f"{quote(text)} {error}", "give what 'ipset save' prints"
        raise InvalidInput(what, hint, source=path, line=number) from error


def addresses_in(text: str) -> Entries:
    """An address, a prefix or a range as prefixes; raises ``ValueError``."""
    return [
        (form.family, int.from_bytes(entry, "big"), form.length) for form, entry in entries_in(text)
    ]
