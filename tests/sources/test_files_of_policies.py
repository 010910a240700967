"""Policy files that people and other programs touch: each is in nobody's way but its own."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.engine import Engine
from ipsecd.errors import InvalidInput, IpsecdError, LimitExceeded, Refused, StoreFailed
from ipsecd.language.documents import format_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Policy, Rule
from ipsecd.sources import static, steps
from ipsecd.sources.files import Disk
from tests.engine.site import Site


def policy(name: str, *texts: str) -> Policy:
    return Policy(name, (Rule("R", tuple(map(parse_filter, texts)), Action.BLOCK),))


P1, P2 = policy("P", "*=0:1:UDP"), policy("P", "*=0:2:UDP")
OLD = format_policy(P1)


class TroubledDisk(Disk):
    """Refuses what is done to files whose path has a certain end, or everything that writes."""

    def __init__(self) -> None:
        self.end: str | None = None
        self.code = errno.EIO
        self.read_only = False

    def read(self, path: Path, max_bytes: int) -> bytes:
        if self.end and str(path).endswith(self.end):
            raise OSError(self.code, os.strerror(self.code), str(path))
        return super().read(path, max_bytes)

    def write(self, path: Path, content: bytes, like: Path | None = None) -> None:
        self._effect(path)
        super().write(path, content, like)

    def unlink(self, path: Path) -> None:
        self._effect(path)
        super().unlink(path)

    def sync_directory(self, path: Path) -> None:
        self._effect(path)
        super().sync_directory(path)

    def _effect(self, path: Path) -> None:
        if self.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


class Store:
    """An engine with P assigned, the folder of its policies, and what a client would be told."""

    def __init__(self, path: Path) -> None:
        self.site = Site(path)
        self.disk = TroubledDisk()
        self.folder = path / "etc/policies"
        self.file = self.folder / "p.yaml"
        self.again()
        self.engine.change(put=[P1, policy("Q", "*=0:9:TCP")], assign="P")

    @property
    def engine(self) -> Engine:
        return self.site.engine

    def again(self) -> None:
        site = self.site
        site.engine = Engine(
            site.config, site.directories, lambda: site.backend, self.disk, site.clock
        )
        site.engine.start()

    def call(self, method: str, document: str = "", **parameters: Any) -> dict[str, Any]:
        return Control(self.engine).call(method, parameters, "uid 0", {}, document.encode() or None)

    def apply(self, document: str, *, assign: bool = False) -> str:
        reply = self.call("ApplyPolicy", document, assign=assign, source=None, dry_run=False)
        message: str = reply["outcome"]["message"]
        return message

    @property
    def status(self) -> dict[str, Any]:
        reply: dict[str, Any] = self.call("Status")["status"]
        return reply


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


# -- what is accepted is readable ------------------------------------------------------------------


def test_a_policy_whose_file_would_be_too_large_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit counts the bytes that would be written."""
    document = "policy: P\nrules: [{rule: R, action: block, filters: ["
    document += ",".join(f'"*=0:{n}:UDP"' for n in range(1, 200)) + "]}]"
    monkeypatch.setattr(static, "MAX_FILE_BYTES", len(document) - 10)
    with pytest.raises(LimitExceeded, match="read again"):
        store.apply(document)
    assert store.file.read_text() == OLD
    assert store.site.blocks(1)
    assert not store.site.blocks(2)


