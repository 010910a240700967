"""Lists of addresses that change with policies as one, and alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipsecd.engine.caller import ChangeOptions
from ipsecd.engine.switching import Switching
from ipsecd.errors import Changed, InvalidInput, IpsecdError, Refused
from ipsecd.language.list_entries import format_list
from tests.engine.site import Site, fail_once
from tests.engine.test_together import ask, change, put, rule, workspace

FIRST, SECOND = 0xC0000201, 0xC0000202
"""192.0.2.1 and 192.0.2.2."""


def document(*filters: str) -> str:
    lines = "".join(f'      - "{each}"\n' for each in filters)
    head = "policy: A\nrules:\n  - rule: R\n    action: block\n    filter-list: Bans\n"
    return f"{head}    filters:\n{lines}"


def difference(name: str = "netsh-Bans", **given: Any) -> dict[str, Any]:
    return {"name": name, "add": [], "remove": [], "create": None, "delete": None, **given}


def entries(site: Site, name: str = "netsh-Bans") -> list[str] | None:
    stored = site.engine.lists.get(name)
    return None if stored is None else [*format_list(stored)]


def blocked(site: Site) -> tuple[bool, bool]:
    return site.blocks(7, source=FIRST), site.blocks(7, source=SECOND)


@pytest.fixture
def unfolded(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    change(site, put=put(document("192.0.2.1=0")), assign="A")
    return site


@pytest.fixture
def folded(unfolded: Site) -> Site:
    change(
        unfolded,
        put=put(document("@netsh-Bans=0")),
        lists=[difference(add=["192.0.2.1"], create=True)],
    )
    return unfolded


def test_filters_become_a_list_and_filters_again(unfolded: Site) -> None:
    """In one change each, with the same verdicts; a new daemon finds the same."""
    outcome = change(
        unfolded,
        put=put(document("@netsh-Bans=0")),
        lists=[difference(add=["192.0.2.1"], create=True)],
    )
    assert outcome["message"] == "changed: 1 policy stored, 1 list changed"
    assert "+ list 'netsh-Bans': 1 entry" in outcome["changes"]
    assert outcome["warnings"] == []
    assert blocked(unfolded) == (True, False)
    unfolded.again()
    assert entries(unfolded) == ["192.0.2.1"]
    assert blocked(unfolded) == (True, False)
    change(
        unfolded,
        put=put(document("192.0.2.1=0")),
        lists=[difference(remove=["192.0.2.1"], delete=True)],
    )
    assert entries(unfolded) is None
    assert blocked(unfolded) == (True, False)
    unfolded.again()
    assert entries(unfolded) is None


def test_one_entry_more_or_less_writes_no_policy(
    folded: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a change of the list alone, and one that is there already is none."""
    prepared: list[object] = []
    monkeypatch.setattr(Switching, "prepare", lambda *given: prepared.append(given))
    before = workspace(folded)
    given = {"fingerprint": before["fingerprint"]}
    assert change(folded, **given, lists=[difference(add=["192.0.2.2"])])["changed"]
    assert blocked(folded) == (True, True)
    assert not change(folded, **given, lists=[difference(add=["192.0.2.2"])])["changed"]
    assert change(folded, **given, lists=[difference(remove=["192.0.2.1"])])["changed"]
    assert blocked(folded) == (False, True)
    assert not prepared
    assert workspace(folded)["policies"] == before["policies"]
    folded.again()
    assert entries(folded) == ["192.0.2.2"]


def test_entries_that_come_and_go_as_one(folded: Site) -> None:
    """Of one list, and of two lists; one that is not there is made."""
    change(folded, lists=[difference(add=["192.0.2.2"], remove=["192.0.2.1"])])
    assert blocked(folded) == (False, True)
    change(folded, lists=[difference(add=["192.0.2.1"]), difference("more", add=["10.0.0.0/8"])])
    assert blocked(folded) == (True, True)
    assert entries(folded, "more") == ["10.0.0.0/8"]
    folded.again()
    assert entries(folded) == ["192.0.2.1", "192.0.2.2"]
    change(folded, lists=[difference("more", delete=True)])
    assert entries(folded, "more") is None


def test_an_entry_with_an_end_is_there_for_good(folded: Site) -> None:
    """Once it is added; without an end it would have gone by itself."""
    given: dict[str, Any] = {"addresses": ["192.0.2.2"], "ttl_s": 60.0, "accept": True}
    ask(folded, "AddToList", name="netsh-Bans", **given)
    assert folded.engine.kept_lists.store.next_end() is not None
    assert change(folded, lists=[difference(add=["192.0.2.2"])])["changed"]
    assert folded.engine.kept_lists.store.next_end() is None


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ([difference(add=["192.0.2.2"], create=True)], Changed),
        ([difference(remove=["192.0.2.2"])], Changed),
        ([difference("none", remove=["192.0.2.1"])], Changed),
        ([difference(add=["192.0.2.2"]), difference(remove=["192.0.2.1"])], InvalidInput),
        ([difference(add=["192.0.2.2"], delete=True)], InvalidInput),
        ([difference("x", remove=["192.0.2.2"], create=True)], InvalidInput),
        ([difference("-", add=["192.0.2.2"])], InvalidInput),
        ([difference(add=["192.0.2.1/24"])], InvalidInput),
    ],
)
def test_what_does_not_fit_changes_nothing(
    folded: Site, wanted: list[dict[str, Any]], error: type[IpsecdError]
) -> None:
    """Whatever else is asked for."""
    before = folded.engine.lists, workspace(folded)["policies"]
    with pytest.raises(error):
        change(folded, put=put(document("192.0.2.2=0")), lists=wanted)
    assert (folded.engine.lists, workspace(folded)["policies"]) == before


