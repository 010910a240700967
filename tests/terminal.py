"""Owns commands that are run in a terminal of their own, where somebody types answers."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress


def at_a_terminal(
    words: tuple[str, ...], environment: Mapping[str, str], typed: str = ""
) -> tuple[int, str]:
    """The exit code of ``ipsecctl`` at a terminal, and all that was to be seen there.

    What is `typed` waits in the terminal until it is asked for.
    """
    own, terminal = pty.openpty()
    os.write(own, typed.encode())
    process = subprocess.Popen(
        [sys.executable, "-m", "ipsecctl", *words],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        start_new_session=True,
    )
    os.close(terminal)
    seen = b""
    # A terminal that nobody has open any more answers with an error.
    with suppress(OSError):
        while piece := os.read(own, 4096):
            seen += piece
    os.close(own)
    return process.wait(), seen.decode().replace("\r\n", "\n")
