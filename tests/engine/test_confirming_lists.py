"""Lists whose change has to be confirmed: unless somebody does, they return as they were."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ipsecd.control import list_changes
from ipsecd.control.feeds import Fetched
from ipsecd.errors import BackendFailed, IpsecdError, NotFound, Refused, StoreFailed
from ipsecd.language.documents import format_policy
from ipsecd.language.list_entries import format_list
from ipsecd.sources.list_parts import Parts
from tests.engine.changing_host import CONFIRM_S, OTHER, FullDisk, Host, policy
from tests.engine.effects import Crash, Fate, FatefulBackend, FatefulDisk

BLOCKING = policy("A", "@bans=0", "@drop=0", "@new=0")
EDITED = policy("A", "@bans=0:1:UDP")
TEXT = b"# who may not\n203.0.113.7  # since May\n\n198.51.100.0/24\n"
EDIT = b"# mine\n203.0.113.8\n"
NOW = 4e9
URL = "https://feeds.example/drop"


@pytest.fixture(autouse=True)
def _this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no address, and the time stands still: ends are rounded on disk."""
    monkeypatch.setattr(list_changes, "needed_addresses", lambda: ())
    monkeypatch.setattr("time.time", lambda: NOW)


def create_feed(host: Host, name: str, text: bytes, confirm_s: float | None = None) -> None:
    given: dict[str, Any] = {
        "url": URL,
        "every_s": 3600.0,
        "format": None,
        "plain_http": False,
        "accept": False,
    }
    fetched = Fetched(text, etag=f'"{name}"')
    host.call("CreateFeed", name=name, fetched=fetched, confirm_s=confirm_s, **given)


def update(host: Host, text: bytes, confirm_s: float | None = None) -> None:
    fetched = Fetched(text, etag='"2"')
    host.call("UpdateList", name="drop", fetched=fetched, accept=True, confirm_s=confirm_s)


def add(host: Host, name: str, *entries: str, confirm_s: float | None = None, **given: Any) -> None:
    given = {"ttl_s": None, **given}
    host.call(
        "AddToList",
        name=name,
        addresses=list(entries),
        accept=True,
        confirm_s=confirm_s,
        **given,
    )


def remove(host: Host, name: str, *entries: str, confirm_s: float | None = None) -> None:
    host.call("RemoveFromList", name=name, addresses=list(entries), confirm_s=confirm_s)


def delete(host: Host, name: str, confirm_s: float | None = None) -> None:
    host.call("DeleteList", name=name, confirm_s=confirm_s)


def replace(host: Host, text: bytes, confirm_s: float | None = None) -> None:
    given: dict[str, Any] = {"source": "x", "format": None, "accept": True}
    host.call("ReplaceList", name="bans", text=text, confirm_s=confirm_s, **given)


def create(host: Host, name: str, text: bytes, confirm_s: float | None = None) -> None:
    given: dict[str, Any] = {"source": "x", "format": None, "accept": True}
    host.call("CreateList", name=name, text=text, confirm_s=confirm_s, **given)


def filled(host: Host) -> Host:
    """A list with a file and added entries, and one from a URL that has some."""
    host.apply(BLOCKING, None)
    create(host, "bans", TEXT)
    add(host, "bans", "192.0.2.1", "2001:db8::7")
    add(host, "bans", "192.0.2.2", ttl_s=86400.0)
    create_feed(host, "drop", b"192.0.2.128/25\n198.18.0.1\n")
    add(host, "drop", "192.0.2.3", ttl_s=86400.0)
    return host


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory: each of thousands of effects waits for the disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return filled(Host(tmp_path))


def edit(host: Host, text: bytes = EDIT) -> None:
    (host.path / "etc/lists/bans").write_bytes(text)


def edit_and_reload(host: Host) -> None:
    """Edit the policy, a list, and make another list."""
    (host.path / "etc/policies/a.yaml").write_text(format_policy(EDITED))
    (host.path / "etc/lists/new").write_text("203.0.113.99\n")
    edit(host)
    host.call("Reload", resolve=False, confirm_s=CONFIRM_S)


