"""From whatever somebody has done to a policy file there is a command that leads out again."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ipsecd.control import Control
from ipsecd.errors import IpsecdError, NotFound, Refused, StoreFailed
from ipsecd.language.documents import format_policy
from tests.sources.test_files_of_policies import OLD, P1, P2, Store, policy

BROKEN = OLD.replace("action: block", "action: blok")
Q2 = policy("Q", "*=0:8:TCP")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def reload_is_refused(store: Store) -> str:
    with pytest.raises(IpsecdError) as caught:
        store.call("Reload", resolve=False)
    return str(caught.value)


# -- no circle between reload and apply ------------------------------------------------------------


def test_apply_leads_out_of_an_edit_that_the_kernel_refuses(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a good document, and only a reload shows that it cannot be in force."""
    edited = OLD.replace("0:1:", "0:4:")
    store.file.write_text(edited)
    put_in_force = store.engine._enforcement.put_in_force

    def refuse(*_: object, **__: object) -> None:
        raise Refused("it would cut a connection", "make it with --force")

    with monkeypatch.context() as patch:
        patch.setattr(store.engine._enforcement, "put_in_force", refuse)
        assert "would cut" in reload_is_refused(store)
    assert store.engine._enforcement.put_in_force == put_in_force
    message = store.apply(format_policy(P2))
    kept = store.folder / "p.yaml.broken-1"
    assert str(kept) in message
    assert kept.read_text() == edited
    assert store.site.blocks(2)


def test_apply_leads_out_of_a_good_edit_beside_a_broken_file(store: Store) -> None:
    """What is wrong with one file keeps no other from being replaced."""
    store.file.write_text(BROKEN)
    other = store.folder / "q.yaml"
    edited = other.read_text().replace("0:9:", "0:7:")
    other.write_text(edited)
    reload_is_refused(store)
    store.apply(format_policy(Q2))
    assert other.read_text() == format_policy(Q2)
    assert (store.folder / "q.yaml.broken-1").read_text() == edited
    assert store.site.blocks(1)


def test_apply_leads_out_where_a_copy_lies_beside_the_broken_file(store: Store) -> None:
    """After a start, too: the name belongs to the assigned file, although that is broken."""
    (store.folder / "p-copy.yaml").write_text(OLD)
    store.file.write_text(BROKEN)
    store.again()
    assert store.status["state"] == "failed"
    assert "P" not in store.engine.loaded.policies
    store.apply(format_policy(P2))
    assert store.status["state"] == "enforcing"
    assert store.site.blocks(2)
    assert store.file.read_text() == format_policy(P2)
    assert (store.folder / "p-copy.yaml").read_text() == OLD


def test_apply_leads_out_where_the_name_of_the_policy_is_broken(store: Store) -> None:
    """The policy in force is the last good one, and its name says whose file that is."""
    file = store.folder / "other.yaml"
    store.file.rename(file)
    link = store.folder.parent / "assigned"
    link.unlink()
    link.symlink_to("policies/other.yaml")
    store.engine.reload({})
    file.write_text(OLD.replace("policy:", "polic:"))
    store.again()
    assert store.status["state"] == "failed"
    store.apply(format_policy(P2))
    assert file.read_text() == format_policy(P2)
    assert store.site.blocks(2)
    assert store.status["state"] == "enforcing"


