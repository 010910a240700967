"""Tests of the history: who changed what, the policies before, and going back to them."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.engine import history as history_module
from ipsecd.engine.caller import Caller, ChangeOptions
from ipsecd.errors import IpsecdError, NotFound, Refused
from ipsecd.language.documents import format_policy
from ipsecd.sources import history_file
from ipsecd.sources.files import Disk
from ipsecd.sources.history_file import HistoryFile
from ipsecd.sources.history_rows import Row, line_of, row_of
from tests.engine.changing_host import (
    AFTER,
    BEFORE,
    CONFIRM_S,
    MORE,
    OTHER,
    FullDisk,
    Host,
    fateful_host,
    policy,
)
from tests.engine.effects import Crash
from tests.engine.site import Clock


class WallClock(Clock):
    now = 1_700_000_000.0


def made(path: Path) -> Host:
    host = Host(path)
    host.apply(BEFORE, None)
    return host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return made(tmp_path)


def rows(host: Host) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = host.call("GetHistory")["rows"]
    return listed


def policy_rows(host: Host) -> list[dict[str, Any]]:
    return [row for row in rows(host) if row["kind"] == "policies"]


def documents(host: Host, state: int) -> dict[str, str]:
    reply = host.call("GetState", state=state)
    return {each["name"]: each["document"] for each in reply["policies"]}


def roll_back(host: Host, state: int = 1, *, dry_run: bool = False, **given: Any) -> dict[str, Any]:
    outcome: dict[str, Any] = host.call("Rollback", state=state, dry_run=dry_run, **given)[
        "outcome"
    ]
    return outcome


def test_a_change_of_policies_is_kept_with_its_author(host: Host) -> None:
    """When, who, over which login, what for, what changed, and what was in force before."""
    digest = host.engine.state.classifier.digest
    options = ChangeOptions(message="ticket 7", sudo_user="ann", command="said")
    caller = Caller(0, 12, "root", options, 1000, "ann", "ipsecctl")
    parameters = {"assign": True, "dry_run": False}
    document = format_policy(AFTER).encode()
    Control(host.engine).call("ApplyPolicy", parameters, "x", {}, document, caller=caller)
    row = rows(host)[0]
    author = {"uid": 0, "user": "root", "login_uid": 1000, "login_user": "ann", "pid": 12}
    kept = {"sudo_user": "ann", "command": "ipsecctl", "message": "ticket 7"}
    kind = {"kind": "policies", "source": "command", "method": "ApplyPolicy", "state": 1}
    assert row.items() >= (author | kept | kind).items()
    assert row["what"] == ["policy 'A' is changed"]
    assert (row["digest_before"], row["digest_after"]) == (
        digest,
        host.engine.state.classifier.digest,
    )


def test_what_changed_is_said_in_words(host: Host) -> None:
    """Policies, rules by name, and what is assigned; no document is read for it."""
    host.apply(MORE, None)
    assert rows(host)[0]["what"] == [
        "policy 'B' is new: 1 rule, 1 filter",
        "assigned: 'A' → 'B'",
    ]
    rule = {"name": "S", "action": "permit", "filters": ["*=0:1:TCP", "*=0:2:TCP"]}
    host.call("PutRules", policy="B", rules=[rule], create=False, assign=False)
    assert rows(host)[0]["what"] == ["policy 'B' is changed: +'S', 1 → 3 filters"]
    host.call("DeletePolicy", name="B", unassign=True, missing_ok=False)
    assert rows(host)[0]["what"] == ["policy 'B' is gone", "assigned: 'B' → none"]


def test_what_changes_nothing_is_no_change(host: Host) -> None:
    """Neither dry runs, nor refusals, nor the same again."""
    before = rows(host)
    host.apply(BEFORE, None)
    host.call("ApplyPolicy", AFTER, assign=True, dry_run=True)
    with pytest.raises(NotFound):
        host.call("AssignPolicy", name="absent")
    assert rows(host) == before


def test_every_state_can_be_shown(host: Host) -> None:
    """The policies before each change, numbered from the newest; a restart changes nothing."""
    host.apply(AFTER, None)
    host.apply(MORE, None)
    host.call("DeletePolicy", name="A", unassign=False, missing_ok=False)
    for _ in range(2):
        assert documents(host, 0) == {"B": format_policy(MORE)}
        assert documents(host, 1) == {"A": format_policy(AFTER), "B": format_policy(MORE)}
        assert documents(host, 2) == {"A": format_policy(AFTER)}
        assert documents(host, 3) == {"A": format_policy(BEFORE)}
        assert documents(host, 4) == {}
        assert [row["state"] for row in rows(host)] == [1, 2, 3, 4, None]
        host.killed()
    with pytest.raises(NotFound, match="no state @5"):
        documents(host, 5)


def test_the_first_policy_can_be_undone(host: Host) -> None:
    """It is the change that most often has to be."""
    assert roll_back(host)["changed"]
    assert documents(host, 0) == {}
    assert host.engine.loaded.assigned is None
    assert roll_back(host)["changed"]
    assert documents(host, 0) == {"A": format_policy(BEFORE)}


def test_a_rollback_restores_every_byte(host: Host) -> None:
    """What people wrote returns with its comments, and the link with it."""
    file = host.path / "etc/policies/a.yaml"
    file.write_text(f"# mine\n{format_policy(BEFORE)}")
    host.call("Reload", resolve=False)
    before = host.state()
    host.apply(MORE, None)
    host.call("DeletePolicy", name="A", unassign=False, missing_ok=False)
    assert roll_back(host, 2)["changed"]
    assert host.state() == before
    assert rows(host)[0]["source"] == "rollback"


def test_a_rollback_is_a_change_like_any_other(host: Host) -> None:
    """The next one undoes it, a restart keeps it, and it can wait to be confirmed."""
    before = host.state()
    host.apply(AFTER, None)
    after = host.state()
    roll_back(host)
    assert host.state() == before
    roll_back(host)
    assert host.state() == after
    host.killed()
    assert host.state() == after
    roll_back(host, confirm_s=CONFIRM_S)
    assert (host.state(), host.pending) == (before, True)
    host.pass_deadline()
    assert (host.state(), host.pending) == (after, False)


def test_a_dry_run_says_what_a_rollback_would_do(host: Host) -> None:
    """It changes nothing, and is no row."""
    host.apply(AFTER, None)
    before, listed = host.state(), rows(host)
    outcome = roll_back(host, dry_run=True)
    assert outcome["changed"] is True
    assert outcome["changes"] == [
        "policy 'A':",
        '- rule "R": *=0:2:UDP',
        '+ rule "R": *=0:1:UDP',
    ]
    ports = {each["packet"].rpartition(":")[2] for each in outcome["verdicts"]["classes"]}
    assert ports == {"1", "2"}
    assert (host.state(), rows(host)) == (before, listed)


def test_a_rollback_overwrites_no_edit(host: Host) -> None:
    """Not even one that nobody has loaded yet."""
    host.apply(AFTER, None)
    file = host.path / "etc/policies/a.yaml"
    file.write_text(f"# mine\n{format_policy(AFTER)}")
    with pytest.raises(Refused, match="was edited since it was loaded"):
        roll_back(host)
    assert file.read_text().startswith("# mine")
    host.call("Reload", resolve=False)
    roll_back(host, 2)
    assert file.read_text() == format_policy(BEFORE)


def test_a_file_that_cannot_be_used_is_kept_beside(host: Host) -> None:
    """Who has spoilt the assigned file and restarted gets back what was there."""
    before = host.state()
    file = host.path / "etc/policies/a.yaml"
    file.write_text("nonsense")
    host.killed()
    assert rows(host)[0]["what"][1:] == ["policy 'A' is gone", "assigned: 'A' → none"]
    roll_back(host)
    assert host.state() == before
    assert file.with_name("a.yaml.broken-1").read_text() == "nonsense"


def test_what_cannot_be_used_elsewhere_keeps_nothing_from_going_back(host: Host) -> None:
    """A broken file that the rollback does not concern stays as it is."""
    host.apply(AFTER, None)
    other = host.path / "etc/policies/other.yaml"
    other.write_text("nonsense")
    host.call("Reload", resolve=False)
    roll_back(host)
    assert documents(host, 0) == {"A": format_policy(BEFORE)}
    assert other.read_text() == "nonsense"


def test_what_is_refused_is_no_bug(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    """The history looks at nothing of a call that has changed nothing."""
    with pytest.raises(NotFound):
        host.call("RemoveDynamic", selector="absent")
    host.call("RemoveDynamicRules", selectors=[])
    with pytest.raises(IpsecdError):
        host.call("Quarantine", who="nonsense", permits=[], ttl_s=None)
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_a_rollback_to_what_is_there_changes_nothing(host: Host) -> None:
    """It says so."""
    host.apply(AFTER, None)
    roll_back(host)
    listed = rows(host)
    assert roll_back(host, 2)["changed"] is False
    assert rows(host) == listed


def test_a_rollback_that_the_kernel_refuses_leaves_all_as_it_was(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On disk, in force and in the history."""
    host.apply(AFTER, None)
    before, listed = host.state(), rows(host)

    def refuse(*_: object) -> None:
        raise Refused("no", "")

    monkeypatch.setattr(host.backend, "apply", refuse)
    with pytest.raises(Refused):
        roll_back(host)
    monkeypatch.undo()
    assert (host.state(), rows(host)) == (before, listed)


