"""Owns other firewalls with the same task, nothing gets in unasked but to TCP 22 and 443."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.containers.engines import delete_foreign_tables, needs
from tests.netns.scans import UNPACKED
from tests.netns.site import needs_isolation, run

UFW_FILES = ("/etc/default", "/etc/ufw", "/lib/ufw")
FIREWALLD = """
import sys
base, etc, *services = sys.argv[1:]
sys.path.insert(0, base + "/usr/lib/python3/dist-packages")
from firewall import config
config.set_default_config_paths(base + "/usr/lib/firewalld")
config.set_system_config_paths(etc)
config.FIREWALLD_CONF = etc + "/firewalld.conf"
from firewall.core.fw import Firewall
firewall = Firewall()
firewall.start()
assert (firewall.get_state(), firewall.get_default_zone()) == ("RUNNING", "public")
for service in services:
    firewall.zone.add_service("public", service)
"""
"""Starts firewalld without D-Bus, by nftables: where it is unpacked, its settings, services."""
HAND_WRITTEN = """
table inet hand {
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    tcp dport { 22, 443 } accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
    iif lo accept
  }
}
"""


@contextmanager
def ufw(*rules: str) -> Iterator[None]:
    """The default of ufw is in force, with these rules and over copies of its files."""
    needs("ufw")
    with tempfile.TemporaryDirectory() as directory:
        layers = Path(directory)
        run("mount", "-t", "tmpfs", "layers", str(layers))
        for number, path in enumerate(UFW_FILES):
            upper, work = layers / f"{number}.upper", layers / f"{number}.work"
            upper.mkdir()
            work.mkdir()
            options = f"lowerdir={path},upperdir={upper},workdir={work}"
            run("mount", "-t", "overlay", "overlay", "-o", options, path)
        try:
            for rule in rules:
                run("ufw", *rule.split())
            run("ufw", "--force", "enable")
            yield
            run("ufw", "--force", "disable")
        finally:
            delete_foreign_tables()
            for path in reversed(UFW_FILES):
                run("umount", path)
            run("umount", str(layers))


@contextmanager
def firewalld(
    settings: Path = UNPACKED / "etc/firewalld", services: Sequence[str] = ("https",)
) -> Iterator[None]:
    """The rules of firewalld's default zone, with services permitted; SSH it permits by itself."""
    needs_isolation()
    if not (UNPACKED / "usr/sbin/firewalld").exists():
        assert not os.environ.get("CI"), "needs firewalld: make base-system"
        pytest.skip("needs firewalld: make base-system")
    try:
        words = (str(UNPACKED), str(settings), *services)
        run("/usr/bin/python3", "-I", "-c", FIREWALLD, *words)
        yield
    finally:
        delete_foreign_tables()


@contextmanager
def hand_written() -> Iterator[None]:
    """The rules that an administrator would write for nft, and no more."""
    needs_isolation()
    subprocess.run(["nft", "-f", "-"], input=HAND_WRITTEN, text=True, check=True)
    try:
        yield
    finally:
        delete_foreign_tables()