def test_assign_leads_out_of_a_link_that_a_reload_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link leads to a good policy that cannot be in force."""
    link = store.folder.parent / "assigned"
    link.unlink()
    link.symlink_to("policies/q.yaml")

    def refuse(*_: object, **__: object) -> None:
        raise Refused("it would cut a connection", "make it with --force")

    with monkeypatch.context() as patch:
        patch.setattr(store.engine._enforcement, "put_in_force", refuse)
        assert "would cut" in reload_is_refused(store)
    store.engine.change(put=[P2], assign="P")
    assert link.readlink() == Path("policies/p.yaml")
    assert store.site.blocks(2)


def test_an_edit_after_the_refused_reload_is_read_first(store: Store) -> None:
    """Only what a reload has read is known to be of no use."""
    store.file.write_text(BROKEN)
    reload_is_refused(store)
    edited = OLD.replace("0:1:", "0:4:")
    store.file.write_text(edited)
    with pytest.raises(Refused, match="was edited"):
        store.apply(format_policy(P2))
    assert store.file.read_text() == edited


def test_a_reload_that_succeeds_makes_every_edit_a_new_one(store: Store) -> None:
    """Neither what an earlier one has refused nor what this one has read is of no use by now."""
    refused = OLD.replace("*=0", "no.example=0")
    store.file.write_text(refused)
    reload_is_refused(store)
    store.file.write_text(OLD)
    store.engine.reload({})
    store.apply(format_policy(P2))
    for edited in (refused, OLD):
        store.file.write_text(edited)
        with pytest.raises(Refused, match="was edited"):
            store.apply(format_policy(P1))
        assert store.file.read_text() == edited


def test_a_refused_reload_names_the_way_out(store: Store) -> None:
    """And what it says is kept for status as it was."""
    store.file.write_text(BROKEN)
    assert "ipsecctl policy restore 'P'" in reload_is_refused(store)
    assert store.status["file_warnings"] == []
    assert len(store.status["failures"]) == 1


# -- restore ---------------------------------------------------------------------------------------


def restore(store: Store, name: str = "P", state: int | None = None) -> dict[str, Any]:
    reply: dict[str, Any] = store.call("RestorePolicy", name=name, state=state)["outcome"]
    return reply


@pytest.mark.parametrize(
    ("text", "end"), [(BROKEN, "broken-1"), (OLD.replace("0:1:", "0:4:"), "edited-1")]
)
@pytest.mark.parametrize("is_read", [False, True])
def test_restore_takes_an_edit_back(store: Store, text: str, end: str, is_read: bool) -> None:
    """The file holds what was loaded, and the edit lies beside it, called by what it is."""
    store.file.write_text(text)
    if is_read and text == BROKEN:
        reload_is_refused(store)
    message = restore(store)["message"]
    assert store.file.read_text() == OLD
    kept = store.folder / f"p.yaml.{end}"
    assert kept.read_text() == text
    assert str(kept) in message
    assert store.status["state"] == "enforcing"
    assert store.status["failures"] == store.status["file_warnings"] == []
    assert not restore(store)["changed"]
    assert store.call("Reload", resolve=False)["outcome"]["changed"] is False


def test_restore_after_a_start_brings_the_last_good_policy(store: Store) -> None:
    """With its comments, and in force as what is assigned."""
    store.file.write_text("# ours\n" + OLD)
    store.engine.reload({})
    store.file.write_text(BROKEN)
    store.again()
    assert store.engine.loaded_from == "last-good"
    restore(store)
    assert store.file.read_text() == "# ours\n" + OLD
    assert store.engine.loaded_from == "policy"
    assert (store.folder / "p.yaml.broken-1").read_text() == BROKEN


def test_restore_of_what_is_not_assigned_comes_from_the_history(store: Store) -> None:
    """After a start nobody else knows what the file held."""
    file = store.folder / "q.yaml"
    store.apply(format_policy(Q2))
    text = file.read_text()
    file.write_text("policy: Q\nrules: nonsense\n")
    store.again()
    assert "Q" not in store.engine.loaded.policies
    assert "what it was at @1" in restore(store, "Q")["message"]
    assert file.read_text() == text
    assert store.site.blocks(1)


def test_restore_of_a_file_that_is_gone(store: Store) -> None:
    """There is nothing to keep."""
    store.file.unlink()
    reload_is_refused(store)
    assert "kept" not in restore(store)["message"]
    assert store.file.read_text() == OLD


def test_restore_goes_back_in_the_history(store: Store) -> None:
    """It touches one policy, and not which one is assigned; an edit lies beside."""
    store.engine.change(put=[P2])
    store.engine.change(put=[Q2], assign="Q")
    call_with_history(store)
    edited = OLD.replace("0:1:", "0:4:")
    store.file.write_text(edited)
    restore(store, state=1)
    assert store.file.read_text() == OLD
    assert (store.folder / "p.yaml.edited-1").read_text() == edited
    assert store.engine.loaded.assigned == "Q"
    assert store.engine.loaded.policies["Q"].policy == Q2
    with pytest.raises(NotFound):
        restore(store, state=400)
    with pytest.raises(NotFound, match="no document"):
        restore(store, "Nobody")


def call_with_history(store: Store) -> None:
    """Make changes by calls, which the history knows: P1 is at @1."""
    store.apply(OLD)
    store.apply(format_policy(P2))


# -- edit ------------------------------------------------------------------------------------------


def file_of(store: Store, name: str = "P") -> dict[str, Any]:
    return store.call("GetPolicyFile", name=name)


def edit(store: Store, text: str, digest: str, name: str = "P") -> str:
    given = {"name": name, "digest": digest, "source": None}
    message: str = store.call("EditPolicy", text, **given)["outcome"]["message"]
    return message


def test_an_edit_is_stored_byte_by_byte(store: Store) -> None:
    """Comments and layout are the user's."""
    text = "# ours\npolicy:   P\nrules: [{rule: R, action: block, filters: [udp/2]}] # all\n"
    told = file_of(store)
    assert told["text"] == OLD
    assert (told["policy"], told["error"]) == ("P", None)
    assert told["digest"] == hashlib.sha256(OLD.encode()).hexdigest()
    edit(store, text, told["digest"])
    assert store.file.read_text() == text
    assert store.site.blocks(2)
    store.again()
    assert store.site.blocks(2)


