"""Lists by the methods of the interface: in force, on disk, and held back where they look wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import Control, list_changes
from ipsecd.engine import Engine
from ipsecd.errors import BackendFailed, InvalidInput, NotFound, Refused
from ipsecd.language.filters import parse_filter
from ipsecd.language.list_guard import Needed
from ipsecd.model.addresses import Family
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.protocol.description import CONTROL, load_interface
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.files import Disk
from tests.engine.effects import Crash, Fate, FatefulBackend, FatefulDisk
from tests.engine.site import HOST, ME, Site

LISTED, OTHER, FAR = 0xCB007107, 0xCB007108, 0xC6336401
POLICY = Policy("P", (Rule("r", (parse_filter("@bans=0"),), Action.BLOCK),))
GATEWAY = Needed(Family.IPV4, 0xC0000201, "the default gateway")
INTERFACE = load_interface(CONTROL)


@pytest.fixture(autouse=True)
def _needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_changes, "needed_addresses", lambda: (GATEWAY,))


class Desk:
    """Somebody who calls methods of an engine that enforces in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.site = Site(path)
        self.again()

    def again(self) -> None:
        """Start a new process."""
        self.engine = self.site.again()
        self.control = Control(self.engine)

    def ask(self, method: str, document: bytes | None = None, **parameters: Any) -> dict[str, Any]:
        """The reply, which has to be as the interface says."""
        if document is not None:
            parameters["document"] = None
        checked = INTERFACE.check_call(method, parameters)
        reply = self.control.call(method, checked, "somebody", {}, document)
        return INTERFACE.check_reply(method, reply)

    def change(
        self, method: str, document: bytes | None = None, **parameters: Any
    ) -> dict[str, Any]:
        accept = {} if method in {"RemoveFromList", "DeleteList"} else {"accept": False}
        reply = self.ask(method, document, **{**accept, **parameters})
        outcome: dict[str, Any] = reply["outcome"]
        return outcome

    def blocked(self) -> list[int]:
        return [address for address in (LISTED, OTHER, FAR) if self.site.blocks(53, address)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.engine.change(put=[POLICY], assign="P")
    return desk


def test_a_list_is_made_changed_and_deleted(desk: Desk) -> None:
    """Each change is in force when it is answered, says what it did, and lasts."""
    steps: list[tuple[Callable[[], dict[str, Any]], list[int], str]] = [
        (lambda: desk.change("CreateList", b"", name="bans"), [], "0 entries"),
        (lambda: desk.change("AddToList", name="bans", addresses=["203.0.113.7"]), [LISTED],
         "list 'bans' is changed: 1 entry, 1 new"),
        (lambda: desk.change("AddToList", name="bans", addresses=["203.0.113.8"], ttl_s=3600.0),
         [LISTED, OTHER], "2 entries, 1 new"),
        (lambda: desk.change("AddToList", name="bans", addresses=["203.0.113.7"]),
         [LISTED, OTHER], "list 'bans' is changed: 2 entries"),
        (lambda: desk.change("RemoveFromList", name="bans", addresses=["203.0.113.7"]), [OTHER],
         "1 entry, 1 gone"),
        (lambda: desk.change("ReplaceList", b"198.51.100.0/24\n203.0.113.7\n", name="bans"),
         [LISTED, FAR], "2 entries, 2 new, 1 gone"),
        (lambda: desk.change("RemoveFromList", name="bans", addresses=["198.51.100.0/24"]),
         [LISTED], "1 entry, 1 gone"),
        (lambda: desk.change("DeleteList", name="bans"), [], "list 'bans' is deleted"),
    ]  # fmt: skip
    for change, blocked, words in steps:
        outcome = change()
        assert words in outcome["message"]
        assert desk.blocked() == blocked, words
        desk.again()
        assert desk.blocked() == blocked, words
    assert outcome["warnings"] == ["filters of 'r' match nothing by it until it is made again"]


def test_a_start_and_a_reload_read_the_files(desk: Desk) -> None:
    """What people have written is in force, and a bad file keeps what it held last."""
    directory = desk.path / "etc/lists"
    directory.mkdir()
    (directory / "bans").write_text("203.0.113.7\n")
    desk.again()
    assert desk.blocked() == [LISTED]
    (directory / "bans").write_text("203.0.113.8\n")
    reply = desk.ask("Reload", resolve=False)
    assert reply["outcome"]["changed"]
    assert desk.blocked() == [OTHER]
    assert not desk.ask("Reload", resolve=False)["outcome"]["changed"]
    (directory / "bans").write_text("nonsense\n")
    (directory / "more").write_text("198.51.100.1\n")
    reply = desk.ask("Reload", resolve=False)
    assert "holds no address list" in reply["outcome"]["message"]
    assert "holds no address list" in desk.engine.warnings[0]
    assert desk.blocked() == [OTHER]
    assert set(desk.engine.lists) == {"bans", "more"}
    desk.again()
    assert desk.blocked() == [OTHER]
    (directory / "bans").unlink()
    desk.ask("Reload", resolve=False)
    assert desk.blocked() == []


def test_a_boot_enforces_lists_and_writes_nothing(desk: Desk) -> None:
    """Before anything may be written, what was kept is in force."""
    desk.change("CreateList", b"203.0.113.7\n", name="bans")
    desk.change("AddToList", name="bans", addresses=["203.0.113.8"], ttl_s=3600.0)
    (desk.path / "etc/lists/late").write_text("198.51.100.1\n")
    before = {file: file.read_bytes() for file in desk.path.rglob("*") if file.is_file()}
    backend = desk.site.backend
    engine = Engine(desk.site.config, desk.site.directories, lambda: backend, clock=desk.site.clock)
    backend.remove()
    assert desk.blocked() == []
    assert engine.boot()
    assert desk.blocked() == [LISTED, OTHER]
    assert {file: file.read_bytes() for file in desk.path.rglob("*") if file.is_file()} == before


def test_entries_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """At their time they are out of force, in a later process too."""
    desk.change("CreateList", b"203.0.113.7\n", name="bans")
    desk.change("AddToList", name="bans", addresses=["203.0.113.8"], ttl_s=3600.0)
    for again in (False, True):
        if again:
            desk.again()
        desk.engine.kept_lists.expire()
        assert desk.blocked() == [LISTED, OTHER]
    end = desk.control.next_list_end()
    assert end
    monkeypatch.setattr(desk.engine.kept_lists.store, "clock", lambda: end)
    desk.control.expire_lists()
    assert desk.blocked() == [LISTED]
    assert desk.control.next_list_end() is None
    for ttl_s in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InvalidInput, match="time to live"):
            desk.change("AddToList", name="bans", addresses=["203.0.113.8"], ttl_s=ttl_s)


