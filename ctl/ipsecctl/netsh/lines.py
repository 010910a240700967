"""Owns how a file of netsh commands becomes lines of words; must not know any command."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipsecctl.netsh.failing import NotUnderstood
from ipsecd.quoting import quote

_OLD_CODE_PAGES = (("gb18030", "936 (Chinese)"), ("cp949", "949 (Korean)"), ("latin-1", "Latin-1"))
"""What files are in that are neither UTF-8 nor UTF-16, most of which came from China and Korea."""
_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_QUOTED = re.compile(r'"[^"]*"')
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')
_OF_THE_SHELL = frozenset("|<>")


def decoded(content: bytes) -> tuple[str, str]:
    """The text of a file, and what is to be said of its encoding ("" for UTF-8 and UTF-16)."""
    encoding = _MARKS.get(content[:2])
    try:
        return content[2:].decode(encoding) if encoding else content.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        pass
    for encoding, name in _OLD_CODE_PAGES:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return text, f"it is not UTF-8 and was read as code page {name}: look at the names in it"
    raise AssertionError("Latin-1 reads every byte")


def command_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines with a command, joined where one ends in ``^``, with the number of the first."""
    pending, begin = "", 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        begin = begin if pending else number
        joined = pending + line.rstrip("\r\x1a")
        if joined.rstrip(" \t").endswith("^") and not joined.lstrip().startswith("#"):
            pending = joined.rstrip(" \t")[:-1] + " "
            continue
        pending = ""
        if joined.strip() and not joined.lstrip().startswith("#"):
            yield begin, joined
    if pending.strip():
        yield begin, pending


def split(line: str) -> list[str]:
    """The words of a line; ``"…"`` holds blanks, wherever in a word it stands.

    Raises ``NotUnderstood`` for what only a shell would understand.
    """
    if line.count('"') % 2:
        raise NotUnderstood("a quotation mark is not closed", 'write "…" around what has blanks')
    bare = _QUOTED.sub("", line)
    mark = next((letter for letter in bare if letter in _OF_THE_SHELL), "")
    mark = mark or next((word for word in ("&&", "&") if word in bare.split()), "")
    if mark:
        raise NotUnderstood(
            f"{quote(mark)} is for a shell, and no shell reads this line",
            "leave it and what follows out, or put quotation marks around a name that has it",
        )
    return [word.replace('"', "") for word in _WORD.findall(line)]