def test_a_list_is_deleted_only_with_what_it_was_read_with(folded: Site) -> None:
    """An entry that came meanwhile would be lost."""
    ask(folded, "AddToList", name="netsh-Bans", addresses=["192.0.2.2"], accept=True)
    with pytest.raises(Changed):
        change(folded, lists=[difference(remove=["192.0.2.1"], delete=True)])
    assert blocked(folded) == (True, True)


def test_what_the_kernel_does_not_take_leaves_both_as_they_were(
    unfolded: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is not on disk, and the policy names the address."""
    fails = fail_once(monkeypatch, unfolded.backend, "apply")
    with pytest.raises(IpsecdError, match="no room"):
        change(
            unfolded,
            put=put(document("@netsh-Bans=0")),
            lists=[difference(add=["192.0.2.2"], create=True)],
        )
    assert fails()
    assert entries(unfolded) is None
    assert not (unfolded.directories.config / "lists/netsh-Bans").exists()
    assert blocked(unfolded) == (True, False)


def test_what_nobody_confirms_is_put_back(unfolded: Site) -> None:
    """Policy and lists, whether they changed together or one of them alone."""
    options = ChangeOptions(confirm_s=60.0)
    change(
        unfolded,
        options,
        put=put(document("@netsh-Bans=0")),
        lists=[difference(add=["192.0.2.2"], create=True)],
        put_rules=[rule("ban", 99)],
    )
    assert blocked(unfolded) == (False, True)
    unfolded.engine.confirmation.put_back("it is not wanted")
    assert blocked(unfolded) == (True, False)
    assert entries(unfolded) is None
    assert not unfolded.engine.dynamic
    change(unfolded, lists=[difference(add=["192.0.2.2"])], put=put(document("@netsh-Bans=0")))
    for wanted in ({"add": ["192.0.2.1"]}, {"remove": ["192.0.2.2"]}, {"delete": True}):
        change(unfolded, options, lists=[difference(**wanted)])
        assert entries(unfolded) != ["192.0.2.2"]
        unfolded.engine.confirmation.put_back("it is not wanted")
        assert entries(unfolded) == ["192.0.2.2"]
        assert blocked(unfolded) == (False, True)


def test_a_dry_run_says_what_becomes_of_lists(folded: Site) -> None:
    """And changes none."""
    outcome = change(folded, lists=[difference(add=["192.0.2.2"])], dry_run=True)
    assert outcome["message"] == "this would change: 1 list changed"
    assert outcome["changes"] == ["~ list 'netsh-Bans': 2 entries, 1 new, 0 gone"]
    assert blocked(folded) == (True, False)


def test_a_list_that_is_deleted_counts_no_more(folded: Site) -> None:
    """So one of the same name that is made later does not."""
    ask(folded, "CountList", name="netsh-Bans", counted=True)
    change(folded, lists=[difference(delete=True)])
    assert not folded.engine.kept_lists.counted


def test_lists_change_while_the_assigned_policy_cannot_be_used(folded: Site) -> None:
    """They are in force all the same."""
    path = Path(folded.engine.path_of("A"))
    path.write_text("policy: A\nrules: nonsense\n")
    with pytest.raises(IpsecdError):
        folded.engine.reload({})
    folded.again()
    change(folded, lists=[difference(add=["192.0.2.2"]), difference("more", add=["10.0.0.1"])])
    assert entries(folded) == ["192.0.2.1", "192.0.2.2"]
    assert entries(folded, "more") == ["10.0.0.1"]


def test_an_entry_of_a_feed_is_not_taken_out(folded: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next update would bring it back."""

    def refuse(*_: object) -> None:
        raise Refused("it comes from a URL")

    monkeypatch.setattr(folded.engine.kept_lists.store, "remove", refuse)
    with pytest.raises(Refused):
        change(folded, put=put(document("192.0.2.2=0")), lists=[difference(remove=["192.0.2.1"])])
    assert blocked(folded) == (True, False)


def test_a_list_that_holds_the_filters_of_a_filter_list_is_not_deleted_by_itself(
    folded: Site,
) -> None:
    """The error names what deletes both; a list that no filter list names is deleted."""
    shared = 'filter-lists:\n  - filter-list: Bans\n    filters: ["@netsh-Bans=0"]\n'
    change(folded, shared_filters=shared)
    with pytest.raises(Refused) as refusal:
        ask(folded, "DeleteList", name="netsh-Bans")
    assert "delete filterlist 'Bans'" in refusal.value.hint
    assert blocked(folded) == (True, False)
    change(folded, shared_filters="")
    ask(folded, "DeleteList", name="netsh-Bans")
    assert entries(folded) is None


def test_a_rollback_to_a_list_that_is_gone_says_so(folded: Site) -> None:
    """The history has states of policies, and none of lists."""
    gone = [difference(remove=["192.0.2.1"], delete=True)]
    change(folded, put=put(document("192.0.2.1=0")), lists=gone)
    answer = ask(folded, "Rollback", state=1, dry_run=False)
    assert "netsh-Bans" in " ".join(answer["outcome"]["warnings"])
    assert workspace(folded)["policies"][0]["document"] == document("@netsh-Bans=0")