def delete_and_reload(host: Host) -> None:
    (host.path / "etc/lists/bans").unlink(missing_ok=True)
    host.call("Reload", resolve=False, confirm_s=CONFIRM_S)


CHANGES: dict[str, Callable[[Host], object]] = {
    "create": lambda host: create(host, "new", EDIT, CONFIRM_S),
    "create from a URL": lambda host: create_feed(host, "new", EDIT, CONFIRM_S),
    "add": lambda host: add(host, "bans", "192.0.2.9", "192.0.2.10", confirm_s=CONFIRM_S),
    "add again": lambda host: add(host, "bans", "192.0.2.2", ttl_s=3600.0, confirm_s=CONFIRM_S),
    "add to a feed": lambda host: add(host, "drop", "::/64", confirm_s=CONFIRM_S),
    "remove": lambda host: remove(host, "bans", "192.0.2.2", confirm_s=CONFIRM_S),
    "remove from the file": lambda host: remove(
        host, "bans", "198.51.100.0/24", "192.0.2.1", confirm_s=CONFIRM_S
    ),
    "replace": lambda host: replace(host, EDIT, CONFIRM_S),
    "delete": lambda host: delete(host, "bans", CONFIRM_S),
    "delete a feed": lambda host: delete(host, "drop", CONFIRM_S),
    "update": lambda host: update(host, b"192.0.2.200\n", CONFIRM_S),
    "reload": edit_and_reload,
    "reload without the file": delete_and_reload,
}


def in_memory(host: Host) -> tuple[object, ...]:
    """What there is in memory and in force: entries, their ends, what is known of URLs."""
    held = host.backend._classifier  # type: ignore[attr-defined]
    lists = {
        name: (
            list(format_list(stored.addresses)),
            dict(stored.added),
            stored.feed and (stored.feed.url, stored.feed.etag, stored.feed.fetched),
            stored.problems,
        )
        for name, stored in host.engine.kept_lists.store.lists.items()
    }
    in_force = {name: list(format_list(addresses)) for name, addresses in held.lists.items()}
    return (lists, in_force, *host.state()[2:])


def on_disk(host: Host) -> dict[str, bytes]:
    """The files of people, but those that are kept beside and what a crash leaves of writing."""
    return {
        str(path.relative_to(host.path)): path.read_bytes()
        for path in (host.path / "etc").rglob("*")
        if path.is_file() and ".unconfirmed-" not in path.name and path.suffix != ".tmp"
    }


def state(host: Host) -> tuple[object, ...]:
    return (on_disk(host), *in_memory(host))


def is_over(host: Host) -> bool:
    """Whether nothing waits, and nothing is left of what was kept."""
    copies = host.path / "lib/unconfirmed-lists"
    return not host.pending and not (copies.exists() and list(copies.iterdir()))


@pytest.mark.parametrize("name", CHANGES)
def test_without_confirmation_lists_return(host: Host, name: str) -> None:
    """Exactly: files with their comments, entries with their ends; and the next process agrees."""
    before = state(host)
    CHANGES[name](host)
    after = state(host)
    assert after != before
    assert after[2] != before[2] or name == "add again"
    host.wait(CONFIRM_S - 1)
    host.engine.confirmation.put_back_if_due()
    assert (state(host), host.pending) == (after, True)
    host.wait(2)
    host.engine.confirmation.put_back_if_due()
    assert (state(host), is_over(host)) == (before, True)
    assert host.engine.warnings == ()
    host.killed()
    assert (state(host), is_over(host)) == (before, True)


@pytest.mark.parametrize("name", CHANGES)
def test_a_confirmed_change_of_lists_stays(host: Host, name: str) -> None:
    """Nothing is left of what was kept, and nothing happens when the time is over."""
    CHANGES[name](host)
    after = state(host)
    host.call("Confirm", login=OTHER)
    assert is_over(host)
    host.pass_deadline()
    host.killed()
    assert state(host) == after


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("late", [False, True])
def test_a_kill_in_between_confirms_no_lists(host: Host, name: str, late: bool) -> None:
    """Whether the next process starts before the time is over or after."""
    before = state(host)
    CHANGES[name](host)
    after = state(host)
    host.wait(CONFIRM_S + 1 if late else CONFIRM_S / 2)
    host.killed()
    assert (state(host), host.pending) == ((before, False) if late else (after, True))
    host.pass_deadline()
    assert (state(host), is_over(host)) == (before, True)


