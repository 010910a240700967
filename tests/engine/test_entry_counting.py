"""What entries of lists have matched, over everything that may happen to lists and the daemon."""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.memory import MemoryBackend
from ipsecd.control import Control, list_changes
from ipsecd.errors import BackendFailed, IpsecdError, Refused
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Origin, Policy, Rule
from ipsecd.protocol.description import CONTROL, load_interface
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.entry_counts_file import EntryCountsFile, KeptLists, from_json, to_json
from tests.engine.site import Site, fail_once

ONE, TWO, NEAR, FAR = 0xCB007107, 0xCB007108, 0xCB007163, 0xC6336401
"""203.0.113.7, .8 and .99, and 198.51.100.1."""
BLOCKING = Policy("P", (Rule("r", (parse_filter("@bans=0"),), Action.BLOCK),))
INTERFACE = load_interface(CONTROL)


class Desk:
    """Somebody who looks after lists, on a host to which packets come."""

    def __init__(self, path: Path) -> None:
        self.site = Site(path)
        self.control = Control(self.site.engine)

    def again(self, backend: MemoryBackend | None = None) -> None:
        """Start a new process, with what is in force or with nothing."""
        self.site.backend = backend or self.site.backend
        self.control = Control(self.site.again())

    def ask(self, method: str, document: bytes | None = None, **given: Any) -> dict[str, Any]:
        if document is not None:
            given["document"] = None
        checked = INTERFACE.check_call(method, given)
        reply = self.control.call(method, checked, "somebody", {}, document)
        return INTERFACE.check_reply(method, reply)

    def come(self, *sources: int) -> None:
        for source in sources:
            self.site.blocks(53, source)

    def counted(self, address: str | None = None) -> Counter[str]:
        reply = self.ask("GetList", name="bans", address=address, counters=True)
        return Counter({each["entry"]: each["packets"] for each in reply["counters"]["entries"]})


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(list_changes, "needed_addresses", lambda: ())
    desk = Desk(tmp_path)
    text = b"203.0.113.7\n203.0.113.8\n203.0.113.0/24\n"
    desk.ask("CreateList", text, name="bans", accept=False, counted=True)
    desk.site.engine.change(put=[BLOCKING], assign="P")
    desk.come(ONE, ONE, TWO, NEAR, FAR)
    return desk


BEFORE = Counter({"203.0.113.7": 2, "203.0.113.8": 1, "203.0.113.0/24": 1})


def test_a_packet_counts_for_the_entry_that_decides(desk: Desk) -> None:
    """The narrowest that it is in; the sum is what the rule has matched, and one list's is told."""
    assert desk.counted() == BEFORE
    assert desk.counted("203.0.113.7") == {"203.0.113.7": 2, "203.0.113.0/24": 1}
    rule = desk.site.engine.counting.read()[Origin("static", "P", "r")]
    stats = desk.ask("Stats")
    assert [each["packets"] for each in stats["lists"]] == [rule.count.packets] == [4]
    (metrics,) = desk.ask("Metrics")["metrics"]["lists"]
    assert metrics["packets"] == 4


def test_other_changes_leave_counts_as_they_are(desk: Desk) -> None:
    """Other entries, other rules, none, a withdrawal, and all of that again."""
    engine = desk.site.engine
    desk.ask("AddToList", name="bans", addresses=["198.51.100.0/24", "198.51.100.1"], accept=False)
    desk.come(FAR)
    wanted = BEFORE + Counter({"198.51.100.1": 1})
    assert desk.counted() == wanted
    engine.change(put=[Policy("P", (Rule("r", (parse_filter("*=0:9:UDP"),), Action.BLOCK),))])
    engine.change(assign=None)
    assert desk.counted() == wanted
    engine.add_dynamic(DynamicRule("d", (parse_filter("@bans=0"),), Action.BLOCK))
    desk.come(ONE)
    wanted["203.0.113.7"] += 1
    engine.change_dynamic([], ["d"])
    assert desk.counted() == wanted
    engine.change(put=[BLOCKING], assign="P")
    engine.stop()
    engine.start()
    desk.come(TWO)
    wanted["203.0.113.8"] += 1
    assert desk.counted() == wanted


