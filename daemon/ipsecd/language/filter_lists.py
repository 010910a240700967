"""Owns the text of lists of filters: a filter or address a line, as ban feeds have them.

Must not know where a list comes from, nor what becomes of its filters. ``#`` and ``;`` begin
comments, blank lines mean nothing, lines may end as in Windows, and a byte order mark may stand at
the beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipsecd.errors import InvalidInput
from ipsecd.language.filters import parse_short
from ipsecd.model.values import Filter

_COMMENT = re.compile(r"[#;]")
_BYTE_ORDER_MARK = "\ufeff"
_HINT = "a list has a filter or an address on each line, and comments after # or ;"


def parse_filter_list(content: bytes, source: str) -> Iterator[Filter]:
    """The filters in a list; raises ``InvalidInput`` with `source` and the line.

    They may be written in short, as on a command line.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        place = content.count(b"\n", 0, error.start) + 1
        raise InvalidInput("this is not text in UTF-8", _HINT, source=source, line=place) from error
    for number, line in enumerate(text.removeprefix(_BYTE_ORDER_MARK).split("\n"), 1):
        written = _COMMENT.split(line, maxsplit=1)[0].strip()
        if not written:
            continue
        try:
            yield parse_short(written)
        except InvalidInput as error:
            hint = error.hint or _HINT
            raise InvalidInput(error.message, hint, source=source, line=number) from error