@pytest.mark.parametrize("name", CHANGES)
def test_a_reboot_confirms_no_lists(host: Host, name: str) -> None:
    """What is enforced from boot on is what was before, and nothing is written by it."""
    before, memory = state(host), in_memory(host)
    CHANGES[name](host)
    files = on_disk(host)
    assert host.reboot().boot()
    assert in_memory(host) == memory
    assert on_disk(host) == files
    assert (host.path / "lib/unconfirmed").exists()
    host.killed()
    assert (state(host), is_over(host)) == (before, True)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("hours", [-1, 1])
def test_the_wall_clock_means_nothing_for_lists(
    host: Host, monkeypatch: pytest.MonkeyPatch, name: str, hours: int
) -> None:
    """Set by an hour, back or forth, it neither ends the time nor changes ends of entries."""
    before = state(host)
    CHANGES[name](host)
    now = NOW + hours * 3600
    monkeypatch.setattr("time.time", lambda: now)
    host.killed()
    assert host.engine.confirmation.left_s() == CONFIRM_S
    host.pass_deadline()
    assert (state(host), is_over(host)) == (before, True)


@pytest.mark.parametrize("name", CHANGES)
def test_a_full_disk_keeps_no_list_from_returning(host: Host, name: str) -> None:
    """They are in force as before at once, on disk as soon as that is possible, and said."""
    before, memory = state(host), in_memory(host)
    CHANGES[name](host)
    disk = host.disk
    assert isinstance(disk, FullDisk)
    disk.is_full = True
    host.pass_deadline()
    # What is put back by deleting alone needs no room.
    assert in_memory(host) == memory
    assert host.pending or state(host) == before
    if host.pending:
        assert any("cannot be put back for now" in text for text in host.engine.warnings)
        host.killed()
        assert in_memory(host) == memory
    disk.is_full = False
    host.pass_deadline()
    assert (state(host), is_over(host)) == (before, True)
    assert host.engine.warnings == ()


@pytest.mark.parametrize("name", CHANGES)
def test_a_list_that_cannot_be_kept_is_not_changed(host: Host, name: str) -> None:
    """A disk that is full before the change lets nobody rely on what will not happen."""
    before = in_memory(host)
    disk = host.disk
    assert isinstance(disk, FullDisk)
    disk.is_full = True
    with pytest.raises((StoreFailed, Refused)):
        CHANGES[name](host)
    assert (in_memory(host), is_over(host)) == (before, True)