@pytest.mark.parametrize("kind", ["_last_good", "_names"])
def test_a_change_whose_keepsakes_would_be_too_large_is_refused(
    store: Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the next start could not read is not put in force."""

    def refuse(_: object) -> None:
        raise LimitExceeded("too large", "less")

    monkeypatch.setattr(getattr(store.engine._kept_files, kind), "check", refuse)
    with pytest.raises(LimitExceeded):
        store.engine.change(put=[P2])
    assert store.file.read_text() == OLD
    assert store.site.blocks(1)


def test_a_journal_that_would_be_too_large_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that a crash could not finish does not begin."""
    monkeypatch.setattr(steps, "MAX_BYTES", 50)
    with pytest.raises(StoreFailed, match="too large"):
        store.engine.change(put=[P2])
    assert store.file.read_text() == OLD


# -- one file, one trouble -------------------------------------------------------------------------


def spoil(store: Store, how: str) -> str:
    """Put a file beside the others that cannot be read; gives its name."""
    file = store.folder / "a.yaml"
    match how:
        case "loop":
            file.symlink_to(file)
        case "nowhere":
            file.symlink_to("/nowhere/at/all")
        case "fifo":
            os.mkfifo(file)
        case "directory":
            file.mkdir()
        case "bytes":
            file.write_bytes(b"policy: \xff")
        case _:
            file.write_text("policy: A\nrules: []\n")
            store.disk.end = "a.yaml"
            store.disk.code = getattr(errno, how)
    return file.name


@pytest.mark.parametrize(
    "how", ["EIO", "EACCES", "ELOOP", "ESTALE", "loop", "nowhere", "fifo", "directory", "bytes"]
)
def test_a_file_that_cannot_be_read_disables_itself_only(store: Store, how: str) -> None:
    """Reload, changes and a restart go on, and status tells of the one file; nothing has failed."""
    name = spoil(store, how)
    _, told = store.engine.reload({})
    assert name in told[0]
    store.engine.change(put=[P2])
    assert store.site.blocks(2)
    store.again()
    assert store.site.blocks(2)
    assert store.status["state"] == "enforcing"
    assert name in store.status["file_warnings"][0]


@pytest.mark.parametrize("code", ["EIO", "EACCES"])
def test_an_assigned_file_that_cannot_be_read_leaves_the_last_good_one(
    store: Store, code: str
) -> None:
    """Others can be changed meanwhile, and the failure is told."""
    store.disk.end, store.disk.code = "p.yaml", getattr(errno, code)
    store.again()
    assert store.site.blocks(1)
    assert store.status["state"] == "failed"
    assert "p.yaml" in store.status["failures"][0]
    store.engine.change(put=[policy("Q", "*=0:8:TCP")])
    store.disk.end = None
    store.engine.reload({})
    assert store.status["state"] == "enforcing"


def test_a_directory_with_the_name_of_a_temporary_file(store: Store) -> None:
    """It is nobody's left-over."""
    (store.folder / ".x.tmp").mkdir()
    (store.folder / ".y.tmp").write_text("left over")
    store.engine.reload({})
    store.again()
    assert store.status["file_warnings"] == []
    assert not (store.folder / ".y.tmp").exists()


def test_a_file_that_goes_after_it_was_listed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is as if it had gone before."""
    gone = store.folder / "q.yaml"
    read = store.disk.read

    def late(path: Path, max_bytes: int) -> bytes:
        if path == gone:
            path.unlink(missing_ok=True)
        return read(path, max_bytes)

    monkeypatch.setattr(store.disk, "read", late)
    assert store.engine.reload({}) == (True, ())
    assert set(store.engine.loaded.policies) == {"P"}


def test_a_copy_of_the_assigned_file_takes_nothing_from_it(store: Store) -> None:
    """Whichever sorts first, the name belongs to the file that is assigned."""
    (store.folder / "a.yaml").write_text(OLD.replace("0:1:", "0:3:"))
    store.engine.reload({})
    for _ in range(2):
        assert store.site.blocks(1)
        assert not store.site.blocks(3)
        assert store.status["state"] == "enforcing"
        assert "a.yaml" in store.status["file_warnings"][0]
        assert "is also in 'policies/p.yaml'" in store.status["file_warnings"][0]
        store.again()


# -- edited by hand --------------------------------------------------------------------------------


def broken_text(store: Store) -> str:
    text = OLD.replace("action: block", "action: blok")
    store.file.write_text(text)
    return text


def test_apply_is_the_way_out_of_a_broken_assigned_file(store: Store) -> None:
    """The broken file is replaced, and what was in it is kept beside and named."""
    text = broken_text(store)
    with pytest.raises(InvalidInput):
        store.engine.reload({})
    message = store.apply(format_policy(P2))
    kept = store.folder / "p.yaml.broken-1"
    assert str(kept) in message
    assert kept.read_text() == text
    assert store.file.read_text() == format_policy(P2)
    assert store.site.blocks(2)
    assert store.status["state"] == "enforcing"
    assert store.status["failures"] == store.status["file_warnings"] == []
    broken_text(store)
    assert "p.yaml.broken-2" in store.apply(format_policy(P2))


def test_apply_of_what_is_in_memory_mends_the_file(store: Store) -> None:
    """Nothing is said to be stored that is not."""
    text = broken_text(store)
    store.apply(OLD)
    assert store.file.read_text() == OLD
    assert (store.folder / "p.yaml.broken-1").read_text() == text
    store.file.unlink()
    store.apply(OLD)
    assert store.file.read_text() == OLD
    assert not (store.folder / "p.yaml.broken-2").exists()


def test_apply_after_a_start_with_a_broken_file(store: Store) -> None:
    """The document goes where its name was, and is in force at once, as it is assigned."""
    broken_text(store)
    store.again()
    assert store.status["state"] == "failed"
    store.apply(format_policy(P2))
    assert store.site.blocks(2)
    assert store.status["state"] == "enforcing"
    assert {file.name for file in store.folder.iterdir()} == {
        "p.yaml",
        "p.yaml.broken-1",
        "q.yaml",
    }
    store.again()
    assert store.site.blocks(2)


def test_a_good_edit_is_never_overwritten(store: Store) -> None:
    """It has to be read first; other commands replace no broken file either."""
    edited = OLD.replace("0:1:", "0:4:")
    store.file.write_text(edited)
    with pytest.raises(Refused, match="was edited"):
        store.apply(format_policy(P2))
    assert store.file.read_text() == edited
    text = broken_text(store)
    rule = {"name": "S", "action": "block", "filters": ["*=0:5:UDP"], "interface": None}
    with pytest.raises(Refused, match="cannot be used") as caught:
        store.call("PutRules", policy="P", rules=[rule], create=False, assign=False)
    assert "apply" in caught.value.hint
    assert store.file.read_text() == text


def test_an_edit_that_reload_refuses_can_be_replaced(store: Store) -> None:
    """A good document that cannot be put in force is no less a dead end than a bad one."""
    edited = OLD.replace("*=0", "no.example=0")
    store.file.write_text(edited)
    with pytest.raises(Refused, match="was edited"):
        store.apply(format_policy(P2))
    with pytest.raises(IpsecdError, match="resolved"):
        store.engine.reload({})
    store.apply(format_policy(P2))
    assert (store.folder / "p.yaml.broken-1").read_text() == edited
    assert store.site.blocks(2)


def test_an_assigned_link_that_leads_nowhere_can_be_replaced(store: Store, tmp_path: Path) -> None:
    """A bad edit of the link is no dead end, and a good one is not overwritten."""
    link = tmp_path / "etc/assigned"
    link.unlink()
    link.symlink_to("policies/none.yaml")
    with pytest.raises(IpsecdError):
        store.engine.reload({})
    store.engine.change(assign="Q")
    assert link.readlink() == Path("policies/q.yaml")
    assert store.status["state"] == "enforcing"
    link.unlink()
    link.symlink_to("policies/p.yaml")
    with pytest.raises(Refused, match="was edited"):
        store.engine.change(assign=None)
    link.unlink()
    link.write_text("a copy")
    store.engine.change(assign="P")
    assert (tmp_path / "etc/assigned.broken-1").read_text() == "a copy"
    assert link.readlink() == Path("policies/p.yaml")


def test_the_list_of_policies_shows_broken_files(store: Store) -> None:
    """Also when the reload that found them was refused."""
    broken_text(store)
    with pytest.raises(InvalidInput):
        store.engine.reload({})
    errors = {policy["path"]: policy["error"] for policy in store.call("ListPolicies")["policies"]}
    assert "blok" in errors["policies/p.yaml"]


@pytest.mark.parametrize("failing_effect", range(1, 12))
def test_a_repair_that_the_disk_refuses_leaves_the_broken_file(
    store: Store, failing_effect: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever effect fails, the broken bytes are where they were, and nowhere else."""
    text = broken_text(store)
    effects = 0

    def failing(effect: Any) -> Any:
        def run(*arguments: Any) -> Any:
            nonlocal effects
            effects += 1
            if effects == failing_effect:
                raise OSError(errno.ENOSPC, "full", str(arguments[0]))
            return effect(*arguments)

        return run

    with monkeypatch.context() as patch:
        for name in ("write", "link", "keep", "rename", "unlink", "sync_directory"):
            patch.setattr(store.disk, name, failing(getattr(store.disk, name)))
        try:
            store.apply(format_policy(P2))
        except StoreFailed:
            assert store.file.read_text() == text
            assert not (store.folder / "p.yaml.broken-1").exists()
            assert store.site.blocks(1)
        else:
            # A file system without hard links has copies; what is kept in /var may fail alone.
            assert (store.folder / "p.yaml.broken-1").read_text() == text
            assert store.site.blocks(2)


# -- links, and disks that do not take anything ----------------------------------------------------


def linked(store: Store, tmp_path: Path) -> Path:
    target = tmp_path / "elsewhere/p.yaml"
    target.parent.mkdir()
    store.file.rename(target)
    store.file.symlink_to(target)
    store.engine.reload({})
    return target


def test_a_policy_file_that_is_a_link_stays_one(store: Store, tmp_path: Path) -> None:
    """The file that it leads to is written, and nothing is left beside it."""
    target = linked(store, tmp_path)
    store.apply(format_policy(P2))
    assert store.file.readlink() == target
    assert target.read_text() == format_policy(P2)
    assert [file.name for file in target.parent.iterdir()] == ["p.yaml"]
    store.again()
    assert store.site.blocks(2)
    target.write_text("nonsense")
    store.apply(format_policy(P1))
    assert target.with_name("p.yaml.broken-1").read_text() == "nonsense"
    assert store.file.readlink() == target


def test_a_link_is_there_again_after_a_refused_change(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was to be written or to be deleted."""
    target = linked(store, tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise StoreFailed("no", "")

    monkeypatch.setattr(store.engine._enforcement, "put_in_force", refuse)
    for change in ({"put": [P2]}, {"delete": ["P"], "assign": None}):
        with pytest.raises(StoreFailed):
            store.engine.change(**change)
        assert store.file.readlink() == target
        assert target.read_text() == OLD


def test_a_read_only_disk_is_told_plainly(store: Store) -> None:
    """Nothing had changed, so nothing had to be put back."""
    store.disk.read_only = True
    with pytest.raises(StoreFailed, match="Read-only") as caught:
        store.engine.change(put=[P2])
    assert "putting" not in caught.value.hint
    assert "ReadWritePaths=" in caught.value.hint
    store.disk.read_only = False
    assert store.site.blocks(1)
    assert store.file.read_text() == OLD


def test_a_last_good_policy_that_is_an_older_one_is_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the next success."""
    write = store.disk.write

    def full(path: Path, content: bytes, like: Path | None = None) -> None:
        if path.is_relative_to(tmp_path / "lib"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content, like)

    with monkeypatch.context() as patch:
        patch.setattr(store.disk, "write", full)
        store.engine.change(put=[P2])
    assert store.site.blocks(2)
    (warning,) = store.status["file_warnings"]
    assert "last good policy on disk is an older one" in warning
    assert "No space left" in warning
    assert store.status["state"] == "enforcing"
    store.engine.reload({})
    assert store.status["file_warnings"] == []


def test_a_file_whose_name_is_no_text(store: Store) -> None:
    """It is reported, and is in the way of no change of the policy that it holds."""
    (store.folder / os.fsdecode(b"\xff.yaml")).write_text(format_policy(policy("X", "*=0:7:TCP")))
    store.engine.reload({})
    assert "not UTF-8" in store.status["file_warnings"][0]
    store.engine.change(put=[policy("X", "*=0:8:TCP")], assign="X")
    store.engine.change(delete=["X"], assign="P")
    assert store.site.blocks(1)
