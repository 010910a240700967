"""What scripts and configuration management read of every verb: its exit code, and ``changed``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsecctl.__main__ import main
from ipsecctl.verbs import VERBS
from tests.netns import site

pytestmark = pytest.mark.netns
CHANGED, SAME = True, False

WEB = """\
policy: Web
rules:
  - rule: R
    action: block
    filters: ["*=0:80:TCP", "@bans=0"]
"""
BATCH = """\
@echo off
ipseccmd -w REG -p "Batch" -r "Telnet" -f *=0:23:TCP -n BLOCK
ipseccmd -w REG -p "Batch" -x
"""
FILES = {
    "web.yaml": WEB,
    "later.yaml": WEB.replace("80", "81"),
    "entries": "192.0.2.0/24\n",
    "batch.cmd": BATCH,
}
"""The files that lie there when the story begins."""

Row = tuple[str, bool]
STORY: tuple[Row, ...] = (
    ("apply web.yaml --dry-run", CHANGED),
    ("apply web.yaml", CHANGED),
    ("apply web.yaml", SAME),
    ("apply web.yaml --dry-run", SAME),
    ("apply web.yaml --assign --dry-run", CHANGED),
    ("apply web.yaml --assign", CHANGED),
    ("apply web.yaml --assign --dry-run", SAME),
    ("apply later.yaml --dry-run", CHANGED),
    ("apply later.yaml", CHANGED),
    ("rollback --dry-run", CHANGED),
    ("rollback", CHANGED),
    ("rollback 2 --dry-run", SAME),
    ("rollback 2", SAME),
    ("policy create Other", CHANGED),
    ("policy restore Other", SAME),
    ("policy assign Other", CHANGED),
    ("policy assign Other", SAME),
    ("policy unassign Web", SAME),
    ("policy unassign Other", CHANGED),
    ("policy unassign", SAME),
    ("policy delete Other", CHANGED),
    ("rule add Web S tcp/23 --action block --dry-run", CHANGED),
    ("rule add Web S tcp/23 --action block", CHANGED),
    ("rule add Web S tcp/23 --action block", SAME),
    ("rule add Web S tcp/23 --action block --dry-run", SAME),
    ("rule add Web S tcp/23 --action block --assign", CHANGED),
    ("rule add Web S tcp/23 --action block --assign", SAME),
    ("rule remove Web S --dry-run", CHANGED),
    ("rule remove Web S", CHANGED),
    ("list create bans --dry-run", CHANGED),
    ("list create bans", CHANGED),
    ("list add bans 192.0.2.1 --dry-run", CHANGED),
    ("list add bans 192.0.2.1", CHANGED),
    ("list add bans 192.0.2.1 --dry-run", SAME),
    ("list add bans 192.0.2.1", SAME),
    ("list add bans 192.0.2.1 --for 1h", CHANGED),
    ("list remove bans 192.0.2.1 --dry-run", CHANGED),
    ("list remove bans 192.0.2.1", CHANGED),
    ("list replace bans entries --dry-run", CHANGED),
    ("list replace bans entries", CHANGED),
    ("list replace bans entries", SAME),
    ("list replace bans entries --dry-run", SAME),
    ("list delete bans --dry-run", CHANGED),
    ("list delete bans", CHANGED),
    ("block 192.0.2.9 --dry-run", CHANGED),
    ("block 192.0.2.9", CHANGED),
    ("block 192.0.2.9", SAME),
    ("block 192.0.2.9 --dry-run", SAME),
    ("unblock 192.0.2.9 --dry-run", CHANGED),
    ("unblock 192.0.2.9", CHANGED),
    ("permit udp/53 --name dns", CHANGED),
    ("permit udp/53 --name dns", SAME),
    ("flush", CHANGED),
    ("flush", SAME),
    ("quarantine --host", CHANGED),
    ("quarantine --host", SAME),
    ("quarantine --host --permit tcp/22", CHANGED),
    ("release --host", CHANGED),
    ("reload", SAME),
    ("restore host.tar --dry-run", SAME),
    ("restore host.tar", SAME),
    ("rule add Web S tcp/23 --action block", CHANGED),
    ("list create more --from entries", CHANGED),
    ("restore host.tar --dry-run", CHANGED),
    ("restore host.tar --message why", CHANGED),
    ("restore host.tar", SAME),
    ("restore host.tar --dynamic", SAME),
    ("policy delete Web --unassign --confirm 1h", CHANGED),
    ("revert", CHANGED),
    ("policy delete Web --unassign --confirm 1h", CHANGED),
    ("confirm --force", CHANGED),
    ("run batch.cmd --dry-run", CHANGED),
    ("run batch.cmd", CHANGED),
    ("run batch.cmd", SAME),
    ("run batch.cmd --dry-run", SAME),
    ("backend nftables", SAME),
)
"""What is done one after the other, and whether it changes anything."""
REFUSED = (
    "apply absent.yaml",
    "apply entries",
    "policy create Web",
    "policy delete Absent",
    "policy assign Absent",
    "policy unassign Absent",
    "policy show Absent",
    "rule add Absent R tcp/1 --action block",
    "rule remove Web Absent",
    "list create bans",
    "list update bans",
    "list replace absent entries",
    "list add absent 192.0.2.1",
    "list add bans nonsense",
    "list remove bans 192.0.2.77",
    "list delete absent",
    "list show absent",
    "unblock absent",
    "release --host",
    "confirm",
    "revert",
    "rollback 99",
    "backend absent",
    "block nonsense/9",
    "explain nonsense",
    "restore entries",
    "restore absent.tar",
    "backup absent/host.tar",
    "run absent.cmd",
    "run entries",
)
USAGE = (
    "apply",
    "policy",
    "policy assign",
    "policy edit Web",
    "list add bans",
    "block",
    "rollback --absent",
    "show x",
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a person sits who talks to a real daemon."""
    path = tmp_path_factory.mktemp("desk")
    with site.daemon(path), pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPSECD_SOCKET", str(path / "run/ipsecd.sock"))
        patch.delenv("SSH_CONNECTION", raising=False)
        patch.chdir(path)
        for name, text in FILES.items():
            (path / name).write_text(text)
        yield path