@pytest.mark.parametrize("name", CHANGES)
def test_a_kernel_that_refuses_lists_is_asked_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Until it takes them, status says so; what it refuses at first leaves nothing to confirm."""
    before = state(host)

    def refuse(*_: object) -> None:
        raise BackendFailed("no", "try again")

    if name != "add again":
        with monkeypatch.context() as patch:
            patch.setattr(host.engine.backend, "apply", refuse)
            with pytest.raises(BackendFailed):
                CHANGES[name](host)
        assert is_over(host)
        assert in_memory(host) == before[1:]
    CHANGES[name](host)
    with monkeypatch.context() as patch:
        patch.setattr(host.engine.backend, "apply", refuse)
        host.pass_deadline()
        assert host.pending is (name != "add again")
    host.wait(5)
    host.engine.confirmation.put_back_if_due()
    assert (state(host), is_over(host)) == (before, True)


def test_what_others_add_and_remove_meanwhile_stays(host: Host) -> None:
    """Only the entries return that the change put or removed, unless somebody changed them."""
    add(host, "bans", "192.0.2.50", "192.0.2.51", "192.0.2.1", ttl_s=3600.0, confirm_s=CONFIRM_S)
    add(host, "bans", "192.0.2.77")
    add(host, "bans", "192.0.2.51")
    remove(host, "bans", "192.0.2.2")
    add(host, "drop", "192.0.2.78")
    host.killed()
    host.pass_deadline()
    assert list(format_list(host.engine.lists["bans"])) == [
        *("192.0.2.1", "192.0.2.51", "192.0.2.77", "198.51.100.0/24", "203.0.113.7"),
        "2001:db8::7",
    ]
    assert "192.0.2.78" in list(format_list(host.engine.lists["drop"]))
    ends = host.engine.kept_lists.store.get("bans").added
    assert set(ends.values()) == {float("inf")}


@pytest.mark.parametrize("killed", [False, True])
def test_an_entry_that_somebody_adds_again_is_his(host: Host, killed: bool) -> None:
    """Although it has the same end; and what somebody removes for himself does not come back."""
    add(host, "bans", "192.0.2.50", "192.0.2.51", confirm_s=CONFIRM_S)
    add(host, "bans", "192.0.2.50")
    if killed:
        host.killed()
    host.pass_deadline()
    entries = list(format_list(host.engine.lists["bans"]))
    assert "192.0.2.50" in entries
    assert "192.0.2.51" not in entries
    remove(host, "bans", "192.0.2.50", confirm_s=CONFIRM_S)
    add(host, "bans", "192.0.2.50")
    remove(host, "bans", "192.0.2.50")
    if killed:
        host.killed()
    host.pass_deadline()
    assert "192.0.2.50" not in list(format_list(host.engine.lists["bans"]))
    assert is_over(host)


@pytest.mark.parametrize("name", ["replace", "create"])
def test_bans_in_a_list_that_is_put_back_stay(host: Host, name: str) -> None:
    """A list that nobody confirmed is there still if somebody has added entries to it."""
    listed = "bans" if name == "replace" else "new"
    CHANGES[name](host)
    add(host, listed, "192.0.2.99")
    host.pass_deadline()
    assert "192.0.2.99" in list(format_list(host.engine.lists[listed]))
    assert "203.0.113.8" not in list(format_list(host.engine.lists[listed]))
    assert (host.path / "etc/lists/new").exists() is False
    host.killed()
    assert "192.0.2.99" in list(format_list(host.engine.lists[listed]))


def test_an_end_that_passes_meanwhile_is_over(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would have ended does not come back; what the change had end comes back."""
    add(host, "bans", "192.0.2.60", ttl_s=30.0)
    add(host, "bans", "192.0.2.61")
    host.call("AddToList", name="bans", addresses=["192.0.2.61"], ttl_s=30.0, accept=True,
              confirm_s=CONFIRM_S)  # fmt: skip
    host.call("Revert")
    assert "192.0.2.61" in list(format_list(host.engine.lists["bans"]))
    delete(host, "bans", CONFIRM_S)
    store = host.engine.kept_lists.store
    now = NOW + 40
    monkeypatch.setattr(store, "clock", lambda: now)
    host.pass_deadline()
    entries = list(format_list(host.engine.lists["bans"]))
    assert "192.0.2.60" not in entries
    assert "192.0.2.61" in entries


def test_an_end_that_the_change_gave_has_passed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that was to stay comes back although the change's end has taken it out."""
    before = state(host)
    add(host, "bans", "192.0.2.1", ttl_s=30.0, confirm_s=CONFIRM_S)
    store = host.engine.kept_lists.store
    now = NOW + 40
    monkeypatch.setattr(store, "clock", lambda: now)
    host.engine.kept_lists.expire()
    assert "192.0.2.1" not in list(format_list(host.engine.lists["bans"]))
    host.pass_deadline()
    assert (state(host), is_over(host)) == (before, True)