def test_an_entry_that_goes_takes_its_count_along(desk: Desk) -> None:
    """Also if it comes again before anybody looks, and whatever counted for it meanwhile."""
    engine = desk.site.engine
    for _ in range(2):
        desk.ask("RemoveFromList", name="bans", addresses=["203.0.113.7"])
        engine.change(assign=None)
        desk.ask("AddToList", name="bans", addresses=["203.0.113.7"], accept=False)
        engine.change(assign="P")
        desk.come(ONE)
        assert desk.counted() == BEFORE - Counter({"203.0.113.7": 1})
        desk.ask("RemoveFromList", name="bans", addresses=["203.0.113.7"])
        desk.ask("AddToList", name="bans", addresses=["203.0.113.7"], accept=False)
        assert desk.counted() == BEFORE - Counter({"203.0.113.7": 2})
        desk.come(ONE)
    text = b"203.0.113.7\n203.0.113.0/24\n"
    desk.ask("ReplaceList", text, name="bans", accept=True)
    assert desk.counted() == {"203.0.113.7": 1, "203.0.113.0/24": 1}


def test_counts_go_on_in_the_next_process(desk: Desk) -> None:
    """After a restart, a crash, whenever the file was written; and with other counters."""
    entries = desk.site.engine.counting.entries
    desk.again()
    desk.come(ONE)
    wanted = Counter({"203.0.113.7": 1}) + BEFORE
    assert desk.counted() == wanted
    desk.site.engine.counting.keep()
    desk.come(ONE)
    desk.again()
    wanted["203.0.113.7"] += 1
    assert desk.counted() == wanted
    desk.site.engine.close()
    desk.again(MemoryBackend(desk.site.clock))
    desk.come(TWO)
    wanted["203.0.113.8"] += 1
    assert desk.counted() == wanted
    assert entries is not desk.site.engine.counting.entries
    desk.site.engine.counting.keep()
    desk.again()
    assert desk.counted() == wanted


def test_after_a_reboot_what_was_kept_stays(desk: Desk) -> None:
    """Entries that went from the file meanwhile are forgotten."""
    desk.site.engine.close()
    file = EntryCountsFile(desk.site.directories.state)
    kept = file.load()
    assert from_json(to_json(kept)) == kept
    file.save(to_json(KeptLists("another boot", kept.lists)))
    (desk.site.directories.config / "lists" / "bans").write_text("203.0.113.7\n203.0.113.9\n")
    desk.again(MemoryBackend(desk.site.clock))
    assert desk.counted() == {"203.0.113.7": 2}
    desk.come(ONE)
    assert desk.counted() == {"203.0.113.7": 3}


def test_counting_is_asked_for_and_ends(desk: Desk) -> None:
    """Off forgets, on begins at zero, and both last; what passes stays as it is."""
    assert desk.ask("CountList", name="bans", counted=True)["outcome"]["changed"] is False
    for _ in range(2):
        assert desk.ask("CountList", name="bans", counted=False)["outcome"]["changed"] is True
        assert desk.site.blocks(53, ONE)
        with pytest.raises(Refused, match="does not count"):
            desk.counted()
        desk.again()
        assert [each["counted"] for each in desk.ask("ListLists")["lists"]] == [False]
        desk.ask("CountList", name="bans", counted=True)
        assert desk.counted() == {}
        desk.come(ONE)
        assert desk.counted() == {"203.0.113.7": 1}
        desk.again()
        assert desk.counted() == {"203.0.113.7": 1}


def test_a_list_that_is_made_anew_is_another(desk: Desk) -> None:
    """Neither that it counted nor what it did is left of the one before."""
    desk.ask("DeleteList", name="bans")
    desk.ask("CreateList", b"203.0.113.7\n", name="bans", accept=False)
    with pytest.raises(Refused, match="does not count"):
        desk.counted()
    desk.ask("CountList", name="bans", counted=True)
    assert desk.counted() == {}


def test_a_backup_says_which_lists_count(desk: Desk) -> None:
    """It has them count that did when it was made, and no others; counts are no part of it."""
    archive = b64decode(desk.ask("GetBackup")["archive"])
    desk.ask("CreateList", b"10.0.0.1\n", name="more", accept=False, counted=True)
    desk.ask("CountList", name="bans", counted=False)
    for changed in (True, False):
        reply = desk.ask("Restore", archive, source="x", dry_run=False)
        assert reply["outcome"]["changed"] is changed
        assert [(each["name"], each["counted"]) for each in desk.ask("ListLists")["lists"]] == [
            ("bans", True)
        ]
    assert desk.counted() == {}
    desk.come(ONE)
    desk.again()
    assert desk.counted() == {"203.0.113.7": 1}


