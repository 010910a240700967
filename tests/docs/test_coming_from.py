"""What the pages for people who come from another tool say is done, word for word."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.containers.engines import delete_foreign_tables
from tests.docs.following import Shell, follow
from tests.docs.tables import of_tables
from tests.netns.firewalls import ufw
from tests.netns.scans import UNPACKED
from tests.netns.site import Daemon, daemon

pytestmark = pytest.mark.netns

PAGES = Path(__file__).parents[2] / "docs/coming-from"
NAMES = sorted(path.stem for path in PAGES.glob("*.md"))
UNENDING = ("ipsecctl monitor",)
"""It goes on until somebody ends it; tests/netns/test_monitor.py does, here it is only parsed."""
OTHERS = {"ufw": lambda: ufw("allow 22/tcp", "allow 443/tcp")}
"""What is in force on a host before it is moved over, where the page does not write it itself."""


def prepare(name: str, home: Path) -> None:
    """What a page says to copy from the host."""
    if name == "firewalld":
        if not (UNPACKED / "etc/firewalld").exists():
            assert not os.environ.get("CI"), "needs firewalld: make base-system"
            pytest.skip("needs firewalld: make base-system")
        shutil.copytree(UNPACKED / "etc/firewalld", home / "etc")


@contextmanager
def host(directory: Path) -> Iterator[tuple[Daemon, Sequence[str]]]:
    """A host with a daemon, and the words that run a command there as a person does."""
    (directory / "home").mkdir()
    (directory / "daemon").mkdir()
    with daemon(directory / "daemon") as running:
        yield (
            running,
            (
                *("env", "-i", "-C", str(directory / "home"), "LANG=C.UTF-8", "EDITOR=true"),
                f"PATH={Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
                f"IPSECD_SOCKET={running.environment['IPSECD_SOCKET']}",
            ),
        )


def test_there_is_a_page_for_each() -> None:
    """And each has what a reader looks for."""
    assert NAMES == ["fail2ban", "firewalld", "nft", "ufw", "windows"]
    for name in NAMES:
        text = (PAGES / f"{name}.md").read_text()
        parts = [line[3:] for line in text.splitlines() if line.startswith("## ")]
        assert parts == [
            "Words",
            "What you do every day",
            "What works otherwise",
            "What is not there",
            "Moving a host over",
            "Going back",
        ]
        assert len({line.line for line in of_tables(text)}) >= 20, name


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_the_table_is_done(name: str, tmp_path: Path) -> None:
    """Each cell is typed in its order, on a host that has only what the cells before have made."""
    failed = []
    with host(tmp_path) as (_, words), Shell(words) as shell:
        for line in of_tables((PAGES / f"{name}.md").read_text()):
            if line.text not in UNENDING:
                printed, code = shell.run(line.text)
                if code != 0:
                    failed.append(f"{name}.md, line {line.line}: {line.text}: {code}\n{printed}")
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", NAMES)
def test_a_host_is_moved_over_and_back(name: str, tmp_path: Path) -> None:
    """The page is followed; in the end the other firewall is in force again, and no policy."""
    before = OTHERS.get(name, nullcontext)
    try:
        with before(), host(tmp_path) as (running, words):
            prepare(name, tmp_path / "home")
            follow(PAGES / f"{name}.md", {"#": words, "new#": ("setsid", *words)})
            assert "none assigned" in running.ctl("status")
    finally:
        delete_foreign_tables()
