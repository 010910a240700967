"""Owns how a file is read that a command of netsh names; must not know what is in it."""

from __future__ import annotations

from pathlib import Path

from ipsecctl.netsh.failing import Conflict, Failure
from ipsecd.quoting import quote_path


def content_of(path: Path, written: str, most: int, unreadable: type[Failure]) -> bytes:
    """The first bytes of a file: one more than `most` if it has more than that.

    `written` is how its name was written. Raises ``Conflict`` if there is no such file, and what
    `unreadable` is if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except FileNotFoundError as error:
        raise Conflict("the file does not exist", f"looked for {quote_path(written)}") from error
    except OSError as error:
        hint = f"{quote_path(written)}: {error.strerror}"
        raise unreadable("the file cannot be read", hint) from error
