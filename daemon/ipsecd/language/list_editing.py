"""Owns taking entries out of the text of a list, and leaving all else as it was written."""

from __future__ import annotations

import re
import socket
from collections.abc import Set as AbstractSet
from contextlib import suppress

from ipsecd.language.list_entries import entries_in, format_entry
from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList, Form

_COMMENT = re.compile(r"[ \t]*[#;]")
_HOST = Form(Family.IPV4, 32)
_BOM = b"\xef\xbb\xbf"


def text_without(content: bytes, removed: AddressList) -> bytes:
    """A plain text without some entries: comments and what is malformed stay as they are.

    A line that stands for several entries, as a range does, keeps those that are left.
    """
    gone = {
        (form, packed[at : at + form.width])
        for form, packed in removed.entries.items()
        for at in range(0, len(packed), form.width)
    }
    mark = _BOM if content.startswith(_BOM) else b""
    # Every byte is a character here, and becomes the same byte again.
    lines = content.removeprefix(_BOM).decode("latin-1").split("\n")
    hosts = {packed for form, packed in gone if form == _HOST}
    kept = [new for line in lines for new in _kept(line, gone, hosts)]
    return mark + "\n".join(kept).encode("latin-1")


def _kept(line: str, gone: AbstractSet[tuple[Form, bytes]], hosts: AbstractSet[bytes]) -> list[str]:
    """What becomes of a line: it stays, or there are lines for what is left, or none.

    `hosts` are the IPv4 addresses among what is `gone`.
    """
    # Most lines of long files are an IPv4 address, and cost a tenth of the others so.
    with suppress(OSError, ValueError):
        if socket.inet_pton(socket.AF_INET, line) not in hosts:
            return [line]
    bare = line.removesuffix("\r")
    ending = line[len(bare) :]
    comment = _COMMENT.search(bare)
    end = comment.start() if comment else len(bare)
    try:
        entries = [
            (form, form.packed(int.from_bytes(packed, "big")))
            for form, packed in entries_in(bare[:end].strip(" \t"))
        ]
    except ValueError:
        return [line]
    left = [entry for entry in entries if entry not in gone]
    if len(left) == len(entries):
        return [line]
    texts = [format_entry(*entry) + ending for entry in left]
    if texts:
        texts[0] = f"{format_entry(*left[0])}{bare[end:]}{ending}"
    return texts