def test_a_feed_that_brings_other_content_meanwhile_stays(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would bring that again; what it brought for the change alone is put back."""
    store = host.engine.kept_lists.store
    before = state(host)
    update(host, b"192.0.2.200\n", CONFIRM_S)
    host.call("UpdateList", name="drop", fetched=Fetched(b"", unchanged=True), accept=False)
    checked = store.get("drop").feed
    host.call("Revert")
    assert state(host) == before
    feed = store.get("drop").feed
    assert feed
    assert checked
    assert feed.checked == checked.checked
    update(host, b"192.0.2.200\n", CONFIRM_S)
    now = NOW + 5
    monkeypatch.setattr("time.time", lambda: now)
    update(host, b"192.0.2.201\n")
    host.pass_deadline()
    assert list(format_list(host.engine.lists["drop"])) == ["192.0.2.3", "192.0.2.201"]
    assert is_over(host)


def test_a_list_that_waits_is_not_made_anew(host: Host) -> None:
    """What its file holds, and whether it is there, changes no further; other lists do."""
    remove(host, "bans", "192.0.2.2", confirm_s=CONFIRM_S)
    changes: list[Callable[[Host], object]] = [
        lambda host: replace(host, EDIT),
        lambda host: delete(host, "bans"),
        lambda host: remove(host, "bans", "203.0.113.7"),
    ]
    for change in changes:
        with pytest.raises(Refused, match="a change of list 'bans' waits to be confirmed"):
            change(host)
    with pytest.raises(Refused, match="waits to be confirmed for another"):
        host.call("Reload", resolve=False)
    with pytest.raises(Refused, match="waits to be confirmed for another"):
        add(host, "drop", "192.0.2.88", confirm_s=CONFIRM_S)
    create(host, "new", EDIT)
    delete(host, "drop")
    host.call("Revert")
    delete(host, "bans", CONFIRM_S)
    with pytest.raises(Refused, match="a change of list 'bans' waits to be confirmed"):
        create(host, "bans", EDIT)
    host.call("Revert")
    assert "192.0.2.2" in list(format_list(host.engine.lists["bans"]))


@pytest.mark.parametrize("name", ["replace", "delete", "create", "reload"])
def test_a_file_that_somebody_edits_meanwhile_is_kept_beside(host: Host, name: str) -> None:
    """Once, under a name that is no list; and the list has what it held before."""
    before = state(host)
    CHANGES[name](host)
    file = host.path / "etc/lists" / ("new" if name == "create" else "bans")
    file.write_bytes(b"# work of hours\n192.0.2.240\n")
    host.pass_deadline()
    assert (state(host), is_over(host)) == (before, True)
    kept = file.with_name(f"{file.name}.unconfirmed-1")
    assert kept.read_bytes() == b"# work of hours\n192.0.2.240\n"
    host.call("Reload", resolve=False)
    assert (set(host.engine.lists), host.engine.warnings) == ({"bans", "drop"}, ())
    with pytest.raises(Refused, match="was kept when a change was put back"):
        create(host, "x.unconfirmed-1", EDIT)


def test_a_reload_by_which_comments_change_alone_is_put_back(host: Host) -> None:
    """The file is what it was, as that of a policy is."""
    before = state(host)
    edit(host, b"# other words\n" + TEXT)
    host.call("Reload", resolve=False, confirm_s=CONFIRM_S)
    assert host.pending
    host.pass_deadline()
    assert (state(host), is_over(host)) == (before, True)


def test_a_file_behind_a_link_returns_behind_it(host: Host) -> None:
    """Who keeps the file elsewhere has it there, as it was."""
    file, elsewhere = host.path / "etc/lists/bans", host.path / "bans"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    replace(host, EDIT, CONFIRM_S)
    host.pass_deadline()
    assert file.is_symlink()
    assert elsewhere.read_bytes() == TEXT
    assert (host.path / "bans.unconfirmed-1").read_bytes() == EDIT


def test_what_a_file_held_has_to_be_known(host: Host) -> None:
    """A reload is refused where it is not, and changes nothing; without confirmation it is done."""
    before = in_memory(host)
    (host.path / "lib/lists/bans.text").write_bytes(b"damaged")
    edit(host)
    with pytest.raises(Refused, match=r"not known any more what .*bans' held"):
        host.call("Reload", resolve=False, confirm_s=CONFIRM_S)
    assert (in_memory(host), is_over(host)) == (before, True)
    host.call("Reload", resolve=False)
    edit(host, TEXT)
    host.call("Reload", resolve=False, confirm_s=CONFIRM_S)
    host.call("Revert")
    assert (host.path / "etc/lists/bans").read_bytes() == EDIT
    # As long as the file is as it was, it says what it held.
    (host.path / "lib/lists/bans.text").unlink()
    replace(host, TEXT, CONFIRM_S)
    host.call("Revert")
    assert (host.path / "etc/lists/bans").read_bytes() == EDIT


def test_a_file_that_cannot_be_read_returns_as_it_was(host: Host) -> None:
    """Its list goes on to hold what the file held when it was last good."""
    edit(host, b"nonsense\n")
    host.call("Reload", resolve=False)
    entries = list(format_list(host.engine.lists["bans"]))
    edit(host)
    host.call("Reload", resolve=False, confirm_s=CONFIRM_S)
    assert list(format_list(host.engine.lists["bans"])) != entries
    host.pass_deadline()
    assert (host.path / "etc/lists/bans").read_bytes() == b"nonsense\n"
    assert list(format_list(host.engine.lists["bans"])) == entries
    host.killed()
    assert list(format_list(host.engine.lists["bans"])) == entries


def test_nothing_that_changes_nothing_waits(host: Host) -> None:
    """An entry that is there, content that is the same, and what is refused."""
    add(host, "bans", "192.0.2.1", confirm_s=CONFIRM_S)
    assert is_over(host)
    replace(host, TEXT)
    replace(host, TEXT, CONFIRM_S)
    assert is_over(host)
    fetched = Fetched(b"", unchanged=True)
    host.call("UpdateList", name="drop", fetched=fetched, accept=False, confirm_s=CONFIRM_S)
    assert is_over(host)
    with pytest.raises(NotFound):
        remove(host, "bans", "192.0.2.199", confirm_s=CONFIRM_S)
    assert is_over(host)
    host.apply(EDITED, None)


def test_what_is_kept_costs_nothing_by_length(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a long list held gets a second name; of added entries only those that change are noted.

    A disk that has no such names is written to instead.
    """
    entries = [f"10.{n // 256}.{n % 256}.1" for n in range(3000)]
    replace(host, "\n".join(entries).encode())
    add(host, "drop", *entries)
    written: list[tuple[str, int]] = []
    write = host.disk.write

    def counted(path: Path, content: bytes) -> None:
        written.append((path.name, len(content)))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(host.disk, "write", counted)
        before = state(host)
        add(host, "drop", "192.0.2.9", confirm_s=CONFIRM_S)
        assert {name for name, _ in written} == {".unconfirmed.tmp"}
        assert max(length for _, length in written) < 1000
        host.call("Revert")
        written.clear()
        replace(host, EDIT, CONFIRM_S)
        assert max(length for _, length in written) < 1000
        host.call("Revert")
    assert state(host) == before

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(host.disk, "keep", no_links)
    replace(host, EDIT, CONFIRM_S)
    host.pass_deadline()
    assert (state(host), is_over(host)) == (before, True)


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_a_damaged_copy_is_told_and_stops_nothing(host: Host, damage: str) -> None:
    """What is in force stays, status says it, and everything else goes on."""
    replace(host, EDIT, CONFIRM_S)
    after = state(host)
    copy = host.path / "lib/unconfirmed-lists/bans.read"
    content = copy.read_bytes()
    copy.unlink()
    if damage == "torn":
        copy.write_bytes(content[:-1])
    host.killed()
    assert state(host) == after
    assert any("a change may be unconfirmed" in text for text in host.engine.warnings)
    add(host, "bans", "192.0.2.9")


@pytest.mark.parametrize("name", ["plain", "from a URL"])
def test_a_deletion_that_was_not_finished_takes_nothing_that_returned(
    host: Host, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The next start, which finishes such deletions, does not find this one any more."""
    if name == "plain":
        create(host, "new", EDIT)
    else:
        create_feed(host, "new", EDIT)
    before = state(host)

    def fail(*_: object) -> None:
        raise StoreFailed("no", "try again")

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "delete", fail)
        delete(host, "new", CONFIRM_S)
    host.call("Revert")
    assert (state(host), is_over(host)) == (before, True)
    host.killed()
    assert state(host) == before


def test_a_text_that_was_damaged_since_is_not_written(host: Host) -> None:
    """The list is in force as before, and status says why its file is not what it was."""
    replace(host, EDIT, CONFIRM_S)
    (host.path / "lib/unconfirmed-lists/bans.text").write_bytes(b"198.51.100.1\n")
    host.pass_deadline()
    assert "203.0.113.7" in list(format_list(host.engine.lists["bans"]))
    assert (host.path / "etc/lists/bans").read_bytes() == EDIT
    assert any("'bans' cannot be written as it was" in text for text in host.engine.warnings)
    host.killed()
    assert "203.0.113.7" in list(format_list(host.engine.lists["bans"]))
    with pytest.raises(Refused, match="the time is over"):
        host.call("Confirm", login=OTHER)


@pytest.mark.parametrize("name", ["replace", "reload"])
def test_stopping_meanwhile_confirms_no_lists(host: Host, name: str) -> None:
    """Lists are put back while enforcement is stopped, too, and are not in force by that."""
    before = state(host)
    CHANGES[name](host)
    host.engine.stop()
    host.pass_deadline()
    assert host.engine.state.stopped
    assert is_over(host)
    host.engine.start()
    assert state(host) == before


def test_a_list_says_that_it_waits(host: Host) -> None:
    """Beside what else there is to say of it; other lists say nothing."""
    remove(host, "bans", "192.0.2.2", confirm_s=CONFIRM_S)
    host.wait(20)
    said = {each["name"]: each["problems"] for each in host.call("ListLists")["lists"]}
    assert said["drop"] == []
    (problem,) = said["bans"]
    assert problem.startswith("the change by uid 0 (root) is put back in 40 s")
    host.call("Revert")
    assert not any(each["problems"] for each in host.call("ListLists")["lists"])


def fateful_host(path: Path) -> tuple[Host, Fate]:
    fate = Fate()
    return filled(Host(path, FatefulDisk(fate), FatefulBackend(fate))), fate


CRASHED = ["create", "add", "remove from the file", "replace", "delete", "delete a feed", "update"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", [*CRASHED, "reload"])
def test_a_crash_at_any_moment_confirms_no_lists(tmp_path: Path, name: str, after: bool) -> None:
    """Whichever effect of change and putting back the process dies at, the state before returns."""
    number = 0
    while True:
        number += 1
        host, fate = fateful_host(tmp_path / str(number))
        before = state(host)
        fate.set(number, Crash(), after=after)
        try:
            CHANGES[name](host)
            host.pass_deadline()
        except Crash:
            crashed = True
        else:
            crashed = False
        fate.set(0, Crash())
        if name == "reload" and crashed and not (host.path / "lib/unconfirmed").exists():
            # What is edited is what a start loads, if nothing had begun, or all was over.
            files = on_disk(host)
            host.killed()
            assert on_disk(host) == files
            assert not host.pending
            continue
        host.killed()
        host.pass_deadline()
        assert (state(host), is_over(host)) == (before, True), number
        assert not list(host.path.rglob("*.unconfirmed-2")), number
        if not crashed:
            break
    assert number > 10


@pytest.mark.parametrize("name", CRASHED)
def test_a_disk_that_fails_once_confirms_no_lists(tmp_path: Path, name: str) -> None:
    """An error of the disk, whenever it comes, keeps the state before from no return."""
    number = 0
    while True:
        number += 1
        host, fate = fateful_host(tmp_path / str(number))
        before = state(host)
        fate.set(number, OSError(errno.EIO, "no"))
        try:
            CHANGES[name](host)
        except IpsecdError:
            assert in_memory(host) == before[1:]
        host.pass_deadline()
        is_last = fate.count < number
        host.pass_deadline()
        assert (state(host), host.pending) == (before, False), number
        host.killed()
        assert (state(host), is_over(host)) == (before, True), number
        if is_last:
            return


def test_a_crash_before_anything_was_changed_waits_for_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be put back is on disk then, and is as it was already."""
    before = state(host)

    def die(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "write_file", die)
        with pytest.raises(Crash):
            replace(host, EDIT, CONFIRM_S)
    assert (host.path / "lib/unconfirmed").exists()
    host.killed()
    assert (state(host), is_over(host)) == (before, True)
