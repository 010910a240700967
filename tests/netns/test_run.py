"""A file that blocks everything before it permits anything, while packets come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, HOST, OUTSIDE, Daemon

pytestmark = pytest.mark.netns

STREAM = """
import select, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
count = 0
while not select.select([sys.stdin], [], [], 0.001)[0]:
    sock.sendto(b"%d" % count, (sys.argv[1], int(sys.argv[2])))
    count += 1
print(count, flush=True)
"""
"""Sends a datagram about every millisecond until its input is closed, and tells how many."""
LOCKDOWN = [
    "@echo off",
    "ipseccmd -w REG -p Lock -o -x >nul",
    "ipseccmd -w REG -p Lock -r All -f 0+* -n BLOCK -x",
    "ipseccmd -w REG -p Lock -r Web -f 0:80+*::TCP -n PASS",
    "ipseccmd -w REG -p Lock -r Stream -f 0:1434+*::UDP -n PASS",
]
NETSH = [
    "netsh ipsec static delete all",
    "netsh ipsec static add policy name=Lock assign=yes",
    "netsh ipsec static add filteraction name=no action=block",
    "netsh ipsec static add filteraction name=yes action=permit",
    "netsh ipsec static add filter filterlist=all srcaddr=me dstaddr=any",
    "netsh ipsec static add rule name=all policy=Lock filterlist=all filteraction=no",
    "netsh ipsec static add filter filterlist=ok srcaddr=any dstaddr=me dstport=1434 protocol=UDP",
    "netsh ipsec static add rule name=ok policy=Lock filterlist=ok filteraction=yes",
]


@pytest.fixture(scope="module", params=site.BACKENDS)
def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    with site.daemon(tmp_path_factory.mktemp("run"), request.param) as running:
        yield running


def test_nobody_is_locked_out(daemon: Daemon, tmp_path: Path) -> None:
    """Typed line by line it blocks what it is to permit; as a file no packet of that is lost."""
    for line in LOCKDOWN[2:3]:
        daemon.type(line)
    assert site.delivered(HERE4, 1434) == 0
    daemon.ctl("policy", "delete", "Lock", "--unassign")
    with (
        site.listening(HOST, HERE4, 1434) as heard,
        site.serving(OUTSIDE, STREAM, HERE4, "1434") as sender,
    ):
        assert sender.stdin is not None
        assert sender.stdout is not None
        for lines in (LOCKDOWN, NETSH, LOCKDOWN, LOCKDOWN):
            path = tmp_path / "lockdown.cmd"
            path.write_text("\r\n".join(lines))
            daemon.ctl("run", str(path))
        sender.stdin.close()
        sent = int(sender.stdout.readline())
        assert heard() == sent > 100
    assert site.delivered(HERE4, 1435) == 0


def test_what_is_refused_leaves_the_kernel_as_it_was(daemon: Daemon, tmp_path: Path) -> None:
    """A file with one line that is refused changes no rule, nor does a dry run of a good one."""
    before = site.kernel_state(daemon)
    path = tmp_path / "file.cmd"
    path.write_text("\r\n".join([*NETSH[:3], "del x", *NETSH[3:6]]))
    assert "'del'" in daemon.ctl("run", str(path), code=1)
    path.write_text("\r\n".join(NETSH[:6]))
    daemon.ctl("run", str(path), "--dry-run")
    assert site.kernel_state(daemon) == before
