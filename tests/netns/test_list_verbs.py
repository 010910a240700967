"""Lists by the real commands, a real daemon and real packets, through its ends and its crashes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, PEER4, PEER6, Daemon, Flood, delivered, eventually

pytestmark = pytest.mark.netns
PORT = 1434
NETWORK = PEER4.rpartition(".")[0] + ".0/24"


@pytest.fixture(params=["nftables", "xdp"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    """With a policy that blocks what is in the list "bans"."""
    with site.daemon(tmp_path, request.param) as running:
        site.block(running, "@bans=0")
        yield running


def passes() -> bool:
    """Whether all that the peer sends comes through; some of it must not."""
    arrived = delivered(HERE4, PORT)
    assert arrived in (0, 5)
    return arrived == 5


def test_every_verb_holds_when_it_returns(daemon: Daemon, tmp_path: Path) -> None:
    """Create, add, remove, replace, show and delete, each looked at on the wire."""
    assert passes()
    daemon.ctl("list", "create", "bans")
    assert passes()
    daemon.ctl("list", "add", "bans", PEER4, PEER6)
    assert not passes()
    assert daemon.ctl("list", "show", "bans").splitlines() == [PEER4, PEER6]
    assert daemon.ctl("list", "show", "bans", PEER4) == f"{PEER4}\n"
    assert "is in no entry" in daemon.ctl("list", "show", "bans", "203.0.113.7", code=1)
    daemon.ctl("list", "remove", "bans", PEER4)
    assert passes()
    file = tmp_path / "drop.txt"
    file.write_text(f"# all of them\n203.0.113.0/24\n{PEER4}-{PEER4} # this one\n")
    daemon.ctl("list", "replace", "bans", str(file))
    assert not passes()
    daemon.ctl("list", "remove", "bans", PEER4)
    assert passes()
    assert (tmp_path / "etc/lists/bans").read_text() == "# all of them\n203.0.113.0/24\n"
    daemon.ctl("list", "add", "bans", PEER4)
    assert not passes()
    said = daemon.ctl("list", "delete", "bans")
    assert "filters of 'R' match nothing" in said
    assert passes()
    assert "@bans matches nothing" in daemon.ctl("status")
    daemon.ctl("list", "create", "bans", "--from", str(file))
    assert not passes()


@pytest.mark.parametrize("how", ["restart", "kill", "reboot"])
def test_entries_outlast_every_end(daemon: Daemon, tmp_path: Path, how: str) -> None:
    """What was added for a week is there after a restart, a crash, and a reboot."""
    daemon.ctl("list", "create", "bans")
    daemon.ctl("list", "add", "bans", PEER4, "--for", "1w")
    daemon.end(signal.SIGKILL if how == "kill" else signal.SIGTERM)
    if how == "reboot":
        for path in (tmp_path / "run").iterdir():
            path.unlink()
        site.run("nft", "delete", "table", "inet", "ipsecd", check=False)
    assert passes() == (how != "kill")
    daemon.start()
    assert not passes()
    (ending,) = json.loads(daemon.ctl("list", "show", "bans", "--json"))["ending"]
    assert ending["entry"] == PEER4
    assert 6 * 86400 < ending["ends"] - time.time() <= 7 * 86400


def test_an_entry_ends_by_itself(daemon: Daemon) -> None:
    """At its time it is out of force, and a daemon that was away takes it out when it is back."""
    daemon.ctl("list", "create", "bans")
    daemon.ctl("list", "add", "bans", PEER4, "--for", "1s")
    assert eventually(passes, 20)
    assert daemon.ctl("list", "show", "bans") == "# list 'bans' is empty\n"
    daemon.ctl("list", "add", "bans", PEER4, "--for", "1s")
    daemon.end(signal.SIGKILL)
    end = time.monotonic() + 1.5
    assert eventually(lambda: time.monotonic() > end)
    daemon.start()
    assert passes()


def test_what_people_write_is_in_force_after_a_reload(daemon: Daemon, tmp_path: Path) -> None:
    """By the command and by SIGHUP; a bad file leaves its list as it was, and the others good."""
    directory = tmp_path / "etc/lists"
    directory.mkdir()
    (directory / "bans").write_text(f"{NETWORK}\n")
    daemon.ctl("reload")
    assert not passes()
    (directory / "bans").write_text("<html>\n")
    (directory / "others").write_text("203.0.113.7\n")
    assert "holds no address list" in daemon.ctl("reload")
    assert not passes()
    assert daemon.ctl("list", "show", "others") == "203.0.113.7\n"
    assert "holds no address list" in daemon.ctl("status")
    daemon.end()
    daemon.start()
    assert not passes()
    (directory / "bans").write_text("203.0.113.7\n")
    daemon.ctl("reload")
    assert passes()
    (directory / "bans").unlink()
    daemon.ctl("reload")
    assert "there is no list 'bans'" in daemon.ctl("list", "show", "bans", code=1)


TURNED = f"""policy: Blocks
rules:
  - {{rule: R, action: block, filters: ["*=0:{PORT}:UDP"]}}
  - {{rule: S, action: permit, filters: ["@bans=0"]}}
"""


def test_a_reload_changes_lists_and_policy_as_one(daemon: Daemon, tmp_path: Path) -> None:
    """The peer is blocked by both states, and by neither policy with the list of the other."""
    (tmp_path / "etc/lists").mkdir()
    bans = tmp_path / "etc/lists/bans"
    bans.write_text(f"{PEER4}\n")
    daemon.ctl("reload")
    (file,) = daemon.policies.glob("*.yaml")
    old = file.read_text()
    with Flood() as flood:
        for policy, entry in ((TURNED, "203.0.113.7"), (old, PEER4), (TURNED, "203.0.113.7")):
            file.write_text(policy)
            bans.write_text(f"{entry}\n")
            assert "are loaded" in daemon.ctl("reload")
        bans.write_text(f"{PEER4}\n")
        file.write_text("no policy")
        assert "stay as they were too: @bans" in daemon.ctl("reload", code=1)
        assert flood.received() == 0
    assert not passes()


def test_what_would_cut_the_host_off_is_held_back(daemon: Daemon, tmp_path: Path) -> None:
    """Its own address, its network, and everything; nothing has changed."""
    daemon.ctl("list", "create", "bans")
    for entry in (HERE4, NETWORK, "0.0.0.0/0"):
        said = daemon.ctl("list", "add", "bans", entry, code=1)
        assert "list 'bans' stays as it was" in said
        assert passes()
    daemon.ctl("list", "add", "bans", NETWORK, "--accept")
    assert not passes()
    (tmp_path / "empty").write_text("# nothing\n")
    assert "it has no entry" in daemon.ctl(
        "list", "replace", "bans", str(tmp_path / "empty"), code=1
    )
    assert not passes()


def test_a_hundred_thousand_entries(daemon: Daemon, tmp_path: Path) -> None:
    """A long list is taken, changed by one entry, and lasts."""
    file = tmp_path / "long"
    file.write_text("".join(f"198.{n >> 16}.{n >> 8 & 255}.{n & 255}\n" for n in range(100_000)))
    daemon.ctl("list", "create", "bans", "--from", str(file))
    assert passes()
    daemon.ctl("list", "add", "bans", PEER4)
    assert not passes()
    daemon.end()
    daemon.start()
    assert not passes()
    (described,) = json.loads(daemon.ctl("list", "show", "--json"))
    assert (described["entries"], described["added"]) == (100_001, 1)
