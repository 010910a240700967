"""A rule for one type of link, by the names that modems get."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, Daemon, delivered, eventually, rename

pytestmark = pytest.mark.netns

MODEMS = ("wwan0", "wwp0s20f0u2i4", "wwx0a1b2c3d4e5f")


@pytest.fixture(params=site.BACKENDS)
def stopped(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon that is not yet started, on a wire."""
    site.needs_isolation()
    with site.wire():
        daemon = Daemon(tmp_path, request.param)
        try:
            yield daemon
        finally:
            daemon.end()
            site.run("nft", "delete", "table", "inet", "ipsecd", check=False)


@pytest.mark.parametrize("name", MODEMS)
def test_every_name_of_a_modem_is_dialup(stopped: Daemon, name: str) -> None:
    """A rule for dial-up links holds there, and a rule for a LAN does not."""
    rename("wire0", name)
    stopped.start()
    try:
        stopped.ctl("block", "*=0:1434:UDP", "--dialup")
        stopped.ctl("block", "*=0:1435:UDP", "--lan")
        assert delivered(HERE4, 1434) == 0
        assert delivered(HERE4, 1435) == 5
    finally:
        site.run("ip", "link", "delete", name)


def test_other_names_are_no_modem(stopped: Daemon) -> None:
    """A link whose name begins with one ``w`` is a LAN."""
    stopped.start()
    stopped.ctl("block", "*=0:1434:UDP", "--dialup")
    stopped.ctl("block", "*=0:1435:UDP", "--lan")
    assert delivered(HERE4, 1434) == 5
    assert delivered(HERE4, 1435) == 0


def test_a_link_becomes_another_type_by_its_name(stopped: Daemon) -> None:
    """Rules follow it to and fro while the daemon runs; their programs are loaded before."""
    stopped.start()
    stopped.ctl("rule", "add", "P", "modems", "*=0:1434:UDP", "--action", "block", "--dialup",
                "--create")  # fmt: skip
    stopped.ctl("rule", "add", "P", "lans", "*=0:1435:UDP", "--action", "block", "--lan",
                "--assign")  # fmt: skip
    rename("wire0", MODEMS[0])
    try:
        assert eventually(lambda: [delivered(HERE4, port) for port in (1434, 1435)] == [0, 5])
    finally:
        rename(MODEMS[0], "wire0")
    assert eventually(lambda: [delivered(HERE4, port) for port in (1434, 1435)] == [5, 0])
