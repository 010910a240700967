"""Owns the file that says which transaction of the kernel was the last, for the next daemon.

It is written after each of them, and lost with the boot, like the sets that it is about. What it
says is compared with what the kernel says, so a file that is missing, old or damaged costs the time
to fill these sets anew and nothing else. So it is written in place and waits for no disk.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from ipsecd.sources.checked import seal, unseal
from ipsecd.sources.dynamic_file import name_of_boot

NAME, KIND, VERSION = "transaction", "transaction", 1
_CONTENT = re.compile(rb"([0-9a-f]{32}) ([0-9]{20}) ([0-9]{10})\n")
_MAX_BYTES = 256


class TransactionFile:
    """The file in the runtime directory."""

    def __init__(self, runtime_dir: Path, boot: str | None = None) -> None:
        """`boot` names the boot."""
        self._path = runtime_dir / NAME
        self._boot = boot or name_of_boot(os.environ)

    def read(self) -> tuple[int, int] | None:
        """The number of the network namespace and of the transaction; None if it has neither."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags)
        except OSError:
            return None
        try:
            content = unseal(KIND, VERSION, os.read(descriptor, _MAX_BYTES))
        except (OSError, ValueError):
            return None
        finally:
            os.close(descriptor)
        numbers = _CONTENT.fullmatch(content)
        if numbers is None or numbers[1].decode() != self._boot:
            return None
        return int(numbers[2]), int(numbers[3])

    def write(self, namespace: int, generation: int) -> None:
        """Replace both numbers; where that fails the old ones stay, which fit no more."""
        content = f"{self._boot} {namespace:020} {generation:010}\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with suppress(OSError):
            descriptor = os.open(self._path, flags, 0o600)
            try:
                # Its length is always the same, so nothing of the former content is left.
                os.write(descriptor, seal(KIND, VERSION, content.encode()))
            finally:
                os.close(descriptor)
