"""Owns turning the bytes of files from Windows into lines; must not know what these say."""

from __future__ import annotations

import codecs

from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.quoting import quote

CODE_PAGE = "cp1252"
"""How a file is read that is neither UTF-8 nor UTF-16: as Windows writes it in the West."""
MAX_BYTES = 16 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_END_OF_FILE = "\x1a"
"""What editors of old wrote at the end of a file."""


def decoded(content: bytes, code_page: str | None = None, source: str = "") -> list[str]:
    """The lines of a file, without what ends them.

    It is UTF-8, UTF-16, or in `code_page`, whose default is ``CODE_PAGE``. Raises ``InvalidInput``
    for bytes that are no text, and ``LimitExceeded``.
    """
    if len(content) > MAX_BYTES:
        raise LimitExceeded(
            f"the file has {len(content):,} bytes",
            f"at most {MAX_BYTES:,} are read: take it apart",
        )
    text = _text(content, code_page, source).removesuffix(_END_OF_FILE)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise InvalidInput(
                "there is a zero byte in it, which no text has",
                "is this a batch file? save it as UTF-8",
                source=source,
                line=number,
            )
    return lines


def _text(content: bytes, code_page: str | None, source: str) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _decoded(content[len(mark) :], encoding, source)
    if code_page is not None:
        try:
            codecs.lookup(code_page)
            # Some codecs of Python make no text, or make it of other text.
            "".encode(code_page).decode(code_page)
        except (LookupError, ValueError, TypeError) as error:
            raise InvalidInput(
                f"{quote(code_page)} is not a code page", "write it as cp936, cp1251 or cp850"
            ) from error
        return _decoded(content, code_page, source)
    # Text in UTF-16 without a mark has a zero byte for every plain letter.
    if b"\0" in content[:2]:
        return _decoded(content, "utf-16-le" if content[1:2] == b"\0" else "utf-16-be", source)
    try:
        return content.decode()
    except UnicodeDecodeError:
        return _decoded(content, CODE_PAGE, source)


def _decoded(content: bytes, encoding: str, source: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"what begins with byte {content[error.start] if content else 0:#04x} is not text in "
            f"{encoding}",
            "save the file as UTF-8, or say what it is in, as in --code-page cp936",
            source=source,
            line=content[: error.start].count(b"\n") + 1,
        ) from error
