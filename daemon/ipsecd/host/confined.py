"""Owns what a process gives up before it reads what a stranger wrote.

``python -m ipsecd.host.confined MODULE`` limits itself and becomes ``python -m MODULE``. Whoever
starts it gives it no descriptors but three, and another user where that can be done.
"""

from __future__ import annotations

import os
import resource
import sys

MEMORY_BYTES = 1 << 30
"""Of address space: that of the libraries is some hundred megabytes, and little of it is used."""
CPU_S = 60
FILE_BYTES = 128 << 20
"""Of a file that it writes, and so of what it says."""
DESCRIPTORS = 64


def main(arguments: list[str]) -> int:
    """Become another program, with limits; it does not return."""
    for kind, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
        (resource.RLIMIT_CORE, 0),
    ):
        _, most = resource.getrlimit(kind)
        least = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (least, least))
    os.execv(sys.executable, [sys.executable, "-I", "-m", *arguments])  # noqa: S606 - on purpose
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
