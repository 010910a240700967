"""The ways out of an edit, by the real commands, a real daemon and real packets."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import HERE4, Daemon, delivered
from tests.terminal import at_a_terminal

pytestmark = pytest.mark.netns
DOCUMENT = """\
# ours
policy: Web
rules:
  - rule: "Worms"   # of 2003
    action: block
    filters: ["*=0:1434:UDP"]
"""
EDITOR = """\
import sys
text = open(sys.argv[2]).read()
with open(sys.argv[1] + ".seen", "a") as seen:
    print(oct(__import__("os").stat(sys.argv[2]).st_mode), file=seen)
    seen.write(text)
steps = open(sys.argv[1]).read().splitlines()
old, new = steps.pop(0).split("|")
open(sys.argv[1], "w").write("\\n".join(steps))
open(sys.argv[2], "w").write(text.replace(old, new))
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with site.daemon(tmp_path) as running:
        running.put(DOCUMENT)
        yield running


def edit(daemon: Daemon, *steps: str, typed: str = "", code: int = 0) -> str:
    """What ``policy edit`` says with an editor that replaces something by something at each run."""
    script, plan = daemon.directory / "editor.py", daemon.directory / "plan"
    script.write_text(EDITOR)
    plan.write_text("\n".join(steps))
    editor = f"{sys.executable} {script} {plan}"
    environment = {**daemon.environment, "VISUAL": editor, "TMPDIR": str(daemon.directory)}
    done, seen = at_a_terminal(("policy", "edit", "Web"), environment, typed)
    assert done == code, seen
    return seen


def test_a_broken_edit_has_three_ways_out(daemon: Daemon) -> None:
    """While it is there, what was in force stays, and all else goes on."""
    file = daemon.policies / "web.yaml"
    assert file.read_text() == DOCUMENT
    broken = DOCUMENT.replace("action: block", "action: blok")
    file.write_text(broken)
    assert "policy restore 'Web'" in daemon.ctl("reload", code=1)
    daemon.ctl("block", "udp/1436")
    assert (delivered(HERE4, 1434), delivered(HERE4, 1436)) == (0, 0)

    daemon.ctl("policy", "restore", "Web")
    assert file.read_text() == DOCUMENT
    kept = daemon.policies / "web.yaml.broken-1"
    assert kept.read_text() == broken

    file.write_text(broken)
    daemon.ctl("reload", code=1)
    daemon.put(DOCUMENT.replace("1434", "1435"))
    assert (daemon.policies / "web.yaml.broken-2").read_text() == broken
    assert (delivered(HERE4, 1434), delivered(HERE4, 1435)) == (5, 0)

    file.write_text(broken)
    daemon.end(signal.SIGKILL)
    daemon.start()
    assert "failed" in daemon.ctl("status", code=1)
    seen = edit(daemon, "blok|bloc", "bloc|block", typed="what\ne\n")
    assert "'bloc' is not block, permit or audit" in seen
    assert seen.count("what now") == 2
    assert file.read_text() == DOCUMENT
    assert delivered(HERE4, 1434) == 0
    assert "failed" not in daemon.ctl("status")
    shown = (daemon.directory / "plan.seen").read_text()
    assert shown.startswith(f"0o100600\n{broken}0o100600\n")
    assert not list(daemon.directory.glob("ipsecctl-*"))


def test_an_edit_that_is_discarded_changes_nothing(daemon: Daemon) -> None:
    """Nor does one that is none, and one that another was faster than is kept."""
    file = daemon.policies / "web.yaml"
    assert "discarded" in edit(daemon, "action: block|action:", typed="q\n", code=1)
    assert "nothing has changed" in edit(daemon, "block|block")
    assert not list(daemon.directory.glob("ipsecctl-*"))
    assert file.read_text() == DOCUMENT
    other = DOCUMENT.replace("ours", "theirs")
    script = daemon.directory / "slow.py"
    script.write_text(
        "import sys\n"
        f"open({str(file)!r}, 'w').write({other!r})\n"
        "open(sys.argv[1], 'a').write('# mine')\n"
    )
    environment = {**daemon.environment, "EDITOR": f"{sys.executable} {script}"}
    environment |= {"VISUAL": "", "TMPDIR": str(daemon.directory)}
    code, seen = at_a_terminal(("policy", "edit", "Web"), environment, "q\n")
    assert (code, file.read_text()) == (1, other)
    assert "changed while it was edited" in seen
    (kept,) = daemon.directory.glob("ipsecctl-*/web.yaml")
    assert str(kept) in seen
    assert kept.read_text() == DOCUMENT + "# mine"
    assert "needs a terminal" in daemon.ctl("policy", "edit", "Web", code=2)


def test_rules_change_in_a_checkout_behind_a_link(daemon: Daemon) -> None:
    """Comments, layout, owner, mode and the link stay."""
    file = daemon.policies / "web.yaml"
    checkout = daemon.directory / "checkout"
    checkout.mkdir(mode=0o755)
    target = checkout / "web.yaml"
    file.rename(target)
    target.chmod(0o640)
    os.chown(target, 1234, 1234)
    file.symlink_to(target)
    daemon.ctl("rule", "add", "Web", "More", "udp/1435", "--action", "block")
    assert (delivered(HERE4, 1434), delivered(HERE4, 1435)) == (0, 0)
    assert target.read_text().startswith(DOCUMENT)
    daemon.ctl("rule", "remove", "Web", "More")
    assert target.read_text() == DOCUMENT
    assert file.readlink() == target
    status = target.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 1234, 0o640)
    assert [each.name for each in checkout.iterdir()] == ["web.yaml"]


def test_a_link_to_where_nothing_can_be_written_is_told(daemon: Daemon) -> None:
    """The change is refused, and what was in force stays."""
    file = daemon.policies / "web.yaml"
    place = daemon.directory / "read-only"
    place.mkdir(mode=0o755)
    file.rename(place / "web.yaml")
    file.symlink_to(place / "web.yaml")
    site.run("mount", "--bind", "-o", "ro", str(place), str(place))
    try:
        said = daemon.ctl("rule", "add", "Web", "M", "udp/1435", "--action", "block", code=1)
        assert "Read-only file system" in said
        assert "ReadWritePaths=" in said
        assert (delivered(HERE4, 1434), delivered(HERE4, 1435)) == (0, 5)
        assert file.readlink().read_text() == DOCUMENT
        assert "in step" in daemon.ctl("status")
    finally:
        site.run("umount", str(place))