@pytest.mark.parametrize("is_started_anew", [False, True])
def test_an_edit_mends_a_broken_file(store: Store, is_started_anew: bool) -> None:
    """It begins with the broken text, which need not be kept."""
    store.file.write_text(BROKEN)
    if is_started_anew:
        store.again()
    else:
        reload_is_refused(store)
    told = file_of(store)
    assert told["text"] == BROKEN
    assert "blok" in told["error"]
    edit(store, format_policy(P2), told["digest"])
    assert store.site.blocks(2)
    assert store.status["state"] == "enforcing"
    assert sorted(file.name for file in store.folder.iterdir()) == ["p.yaml", "q.yaml"]


def test_an_edit_of_a_file_whose_name_cannot_be_read(store: Store) -> None:
    """It is called by the name of the file."""
    file = store.folder / "z.yaml"
    file.write_text("polic: Z\n")
    store.engine.reload({})
    told = file_of(store, "z.yaml")
    assert told["policy"] is None
    with pytest.raises(Refused, match="already"):
        edit(store, OLD, told["digest"], "z.yaml")
    edit(store, "policy: Z\n", told["digest"], "z.yaml")
    assert "Z" in store.engine.loaded.policies
    assert store.status["file_warnings"] == []


def test_an_edit_does_not_overwrite_another(store: Store) -> None:
    """Who was slower is told, and nothing has changed."""
    digest = file_of(store)["digest"]
    other = OLD.replace("0:1:", "0:7:")
    store.file.write_text(other)
    with pytest.raises(Refused, match="changed while it was edited"):
        edit(store, format_policy(P2), digest)
    assert store.file.read_text() == other
    assert store.site.blocks(1)


def test_an_edit_keeps_the_name(store: Store) -> None:
    """Else one policy would vanish, and another appear."""
    with pytest.raises(Refused, match="leave the name"):
        edit(store, OLD.replace("policy: P", "policy: X"), file_of(store)["digest"])
    assert store.file.read_text() == OLD


@pytest.mark.parametrize("name", ["a.yaml", "p-copy.yaml"])
def test_a_copy_is_not_what_is_edited_or_restored(store: Store, name: str) -> None:
    """Although it has the name of the policy whose file is broken."""
    (store.folder / name).write_text(OLD)
    store.file.write_text(BROKEN)
    store.again()
    assert file_of(store)["path"] == str(store.file)
    with pytest.raises(Refused, match="also in"):
        file_of(store, name)
    restore(store)
    assert store.file.read_text() == OLD
    assert store.status["state"] == "enforcing"


def test_what_is_no_text_is_not_edited(store: Store) -> None:
    """There are other ways out."""
    store.file.write_bytes(b"policy: \xff")
    with pytest.raises(Refused, match="restore"):
        file_of(store)
    restore(store)
    assert store.file.read_text() == OLD
    assert (store.folder / "p.yaml.broken-1").read_bytes() == b"policy: \xff"


def test_an_edit_that_the_disk_refuses_leaves_what_was_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken text that the edit began with, too."""
    store.file.write_text(BROKEN)
    reload_is_refused(store)
    digest = file_of(store)["digest"]

    def refuse(*_: object, **__: object) -> None:
        raise StoreFailed("no", "")

    with monkeypatch.context() as patch:
        patch.setattr(store.engine._enforcement, "put_in_force", refuse)
        with pytest.raises(StoreFailed):
            edit(store, format_policy(P2), digest)
    assert store.file.read_text() == BROKEN
    edit(store, format_policy(P2), digest)
    assert store.site.blocks(2)


# -- comments --------------------------------------------------------------------------------------

HAND = """\
policy: P   # of all hosts
rules:
  - rule: R
    action: block
    filters: [udp/1]   # the worm
