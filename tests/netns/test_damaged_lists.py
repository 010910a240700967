"""A daemon that starts with damaged files of lists: it says so, and all else is in force."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ipsecd.language.address_lists import read_addresses
from ipsecd.sources.files import Disk
from ipsecd.sources.list_files import Feed, FeedFile
from tests.netns.site import BACKENDS, HERE4, HERE6, PEER4, PEER6, block, daemon, delivered

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("backend", BACKENDS)
def test_damaged_lists_are_named_and_the_others_are_in_force(tmp_path: Path, backend: str) -> None:
    """A feed and a journal are damaged; what another list and a plain filter block is blocked."""
    with daemon(tmp_path, backend) as running:
        running.ctl("list", "create", "whole")
        running.ctl("list", "add", "whole", PEER4)
        running.ctl("list", "create", "bans")
        running.ctl("list", "add", "bans", PEER6)
        lists = tmp_path / "lib/lists"
        feed = Feed("file:///nowhere", 86400, addresses=read_addresses([PEER6]))
        FeedFile(lists / "feed.feed", Disk()).save(feed)
        running.ctl("reload")
        block(running, "@whole=0:1434:UDP", "@bans=0:1434:UDP", "@feed=0:1434:UDP", "*=0:1435:UDP")
        assert (delivered(HERE4, 1434), delivered(HERE6, 1434)) == (0, 0)
        running.end(signal.SIGUSR2)
        for name in ("feed.feed", "bans.entries"):
            (lists / name).write_bytes((lists / name).read_bytes()[:-3])
        running.start()
        said = running.ctl("status")
        assert "feed.feed" in said
        assert "bans.entries" in said
        assert "whole" not in said
        assert (delivered(HERE4, 1434), delivered(HERE4, 1435)) == (0, 0)
        assert delivered(HERE6, 1435) == 0
        assert delivered(HERE4, 1436) == 5