def test_an_edit_before_a_start_is_a_change_too(host: Host) -> None:
    """The history says that it was found, and the state before it can be shown and returns."""
    before = host.state()
    (host.path / "etc/policies/a.yaml").write_text(format_policy(AFTER))
    host.killed()
    row = rows(host)[0]
    assert (row["source"], row["state"], row["user"]) == ("start", 1, "")
    assert row["what"] == ["found at the start", "policy 'A' is changed: 1 rule, 1 filter"]
    roll_back(host)
    assert host.state() == before


def test_an_unconfirmed_change_and_its_end_are_rows(host: Host) -> None:
    """What waits, who confirmed it, who put it back, and that nobody did."""
    host.apply(AFTER)
    assert "to be confirmed within 60 s" in rows(host)[0]["what"]
    host.call("Confirm", login=OTHER)
    assert (rows(host)[0]["source"], rows(host)[0]["kind"]) == ("confirm", "other")
    host.apply(BEFORE)
    host.call("Revert")
    assert (rows(host)[0]["source"], rows(host)[0]["kind"]) == ("revert", "policies")
    host.apply(BEFORE)
    host.wait(CONFIRM_S + 1)
    Control(host.engine).put_back_if_due()
    row = rows(host)[0]
    assert (row["source"], row["user"]) == ("put-back", "")
    assert any("nobody confirmed it in time" in text for text in row["what"])