@pytest.mark.parametrize(
    ("method", "document", "parameters", "why"),
    [
        ("CreateList", b"0.0.0.0/0\n", {"name": "new"}, "every IPv4 address"),
        ("CreateList", b"# nothing\n", {"name": "new"}, "no entry"),
        ("CreateList", b"", {"name": "new", "source": "empty.txt"}, "no entry"),
        ("ReplaceList", b"203.0.113.7\n", {"name": "bans"}, "shrink from 3 entries to 1"),
        ("ReplaceList", b"192.0.2.0/24\n203.0.113.7\n10.0.0.1\n", {"name": "bans"}, "gateway"),
        ("AddToList", None, {"name": "bans", "addresses": ["192.0.2.1"]}, "gateway"),
        ("AddToList", None, {"name": "bans", "addresses": ["127.0.0.0/8"]}, "loopback"),
    ],
)
def test_what_looks_wrong_is_held_back(
    desk: Desk, method: str, document: bytes | None, parameters: dict[str, Any], why: str
) -> None:
    """The old list stays, and it is taken if somebody accepts it."""
    desk.change("CreateList", b"203.0.113.7\n203.0.113.8\n198.51.100.1\n", name="bans")
    before = dict(desk.engine.lists)
    with pytest.raises(Refused, match=why) as refusal:
        desk.change(method, document, **parameters)
    assert "--accept" in refusal.value.hint
    assert dict(desk.engine.lists) == before
    desk.change(method, document, **parameters, accept=True)
    assert dict(desk.engine.lists) != before
    desk.again()
    assert dict(desk.engine.lists) != before


