"""A restore under a flood: no packet meets policies of one time with lists of another."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, PEER4, Daemon, Flood, delivered

pytestmark = pytest.mark.netns
PORT = 1434


def fill(daemon: Daemon, name: str, entries: str) -> None:
    """Have a policy block what is in one list, which is the only one."""
    file = daemon.directory / name
    file.write_text(entries)
    daemon.ctl("list", "create", name, "--from", str(file), "--accept")
    site.block(daemon, f"@{name}=0", f"*=0:{PORT + 1}:UDP")
    daemon.ctl("backup", str(daemon.directory / f"{name}.tar"))


@pytest.mark.parametrize("backend", site.BACKENDS)
def test_nothing_passes_while_all_is_restored(tmp_path: Path, backend: str) -> None:
    """There and back, through a kill: both states block the flood, by lists of other names."""
    with site.daemon(tmp_path, backend) as daemon:
        fill(daemon, "old", f"{PEER4}\n")
        daemon.ctl("policy", "delete", "Blocks", "--unassign")
        daemon.ctl("list", "delete", "old")
        fill(daemon, "new", f"{PEER4.rpartition('.')[0]}.0/24\n")
        one, two = (str(tmp_path / f"{name}.tar") for name in ("old", "new"))
        with Flood() as flood:
            for path in (one, two, one):
                daemon.ctl("restore", path)
            daemon.end(signal.SIGKILL)
            daemon.start()
            daemon.ctl("restore", two)
            assert flood.received() == 0
        assert daemon.ctl("list", "show", "new").strip() == f"{PEER4.rpartition('.')[0]}.0/24"
        assert "changed" in daemon.ctl("restore", two)
        empty = str(tmp_path / "empty.tar")
        daemon.ctl("policy", "delete", "Blocks", "--unassign")
        daemon.ctl("backup", empty)
        assert delivered(HERE4, PORT) == 5
        daemon.ctl("restore", two)
        assert delivered(HERE4, PORT) == 0
        daemon.ctl("restore", empty)
        assert delivered(HERE4, PORT) == 5