@pytest.mark.parametrize("source", ["revert", "put-back"])
def test_dynamic_rules_that_are_put_back_are_a_row(host: Host, source: str) -> None:
    """The ban was a row, so its end is another."""
    host.block("192.0.2.1=0", confirm_s=CONFIRM_S)
    if source == "revert":
        host.call("Revert")
    else:
        host.wait(CONFIRM_S + 1)
        Control(host.engine).put_back_if_due()
    assert not host.engine.dynamic
    row = rows(host)[0]
    assert (row["source"], row["kind"]) == (source, "other")
    assert "was put back" in row["what"][0]


def test_what_is_put_back_at_a_start_is_a_row(host: Host) -> None:
    """The time was over when the daemon came back."""
    host.apply(AFTER)
    host.wait(CONFIRM_S + 1)
    host.killed()
    row = rows(host)[0]
    assert (row["source"], row["state"]) == ("put-back", 1)
    assert "nobody confirmed it in time" in row["what"][0]
    assert documents(host, 1) == {"A": format_policy(AFTER)}


def test_bans_of_a_second_are_one_row(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are; who else bans meanwhile has a row of his own."""
    clock = WallClock()
    monkeypatch.setattr(host.engine.history, "_clock", clock)
    for number in range(300):
        host.block(f"192.0.{number // 250}.{number % 250}=0", 60.0)
    host.call("FlushDynamic")
    flushed, banned = rows(host)[:2]
    assert (banned["kind"], banned["changes"], banned["put"]) == ("rules", 300, 300)
    assert banned["what"][0] == "block 192.0.0.0=0 as '192.0.0.0=0' for 60 s"
    assert len(banned["what"]) == 8
    assert (flushed["removed"], flushed["state"]) == (300, None)
    clock.now += 1
    host.engine.history.flush()
    host.block("192.0.2.1=0")
    assert [row["changes"] for row in rows(host)[:3]] == [1, 1, 300]


class NoDisk(Disk):
    """A disk on which every effect on the history is an error, or is counted."""

    fails = False

    def __init__(self) -> None:
        self.effects: list[str] = []

    def _meets(self, effect: str, path: Path) -> None:
        if "history" not in path.parts:
            return
        self.effects.append(effect)
        if self.fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def write(self, path: Path, content: bytes, like: Path | None = None) -> None:
        self._meets("write", path)
        super().write(path, content, like)

    def append(self, path: Path, content: bytes) -> None:
        self._meets("append", path)
        super().append(path, content)

    def append_durably(self, path: Path, content: bytes) -> None:
        self._meets("append_durably", path)
        super().append_durably(path, content)

    def rename(self, old: Path, new: Path) -> None:
        self._meets("rename", new)
        super().rename(old, new)


@pytest.fixture
def counting(host: Host) -> NoDisk:
    disk = NoDisk()
    host.disk = disk
    host.killed()
    disk.effects.clear()
    return disk


def test_a_ban_waits_for_no_disk(
    host: Host, counting: NoDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is written later, at once with others, and nothing is synced for it."""
    clock = WallClock()
    monkeypatch.setattr(host.engine.history, "_clock", clock)
    assert host.engine.history.due_in() is None
    host.block("192.0.2.1=0")
    assert host.engine.history.due_in() == 1.0
    host.engine.history.flush()
    assert counting.effects == []
    clock.now += 1
    assert host.engine.history.due_in() == 0.0
    host.engine.history.flush()
    assert counting.effects == ["append"]
    assert host.engine.history.due_in() is None


def test_a_daemon_that_ends_writes_what_is_left(host: Host) -> None:
    """Also the row of the last second."""
    host.block("192.0.2.1=0")
    host.engine.close()
    host.killed()
    assert rows(host)[0]["what"] == ["block 192.0.2.1=0 as '192.0.2.1=0'"]


def test_a_full_disk_refuses_nothing(host: Host, counting: NoDisk) -> None:
    """Status says that the history is not written; it is complete as soon as there is room."""
    counting.fails = True
    host.block("192.0.2.1=0")
    host.apply(AFTER, None)
    host.engine.history.flush(all_rows=True)
    assert any("the history cannot be written" in text for text in host.engine.warnings)
    due = host.engine.history.due_in()
    assert due is not None
    assert 0 < due <= history_module.RETRY_S
    listed = rows(host)
    assert {row["method"] for row in listed[:2]} == {"ApplyPolicy", "AddDynamicRules"}
    counting.fails = False
    host.engine.history.flush()
    assert not any("history" in text for text in host.engine.warnings)
    host.killed()
    assert rows(host) == listed


def test_a_fault_of_the_history_fails_no_change(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done is done, whether it is noted or not."""

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(host.engine.history, "_row", fail)
    host.apply(AFTER, None)
    host.block("192.0.2.1=0")
    assert host.engine.dynamic
    monkeypatch.undo()
    host.apply(MORE, None)
    assert [row["source"] for row in rows(host)[:2]] == ["command", "change"]
    assert documents(host, 1) == {"A": format_policy(AFTER)}


def test_the_rows_of_a_history_are_bounded(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bans push no change of policies out."""
    clock = WallClock()
    monkeypatch.setattr(host.engine.history, "_clock", clock)
    policies = policy_rows(host)
    for number in range(history_module.MOST_ROWS + 10):
        host.block(f"192.0.{number // 250}.{number % 250}=0")
        clock.now += 1
        host.engine.history.flush()
    kinds = [row["kind"] for row in rows(host)]
    assert kinds.count("rules") == history_module.MOST_ROWS
    assert policy_rows(host) == policies
    listed = rows(host)
    host.killed()
    assert rows(host) == listed


def test_documents_are_kept_for_so_many_changes(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older rows say what changed, and their documents are gone from the disk."""
    monkeypatch.setattr(history_module, "MOST_STATES", 3)
    for port in range(10, 20):
        host.apply(policy("A", f"*=0:{port}:UDP"), None)
    assert [row["state"] for row in rows(host)] == [1, 2, 3, *[None] * 9]
    assert len(list((host.path / "lib/history/documents").iterdir())) == 4
    assert documents(host, 3) == {"A": format_policy(policy("A", "*=0:16:UDP"))}
    with pytest.raises(NotFound):
        documents(host, 4)


def test_documents_are_kept_as_far_as_there_is_room(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last change can be undone all the same; what is gone is told."""
    size = len(format_policy(BEFORE))
    for module in (history_file, history_module):
        monkeypatch.setattr(module, "MAX_DOCUMENTS_BYTES", 2 * size + 10)
    for port in range(1, 9):
        host.apply(policy("A", f"*=0:{port}:UDP"), None)
    assert documents(host, 2) == {"A": format_policy(policy("A", "*=0:6:UDP"))}
    with pytest.raises(NotFound, match="is not kept any more"):
        documents(host, 3)


def test_a_damaged_document_counts_as_missing(host: Host) -> None:
    """Its name says what it has to hold."""
    host.apply(AFTER, None)
    for file in (host.path / "lib/history/documents").iterdir():
        file.write_text(file.read_text().replace("UDP", "TCP"))
    with pytest.raises(NotFound, match="is not kept any more"):
        roll_back(host)
    assert documents(host, 0) == {"A": format_policy(AFTER)}


def test_changes_of_lists_are_rows(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number of entries before and after, those of a second together."""
    monkeypatch.setattr(host.engine.history, "_clock", WallClock())
    control = Control(host.engine)
    caller = Caller(0, 1, "root")
    parameters = {"name": "bans", "source": None, "format": None, "accept": True}
    control.call("CreateList", parameters, "x", {}, b"203.0.113.7\n", caller=caller)
    for number in range(3):
        entries = [f"192.0.2.{number}"]
        added = {"name": "bans", "addresses": entries, "ttl_s": None, "accept": True}
        control.call("AddToList", added, "x", {}, None, caller=caller)
    later, created = rows(host)[:2]
    assert created["lists"] == [{"name": "bans", "before": 0, "after": 1}]
    assert (later["kind"], later["changes"]) == ("lists", 3)
    assert later["lists"] == [{"name": "bans", "before": 1, "after": 4}]


def some_rows(host: Host) -> list[Row]:
    host.apply(AFTER, None)
    host.block("192.0.2.1=0")
    host.engine.history.flush(all_rows=True)
    return [row for row, _ in reversed(host.engine.history.listed(host.engine.moment))]


def test_a_row_is_read_as_it_was_written(host: Host) -> None:
    """With everything in it."""
    for row in some_rows(host):
        assert row_of(line_of(row)[:-1]) == row


def test_a_journal_that_ends_anywhere_holds_the_rows_before(host: Host) -> None:
    """At every byte: a row is there as a whole or not at all, and the next one can be added."""
    all_rows = some_rows(host)
    journal = host.path / "lib/history/journal"
    content = journal.read_bytes()
    ends = [at for at in range(len(content)) if content[at : at + 1] == b"\n"]
    near_ends = {at + more for at in ends for more in (-1, 0, 1, 2, 9, 10)}
    lengths = sorted({*range(0, len(content), 11), *near_ends})
    for length in (each for each in lengths if each < len(content)):
        journal.write_bytes(content[:length])
        file = HistoryFile(host.path / "lib")
        read, problems = file.load()
        assert read == all_rows[: len(read)]
        assert len(read) == max(content[:length].count(b"\n") - 1, 0)
        assert bool(problems) == (length < len(b"ipsecd history 1\n"))
        for kept in journal.parent.glob("journal.broken-*"):
            kept.unlink()
        assert file.add(all_rows[-1:], [*read, all_rows[-1]], durable=True)
        assert HistoryFile(host.path / "lib").load() == ([*read, all_rows[-1]], ())


def test_a_damaged_row_is_told_and_left_out(host: Host) -> None:
    """The others count."""
    all_rows = some_rows(host)
    journal = host.path / "lib/history/journal"
    lines = journal.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"policies", b"policiez")
    journal.write_bytes(b"\n".join(lines))
    host.killed()
    assert any("line 2 of" in text for text in host.engine.warnings)
    assert [row["number"] for row in rows(host)] == [row.number for row in reversed(all_rows[1:])]


def test_a_journal_of_another_version_is_set_aside(host: Host) -> None:
    """It is kept, and a history begins anew."""
    journal = host.path / "lib/history/journal"
    journal.write_bytes(b"ipsecd history 9\n?\n")
    host.killed()
    assert any("is kept as 'journal.broken-1'" in text for text in host.engine.warnings)
    assert [row["what"][1] for row in rows(host)] == ["the history begins here"]


def test_a_boot_writes_nothing(host: Host) -> None:
    """The file system may be read-only."""
    files = sorted((host.path / "lib").rglob("*"))
    (host.path / "etc/policies/a.yaml").write_text(format_policy(AFTER))
    engine = host.reboot()
    engine.boot()
    engine.close()
    assert sorted((host.path / "lib").rglob("*")) == files


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["apply", "rollback", "ban"])
def test_a_crash_at_any_moment_loses_no_state(tmp_path: Path, name: str, after: bool) -> None:
    """After each effect: what is in force is the newest state, and all before it stay."""
    number = 0
    while True:
        number += 1
        host, fate = fateful_host(tmp_path / str(number))
        host.apply(AFTER, None)
        fate.set(number, Crash(), after=after)
        try:
            if name == "apply":
                host.apply(MORE, None)
            elif name == "rollback":
                roll_back(host)
            else:
                host.block("192.0.2.1=0")
                host.engine.history.flush(all_rows=True)
        except Crash:
            fate.set(0, Crash())
        else:
            assert number > (1 if name == "ban" else 10)
            return
        host.killed()
        stored = {name: each.text for name, each in host.engine.loaded.policies.items()}
        states = [documents(host, at) for at in range(len(policy_rows(host)))]
        assert states[0] == stored
        earlier: list[dict[str, str]] = [
            {"A": format_policy(AFTER)},
            {"A": format_policy(BEFORE)},
            {},
        ]
        assert states in (earlier, [stored, *earlier])
        roll_back(host)


def test_a_disk_that_fails_once_loses_no_row(tmp_path: Path) -> None:
    """Whichever effect fails: what was done is in the history once it can be written."""
    number = 0
    while True:
        number += 1
        host, fate = fateful_host(tmp_path / str(number))
        fate.set(number, OSError(errno.EIO, "it failed"))
        with suppress(IpsecdError):
            host.apply(AFTER, None)
        is_over = fate.count < number
        fate.set(0, Crash())
        host.engine.history.flush(all_rows=True)
        listed = rows(host)
        host.killed()
        assert rows(host) == listed
        changed = host.engine.loaded.policies["A"].text == format_policy(AFTER)
        assert documents(host, 0) == {"A": format_policy(AFTER if changed else BEFORE)}
        if changed:
            assert documents(host, 1) == {"A": format_policy(BEFORE)}
        if is_over:
            return


class DiskWithoutDocuments(FullDisk):
    """A disk that has room for short rows, and for no document."""

    def write(self, path: Path, content: bytes, like: Path | None = None) -> None:
        if self.is_full and path.parent.name == "documents":
            raise OSError(errno.ENOSPC, "full", str(path))
        Disk.write(self, path, content, like)


def test_a_document_that_has_no_room_is_told_and_written_later(tmp_path: Path) -> None:
    """The row alone is not the state."""
    disk = DiskWithoutDocuments()
    host = Host(tmp_path, disk)
    host.apply(BEFORE, None)
    disk.is_full = True
    host.apply(AFTER, None)
    assert any("history cannot be written: full" in warning for warning in host.engine.warnings)
    host.engine.history.flush()
    assert host.engine.history.due_in() == pytest.approx(history_module.RETRY_S, abs=1)
    disk.is_full = False
    host.engine.history.flush()
    assert not host.engine.warnings
    assert host.engine.history.due_in() is None
    host.killed()
    host.apply(MORE, None)
    host.killed()
    assert documents(host, 1) == {"A": format_policy(AFTER)}