"""


def test_rules_change_and_comments_stay(store: Store) -> None:
    """Nothing is said of what need not be known."""
    store.apply(HAND)
    assert store.file.read_text() == HAND
    rule = {"name": "S", "action": "block", "filters": ["*=0:5:UDP"], "interface": None}
    put = store.call("PutRules", policy="P", rules=[rule], create=False, assign=False)["outcome"]
    assert put["warnings"] == []
    assert store.file.read_text().startswith(HAND)
    assert store.site.blocks(5)
    store.call("RemoveRules", policy="P", rules=["S"], delete_empty=False)
    assert store.file.read_text() == HAND
    assert not store.site.blocks(5)
    store.again()
    assert store.site.blocks(1)


def test_comments_that_cannot_be_kept_are_told_of(store: Store) -> None:
    """The file is in canonical form then, and the history has it as it was."""
    text = "policy: P # of all\nrules: [{rule: R, action: block, filters: [udp/1]}]\n"
    store.apply(text)
    rule = {"name": "S", "action": "block", "filters": ["*=0:5:UDP"], "interface": None}
    put = store.call("PutRules", policy="P", rules=[rule], create=False, assign=False)["outcome"]
    (warning,) = put["warnings"]
    assert "show @1" in warning
    assert store.file.read_text() == format_policy(store.engine.loaded.policies["P"].policy)
    assert store.call("GetState", state=1)["policies"][0]["document"] == text
    assert store.site.blocks(5)


def test_other_comments_are_a_change_of_the_file(store: Store) -> None:
    """Nothing else changes by them; a document without any takes none away."""
    store.apply("# ours\n" + OLD)
    assert store.file.read_text() == "# ours\n" + OLD
    for document in ("# ours\n" + OLD, OLD):
        reply = store.call("ApplyPolicy", document, assign=False, dry_run=False)
        assert not reply["outcome"]["changed"]
        assert store.file.read_text() == "# ours\n" + OLD
    store.engine.change(assign="Q")
    store.apply(OLD, assign=True)
    assert store.file.read_text() == "# ours\n" + OLD


def test_a_byte_order_mark_is_not_stored(store: Store) -> None:
    """Files of policies are plain UTF-8."""
    parameters = {"assign": False, "dry_run": False}
    content = format_policy(P2).encode("utf-8-sig")
    Control(store.engine).call("ApplyPolicy", parameters, "uid 0", {}, content)
    assert store.file.read_text() == format_policy(P2)


# -- links -----------------------------------------------------------------------------------------


def linked(store: Store, name: str = "checkout/p.yaml") -> Path:
    """Have the file of P be a link to one elsewhere, which only its owner may write to."""
    target = store.folder.parent.parent / name
    target.parent.mkdir(mode=0o755, exist_ok=True)
    target.parent.chmod(0o755)
    store.file.rename(target)
    store.file.symlink_to(target)
    store.engine.reload({})
    return target


def test_owner_and_mode_of_a_file_stay(store: Store) -> None:
    """Behind a link, and where there is none."""
    target = linked(store)
    other = store.folder / "q.yaml"
    owners = {target: (0, 0), other: (0, 0)}
    if os.geteuid() == 0:
        owners = {target: (1234, 4321), other: (0, 77)}
    for file, owner in owners.items():
        if os.geteuid() == 0:
            os.chown(file, *owner)
        file.chmod(0o640)
    for change in (P2, Q2):
        store.engine.change(put=[change])
    for file, owner in owners.items():
        status = file.stat()
        assert stat.S_IMODE(status.st_mode) == 0o640
        assert os.geteuid() != 0 or (status.st_uid, status.st_gid) == owner
    assert store.file.is_symlink()
    assert target.read_text() == format_policy(P2)
    assert [file.name for file in target.parent.iterdir()] == ["p.yaml"]


def test_an_owner_that_cannot_be_kept_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon that systemd starts has no power to give files away."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    status = store.file.stat()
    monkeypatch.setattr(os, "fchown", refuse)
    other = os.stat_result((status.st_mode, 0, 0, 1, status.st_uid + 1, *status[5:]))
    monkeypatch.setattr(Path, "stat", lambda *_, **__: other)
    with pytest.raises(StoreFailed, match=r"p.yaml' .*owner \S+ cannot be kept") as caught:
        store.engine.change(put=[P2])
    assert "chown" in caught.value.hint
    assert store.file.read_text() == OLD
    assert store.site.blocks(1)


def changes(store: Store) -> list[Any]:
    """Every kind of change that writes into the file of P."""
    rule = {"name": "S", "action": "block", "filters": ["*=0:5:UDP"], "interface": None}
    return [
        lambda: store.call("PutRules", policy="P", rules=[rule], create=False, assign=False),
        lambda: store.apply(format_policy(P2)),
        lambda: restore(store),
        lambda: store.call("GetPolicyFile", name="P"),
    ]


@pytest.mark.parametrize(
    "kind", ["dangling", "loop", "folder", "another policy", "link of another", "open", "foreign"]
)
def test_a_link_that_nothing_can_be_written_through_is_told(store: Store, kind: str) -> None:
    """Whatever is to be written, nothing has changed."""
    target = linked(store)
    match kind:
        case "dangling":
            target.unlink()
            says = "No such file"
        case "loop":
            target.unlink()
            target.symlink_to(store.file)
            says = "circle"
        case "folder":
            target.unlink()
            target.mkdir()
            says = "no regular file"
        case "another policy":
            store.file.unlink()
            store.file.symlink_to("q.yaml")
            says = "policy file of its own"
        case "link of another":
            store.file.unlink()
            store.file.symlink_to("q.yaml")
            target.unlink()
            (store.folder / "q.yaml").rename(target)
            (store.folder / "q.yaml").symlink_to(target)
            says = "policy file of its own"
        case "open":
            target.write_text(BROKEN)
            target.parent.chmod(0o775)
            says = "others can change"
        case _:
            if os.geteuid() != 0:
                pytest.skip("only root can give files away")
            target.write_text(BROKEN)
            os.chown(target.parent, 1234, 0)
            says = "others can change"
    before = store.file.readlink()
    files = sorted(path for path in store.folder.parent.rglob("*"))
    for change in changes(store):
        with pytest.raises(Refused, match=says):
            change()
    assert store.file.readlink() == before
    assert sorted(path for path in store.folder.parent.rglob("*")) == files
    assert store.site.blocks(1)


def test_a_link_in_a_directory_of_all_is_followed_if_it_is_ours(store: Store) -> None:
    """As in /tmp, where nobody replaces what belongs to another."""
    target = linked(store)
    target.parent.chmod(0o1777)
    store.engine.change(put=[P2])
    assert target.read_text() == format_policy(P2)


def test_a_link_that_somebody_lays_at_the_last_moment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is refused, and what the link leads to stays."""
    target = linked(store)
    victim = store.folder.parent / "victim"
    victim.write_text("precious")
    unlink = Path.unlink

    def lay(path: Path, *, missing_ok: bool = False) -> None:
        unlink(path, missing_ok=missing_ok)
        if path.name == ".p.yaml.tmp":
            path.symlink_to(victim)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lay)
        with pytest.raises(StoreFailed, match="File exists"):
            store.engine.change(put=[P2])
    assert victim.read_text() == "precious"
    assert target.read_text() == OLD
    assert store.site.blocks(1)


