"""Owns how full the kernel's table of connections is; must not know what rules ask of them.

https://docs.kernel.org/networking/nf_conntrack-sysctl.html. Packets for which the table has no room
are dropped by the kernel itself, before any rule sees them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SETTINGS = Path("/proc/sys/net/netfilter")
STATISTICS = Path("/proc/net/stat/nf_conntrack")


@dataclass(frozen=True, slots=True)
class ConnectionTable:
    """The connections that are known, how many can be, and how many packets found no room.

    ``dropped`` counts since the network namespace was made.
    """

    count: int
    limit: int
    dropped: int

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another connection; 0 is no limit."""
        return 0 < self.limit <= self.count


def read_connection_table(
    settings: Path = SETTINGS, statistics: Path = STATISTICS
) -> ConnectionTable | None:
    """The table as it is now; None where the kernel does not tell."""
    try:
        count, limit = (
            int((settings / name).read_text(encoding="ascii"))
            for name in ("nf_conntrack_count", "nf_conntrack_max")
        )
        names, *processors = statistics.read_text(encoding="ascii").splitlines()
        column = names.split().index("drop")
        dropped = sum(int(line.split()[column], 16) for line in processors)
    except (OSError, ValueError, IndexError):
        return None
    return ConnectionTable(count, limit, dropped)
