"""A guest is what the tests in it take it for. Runs in guests only, so its name is no test's."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import pytest

from tests.netns.site import run

LINKS = ("vrf", "macsec", "geneve", "vxlan", "team", "wireguard", "bonding", "tun", "ip6_gre")
BUILT_IN = 24 * 3600


def test_it_runs_the_kernel_of_the_package() -> None:
    """The kernel is the one that was asked for, with its own modules."""
    release, _ = os.environ["IPSECD_BOOTED"].split()
    assert platform.release() == release
    assert (Path("/lib/modules") / release).is_dir()


@pytest.mark.parametrize("module", LINKS)
def test_it_has_the_modules_of_the_links(module: str) -> None:
    """Link types that the host may lack are here."""
    run("modprobe", module)


def test_its_clock_is_right() -> None:
    """Times to live, and what the journal says, depend on it."""
    _, started = os.environ["IPSECD_BOOTED"].split()
    assert 0 <= time.time() - float(started) < BUILT_IN


def test_it_has_the_file_systems_that_enforcement_needs() -> None:
    """Control groups, the BPF file system, and directories that can be written."""
    types = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        types[where] = kind
    wanted = {"/sys/fs/cgroup": "cgroup2", "/sys/fs/bpf": "bpf", "/run": "tmpfs", "/tmp": "tmpfs"}
    assert wanted.items() <= types.items()
    assert Path("/sys/kernel/btf/vmlinux").exists()