def test_a_link_that_somebody_has_laid_for_the_temporary_file(store: Store) -> None:
    """It is replaced, and what it leads to stays."""
    target = linked(store)
    victim = store.folder.parent / "victim"
    victim.write_text("precious")
    target.with_name(".p.yaml.tmp").symlink_to(victim)
    store.engine.change(put=[P2])
    assert victim.read_text() == "precious"
    assert target.read_text() == format_policy(P2)


# -- copies ----------------------------------------------------------------------------------------

COPIES = ("p-copy.yaml", "p (copy).yaml", "a.yaml")


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_beside_the_assigned_file_is_named_and_harmless(store: Store, name: str) -> None:
    """Nothing is refused because of it, but having it in force by its name."""
    (store.folder / name).write_text(OLD.replace("0:1:", "0:3:"))
    said = store.call("Reload", resolve=False)["outcome"]["message"]
    assert name in said
    assert "policies/p.yaml" in said
    for _ in range(2):
        assert any(name in warning for warning in store.status["file_warnings"])
        assert store.status["state"] == "enforcing"
        listed = {each["name"]: each for each in store.call("ListPolicies")["policies"]}
        assert "also in" in listed[name]["error"]
        assert listed["P"]["assigned"]
        with pytest.raises(Refused, match="also in"):
            store.call("AssignPolicy", name=name)
        for change in changes(store):
            change()
        store.apply(OLD)
        assert store.site.blocks(1)
        assert not store.site.blocks(3)
        store.again()


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_takes_no_name_where_nothing_is_assigned(store: Store, name: str) -> None:
    """The file that is called like the policy counts."""
    store.engine.change(assign=None)
    (store.folder / name).write_text(OLD.replace("0:1:", "0:3:"))
    store.engine.reload({})
    store.engine.change(assign="P")
    assert store.site.blocks(1)
    assert not store.site.blocks(3)


@pytest.mark.parametrize("name", ["p.yaml~", ".p.yaml.swp", "#p.yaml#", ".#p.yaml", "p.yaml.orig"])
def test_what_editors_leave_is_not_looked_at(store: Store, name: str) -> None:
    """It is no policy file by its name."""
    (store.folder / name).write_text("policy: P\nnonsense")
    assert store.engine.reload({}) == (False, ())
    assert store.status["file_warnings"] == []
