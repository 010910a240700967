"""Owns what figures depend on: the processor, the kernel, and the versions of all contestants."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from ipsecd import __version__

ABSENT = "not installed"
PACKAGES = {
    "nftables": None,
    "iptables": None,
    "ipset": "build/ipset",
    "xdp-filter (xdp-tools)": None,
    "ufw": None,
    "firewalld": "build/lab",
    "fail2ban": "build/finders",
    "CrowdSec": "build/crowdsec",
    "crowdsec-firewall-bouncer": "build/firewall-bouncer",
}
"""Debian's packages, and where those are unpacked that are not installed."""


def facts() -> dict[str, str]:
    """What they are, by what a reader calls them."""
    known = {
        "ipsecd": __version__,
        "Linux": platform.release(),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 30} GiB",
        "Python": platform.python_version(),
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
        "load when a part had been measured": f"{os.getloadavg()[0]:.1f}",
    }
    return known | {name: version(name, place) for name, place in PACKAGES.items()}


def processor() -> str:
    """What the kernel calls it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def version(name: str, unpacked: str | None) -> str:
    """The version of a contestant, as Debian calls its package."""
    package = name.partition("(")[2].rstrip(")") or name.lower()
    if unpacked is not None and not Path(unpacked, ".done").exists():
        return ABSENT
    if unpacked is None:
        words = ["dpkg-query", "--show", "--showformat=${Version}", package]
    else:
        words = ["apt-cache", "show", "--no-all-versions", package]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        return ABSENT
    return done.stdout if unpacked is None else value_of(done.stdout.splitlines(), "Version")


def value_of(lines: Iterable[str], field: str) -> str:
    """The value of a field of a package."""
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith(f"{field}: ")), ABSENT
    )


if __name__ == "__main__":
    for what, value in facts().items():
        sys.stdout.write(f"{what}: {value}\n")