def test_lists_are_shown(desk: Desk) -> None:
    """Each with its entries, what names it, and which entries an address is in."""
    desk.engine.add_dynamic(DynamicRule("d", (parse_filter("@bans=0:54:UDP"),), Action.BLOCK))
    desk.change("CreateList", b"203.0.113.0/24\n203.0.113.7\n2001:db8::/32\nfoo\n", name="bans")
    desk.change("AddToList", name="bans", addresses=["203.0.113.0/28"], ttl_s=60.0)
    (described,) = desk.ask("ListLists")["lists"]
    assert (described["entries"], described["ipv4"], described["ipv6"]) == (4, 3, 1)
    assert (described["added"], described["ending"]) == (1, 1)
    assert described["path"] == str(desk.path / "etc/lists/bans")
    assert [rule["rule"] for rule in described["rules"]] == ["r", "d"]
    reply = desk.ask("GetList", name="bans", address="203.0.113.7")
    assert reply["entries"] == ["203.0.113.0/24", "203.0.113.0/28", "203.0.113.7"]
    assert [entry["entry"] for entry in reply["ending"]] == ["203.0.113.0/28"]
    assert desk.ask("GetList", name="bans", address="203.0.114.7")["entries"] == []
    assert len(desk.ask("GetList", name="bans")["entries"]) == 4
    with pytest.raises(InvalidInput, match="not one address"):
        desk.ask("GetList", name="bans", address="203.0.113.0/24")
    with pytest.raises(NotFound):
        desk.ask("GetList", name="gone")
    with pytest.raises(InvalidInput, match="no address is named"):
        desk.change("AddToList", name="bans", addresses=[])


CHANGES: dict[str, Callable[[Desk], object]] = {
    "create": lambda desk: desk.change("CreateList", b"198.51.100.1\n", name="more"),
    "add": lambda desk: desk.change("AddToList", name="bans", addresses=["198.51.100.1"]),
    "remove": lambda desk: desk.change(
        "RemoveFromList", name="bans", addresses=["203.0.113.7", "203.0.113.8"]
    ),
    "replace": lambda desk: desk.change("ReplaceList", b"198.51.100.1\n", name="bans", accept=True),
    "delete": lambda desk: desk.change("DeleteList", name="bans"),
}
Held = tuple[dict[str, object], list[int]]


def two_rules(desk: Desk) -> None:
    rules = (*POLICY.rules, Rule("m", (parse_filter("@more=0"),), Action.BLOCK))
    desk.engine.change(put=[Policy("P", rules)], assign="P")
    desk.change("CreateList", b"203.0.113.7\n", name="bans")
    desk.change("AddToList", name="bans", addresses=["203.0.113.8"])


@pytest.mark.parametrize("name", CHANGES)
def test_a_kernel_that_refuses_leaves_the_old_lists(
    desk: Desk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel does not take is not on disk either."""
    two_rules(desk)
    before = dict(desk.engine.lists)

    def refuse(*_: object) -> None:
        raise BackendFailed("no", "try again")

    with monkeypatch.context() as patch:
        patch.setattr(desk.site.backend, "apply", refuse)
        patch.setattr(desk.site.backend, "change", refuse)
        with pytest.raises(BackendFailed):
            CHANGES[name](desk)
    assert dict(desk.engine.lists) == before
    assert desk.blocked() == [LISTED, OTHER]
    CHANGES[name](desk)
    assert dict(desk.engine.lists) != before
    desk.again()
    assert dict(desk.engine.lists) != before


class FatefulDesk(Desk):
    """Whose disk and kernel fail, or whose process dies, at a chosen effect."""

    def __init__(self, path: Path) -> None:
        self.fate = Fate()
        super().__init__(path)

    def again(self) -> None:
        self.engine = self._made(FatefulDisk(self.fate))
        self.control = Control(self.engine)

    def _made(self, disk: Disk) -> Engine:
        backend = FatefulBackend(self.fate)
        engine = Engine(self.site.config, self.site.directories, lambda: backend, disk)
        engine.start()
        self.backend = backend
        return engine

    def held(self) -> Held:
        blocked = [
            address
            for address in (LISTED, OTHER, FAR)
            if self.backend.judge(Site.packet(53, address, ME), HOST).action is Action.BLOCK
        ]
        return dict(self.engine.lists), blocked


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_leaves_the_old_lists_or_the_new(tmp_path: Path, name: str, after: bool) -> None:
    """On disk and in force, at whichever effect the process dies."""
    model = FatefulDesk(tmp_path / "model")
    two_rules(model)
    before = model.held()
    CHANGES[name](model)
    done = model.held()
    assert before != done
    outcomes = set()
    number = 0
    while True:
        number += 1
        desk = FatefulDesk(tmp_path / str(number))
        two_rules(desk)
        desk.fate.set(number, Crash(), after=after)
        try:
            CHANGES[name](desk)
        except Crash:
            desk.fate.set(0, Crash())
            desk.again()
            assert desk.held() in (before, done), number
            outcomes.add(desk.held() == done)
            continue
        # A crash after the first effect, if that is the only one on disk, finds the new lists.
        assert after in outcomes
        return