def test_a_dry_run_of_a_backup_says_which_lists_would_count(desk: Desk) -> None:
    """And has none of them do it."""
    archive = b64decode(desk.ask("GetBackup")["archive"])
    desk.ask("CountList", name="bans", counted=False)
    wanted = ["~ list 'bans': counts what each entry matches"]
    reply = desk.ask("Restore", archive, source="x", dry_run=True)
    assert reply["outcome"]["changes"] == wanted
    assert [each["counted"] for each in desk.ask("ListLists")["lists"]] == [False]
    without = b64decode(desk.ask("GetBackup")["archive"])
    assert desk.ask("Restore", archive, source="x", dry_run=False)["outcome"]["changes"] == wanted
    reply = desk.ask("Restore", without, source="x", dry_run=True)
    assert reply["outcome"]["changes"] == ["~ list 'bans': counts no more, and forgets its counts"]


def test_a_backup_is_not_restored_if_its_lists_cannot_count(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is anything else in it."""
    desk.ask("CreateList", b"10.0.0.1\n", name="more", accept=False, counted=False)
    archive = b64decode(desk.ask("GetBackup")["archive"])
    desk.ask("CountList", name="bans", counted=False)
    desk.ask("DeleteList", name="more")
    failed = fail_once(monkeypatch, desk.site.backend, "apply")
    with pytest.raises(BackendFailed):
        desk.ask("Restore", archive, source="x", dry_run=False)
    assert failed()
    desk.again()
    assert [(each["name"], each["counted"]) for each in desk.ask("ListLists")["lists"]] == [
        ("bans", False)
    ]


def test_what_is_not_taken_leaves_all_as_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without room for counters."""
    desk.ask("CountList", name="bans", counted=False)
    failed = fail_once(monkeypatch, desk.site.backend, "apply")
    with pytest.raises(BackendFailed):
        desk.ask("CountList", name="bans", counted=True)
    assert failed()
    desk.again()
    assert [each["counted"] for each in desk.ask("ListLists")["lists"]] == [False]


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"ipsecd entry-counts 1 x\n", b"[" * 5000])
def test_a_file_of_garbage_costs_counts_and_nothing_else(desk: Desk, content: bytes) -> None:
    """It is told what has happened, until the file is written again."""
    desk.site.engine.close()
    (desk.site.directories.state / "entry-counts").write_bytes(content)
    desk.again(MemoryBackend(desk.site.clock))
    engine = desk.site.engine
    assert desk.counted() == {}
    desk.come(ONE)
    assert desk.counted() == {"203.0.113.7": 1}
    assert [each for each in engine.warnings if "entries of lists are counted from now" in each]
    engine.counting.keep()
    assert not [each for each in engine.warnings if "entries of lists" in each]


def test_lists_that_one_rule_names_alike_share_no_count(desk: Desk) -> None:
    """What both have counts for the first by name that counts."""
    text = b"203.0.113.7\n198.51.100.1\n"
    desk.ask("CreateList", text, name="also", accept=False, counted=True)
    both = (parse_filter("@bans=0"), parse_filter("@also=0"))
    desk.site.engine.change(put=[Policy("P", (Rule("r", both, Action.BLOCK),))])
    desk.come(ONE, FAR)
    assert desk.counted() == BEFORE
    reply = desk.ask("GetList", name="also", address=None, counters=True)["counters"]
    assert {each["entry"]: each["packets"] for each in reply["entries"]} == {
        "198.51.100.1": 1,
        "203.0.113.7": 1,
    }
    desk.ask("CountList", name="also", counted=False)
    desk.come(ONE)
    assert desk.counted() == BEFORE + Counter({"203.0.113.7": 1})


@pytest.mark.parametrize(
    "content",
    [
        b'{"place": "", "lists": [[""]]}',
        b'{"place": "", "lists": [["a", 1.0], ["203.0.113.7", -1, 0]]}',
        b'{"place": "", "lists": [["a", 1.0], ["x", 1, 1]]}',
        b'{"place": "", "lists": [[]]}',
        b'{"place": "", "lists": [["a", 1, 2, 3]]}',
    ],
)
def test_only_what_was_written_can_be_read(content: bytes) -> None:
    """What does not fit is an error, and nothing is taken of it."""
    with pytest.raises((ValueError, IpsecdError)):
        from_json(content)