Capture = pytest.CaptureFixture[str]


def said(capsys: Capture, line: str) -> tuple[int, Any]:
    """The exit code of a command, and the one JSON document that it prints."""
    code = main(["ipsecctl", *line.split(), "--json"])
    return code, json.loads(capsys.readouterr().out)


def everything(desk: Path) -> tuple[dict[Path, bytes], str]:
    """What files hold that people and the daemon keep for good, and what the kernel has."""
    kept = [*(desk / "etc").rglob("*"), *(desk / "lib/lists").rglob("*")]
    files = {path: path.read_bytes() for path in kept if path.is_file()}
    return files, site.run("nft", "list", "table", "inet", "ipsecd", check=False)


def test_every_verb_says_whether_it_changed_anything(desk: Path, capsys: Capture) -> None:
    """Exit code 0 either way, and the second time nothing; a dry run says what the first would."""
    for line, changed in STORY:
        before = everything(desk)
        if line.startswith("restore") and not (desk / "host.tar").exists():
            assert said(capsys, "backup host.tar")[0] == 0
            assert (desk / "host.tar").stat().st_mode & 0o777 == 0o600
        code, told = said(capsys, line)
        told = told if isinstance(told, dict) else told[0]
        assert (line, code, told["changed"]) == (line, 0, changed)
        if not changed or "--dry-run" in line:
            assert everything(desk) == before, line


def test_no_verb_that_changes_something_is_left_out() -> None:
    """Whoever adds one says here what it prints."""
    verbs = [action for verb in VERBS.values() for action in verb.actions.values() or (verb,)]
    changing = {verb.path.partition(" ")[2] for verb in verbs if verb.changes}
    # Whoever edits needs a terminal, and whoever learns packets: tested where there are some.
    told = {line for line, _ in STORY} | set(REFUSED) | {"policy edit", "learn"}
    missing = {path for path in changing if not any(f"{line} ".startswith(path) for line in told)}
    assert not missing


def test_what_is_refused_is_told_as_json(desk: Path, capsys: Capture) -> None:
    """Exit code 1, and one document with the name of the error, what happened, and a hint."""
    assert said(capsys, "apply web.yaml")[0] == 0
    assert said(capsys, "list create bans")[0] == 0
    for line in REFUSED:
        code, told = said(capsys, line)
        assert (line, code) == (line, 1)
        assert told["error"] in {"InvalidInput", "NotFound", "Refused", "Failed"}, line
        assert told["message"], line
        assert "hint" in told, line
    (desk / "broken.yaml").write_text("policy: Web\nrules: 7\n")
    told = said(capsys, "apply broken.yaml")[1]
    assert (told["error"], told["source"], told["line"]) == ("InvalidInput", "broken.yaml", 2)


@pytest.mark.usefixtures("desk")
def test_what_is_no_command_is_told_as_json(capsys: Capture) -> None:
    """Exit code 2."""
    for line in USAGE:
        code, told = said(capsys, line)
        assert (line, code, told["error"]) == (line, 2, "Usage")


def test_no_daemon_is_told_as_json(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3, whatever was to be done; of ``diff`` it is 2, as for all its troubles."""
    monkeypatch.setenv("IPSECD_SOCKET", str(tmp_path / "absent"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web.yaml").write_text(WEB)
    for line, code in (("apply web.yaml", 3), ("flush", 3), ("status", 3), ("diff web.yaml", 2)):
        code_told, told = said(capsys, line)
        assert (line, code_told, told["error"]) == (line, code, "Unreachable")


def test_diff_is_as_diff(desk: Path, capsys: Capture) -> None:
    """0 for what is equal, 1 for what is not, 2 in trouble."""
    assert said(capsys, "apply web.yaml")[0] == 0
    assert said(capsys, "diff web.yaml")[0] == 0
    code, told = said(capsys, "diff later.yaml")
    assert (code, told["equal"]) == (1, False)
    assert told["changes"]
    code, told = said(capsys, "diff absent.yaml")
    assert (code, told["error"]) == (2, "Failed")
    (desk / "broken.yaml").write_text("policy: Web\nrules: 7\n")
    code, told = said(capsys, "diff broken.yaml")
    assert (code, told["error"]) == (2, "InvalidInput")
