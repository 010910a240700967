"""Policies, shared filters and dynamic rules that change as one: all of it, or nothing."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from ipsecd.compiler.volatile import Volatile
from ipsecd.control import Control
from ipsecd.engine.caller import Caller, ChangeOptions
from ipsecd.engine.switching import Switching
from ipsecd.errors import Changed, InvalidInput, IpsecdError, NotFound, Refused
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action
from ipsecd.sources.dynamic import DynamicRule
from tests.engine.site import Site, fail_once, meanwhile

SHARED = """\
filter-lists:
  - filter-list: Worms
    filters:
      - "*=0:1434:UDP"
filter-actions: []
"""
OTHER_SHARED = SHARED.replace("1434", "1435")
NOBODY: dict[str, Any] = {
    "fingerprint": None,
    "put": [],
    "delete": [],
    "assign": None,
    "unassign": False,
    "shared_filters": None,
    "put_rules": [],
    "remove_rules": [],
}


def document(name: str, *ports: int, filter_list: str = "Worms") -> str:
    filters = "".join(f'      - "*=0:{port}:UDP"\n' for port in ports)
    head = f"policy: {name}\nrules:\n  - rule: R\n    action: block\n"
    return f"{head}    filter-list: {filter_list}\n    filters:{'' if ports else ' []'}\n{filters}"


def put(*documents: str) -> list[dict[str, str]]:
    return [{"name": parse_policy(text).name, "document": text} for text in documents]


def rule(name: str, port: int, **given: Any) -> dict[str, Any]:
    return {"name": name, "filters": [f"*=0:{port}:UDP"], "action": "block", "ttl_s": None, **given}


def ask(site: Site, method: str, options: ChangeOptions | None = None, **given: Any) -> Any:
    caller = Caller(0, 1, "root", options or ChangeOptions())
    control = Control(site.engine)
    return control.call(method, given, "root", {}, given.pop("content", None), caller=caller)


def change(site: Site, options: ChangeOptions | None = None, **given: Any) -> dict[str, Any]:
    reply: dict[str, Any] = ask(site, "ChangeTogether", options, **{**NOBODY, **given})
    outcome: dict[str, Any] = reply["outcome"]
    return outcome


def workspace(site: Site) -> dict[str, Any]:
    answer: dict[str, Any] = ask(site, "GetWorkspace")
    return answer


def names(site: Site) -> list[str]:
    return sorted(each.name for each in site.engine.dynamic)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def filled(site: Site) -> Site:
    change(
        site,
        put=put(document("A", 1434), document("B", 7)),
        assign="A",
        shared_filters=SHARED,
        put_rules=[rule("ban", 99)],
    )
    return site


def test_all_changes_as_one(filled: Site) -> None:
    """What was asked for is stored and in force, and told; a new daemon finds the same."""
    before = workspace(filled)
    assert before["assigned"] == "A"
    assert before["shared_filters"] == SHARED
    assert [each["name"] for each in before["policies"]] == ["A", "B"]
    assert [each["name"] for each in before["dynamic"]] == ["ban"]
    assert [filled.blocks(port) for port in (1434, 7, 99, 5)] == [True, False, True, False]
    outcome = change(
        filled,
        fingerprint=before["fingerprint"],
        put=put(document("C", 1435, 5)),
        delete=["A"],
        assign="C",
        shared_filters=OTHER_SHARED,
        put_rules=[rule("other", 98, interface="eth0", when="opening")],
        remove_rules=["ban", "nobody"],
    )
    assert outcome["message"] == (
        "changed: 1 policy stored, 1 policy deleted, policy 'C' assigned, filter lists and filter "
        "actions stored, 1 dynamic rule put in force, 1 dynamic rule removed"
    )
    assert outcome["changes"] == [
        "- policy 'A'",
        "+ policy 'C'",
        "~ filter list 'Worms': 1 filter, 1 new, 1 gone",
        "~ assigned: 'A' → 'C'",
        "+ 1 dynamic rule: 'other'",
        "- 1 dynamic rule: 'ban'",
    ]
    assert names(filled) == ["other"]
    assert filled.engine.dynamic.by_name["other"][1].conditions.when == "opening"
    assert [filled.blocks(port) for port in (1434, 1435, 5, 99)] == [False, True, True, False]
    after = workspace(filled)
    assert after["fingerprint"] != before["fingerprint"]
    filled.again()
    again = workspace(filled)
    for facts in (after, again):
        del facts["fingerprint"]
    assert again == after


def test_what_is_as_it_should_be_changes_nothing(filled: Site) -> None:
    """Neither a file nor the history; a name without a rule is no error."""
    rows = ask(filled, "GetHistory")["rows"]
    outcome = change(
        filled,
        put=put(document("A", 1434)),
        assign="A",
        shared_filters=SHARED,
        remove_rules=["nobody"],
    )
    assert not outcome["changed"]
    assert ask(filled, "GetHistory")["rows"] == rows


def test_a_deleted_policy_is_not_assigned_any_more(filled: Site) -> None:
    """Without assign and unassign, what is assigned stays as long as it is there."""
    change(filled, delete=["B"])
    assert filled.engine.loaded.assigned == "A"
    change(filled, delete=["A"])
    assert filled.engine.loaded.link is None
    assert not filled.blocks(1434)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"delete": ["X"]}, NotFound, "no policy 'X'"),
        ({"assign": "X"}, NotFound, "no policy 'X'"),
        ({"assign": "A", "delete": ["A"]}, NotFound, "no policy 'A'"),
        ({"assign": "A", "unassign": True}, InvalidInput, "to be assigned, and none"),
        ({"put": put(document("A", 1)), "delete": ["A"]}, InvalidInput, "stored and to be deleted"),
        ({"put": put(document("A", 1), document("A", 2))}, InvalidInput, "stored twice"),
        ({"put": [{"name": "Z", "document": document("A", 1)}]}, InvalidInput, "that of policy"),
        ({"put": [{"name": "A", "document": "policy: [A]"}]}, InvalidInput, "here must be text"),
        ({"shared_filters": "filter-lists: 7"}, InvalidInput, "must be a list"),
        ({"put_rules": [rule("x", 1), rule("x", 2)]}, InvalidInput, "there twice"),
        ({"put_rules": [rule("x", 1, filters=[])]}, InvalidInput, "no filter"),
        ({"put_rules": [rule("x", 1, ttl_s=0.0)]}, InvalidInput, "time to live"),
        ({"put_rules": [rule("x\n", 1)]}, InvalidInput, "cannot name"),
    ],
)
def test_what_does_not_go_together_changes_nothing(
    filled: Site, given: dict[str, Any], error: type[IpsecdError], words: str
) -> None:
    """Nor does the rest of what was asked for at once."""
    before = workspace(filled)
    with pytest.raises(error, match=words):
        change(filled, **{"put_rules": [rule("new", 5)], **given})
    assert workspace(filled) == before


def test_an_expectation_that_is_not_met_refuses_all(filled: Site) -> None:
    """Rules, shared filters and other policies too."""
    before = workspace(filled)
    wants = document("A", 5) + 'expect:\n  - "permit udp 192.0.2.1 > me:5"\n'
    with pytest.raises(Refused, match="expect"):
        change(filled, put=put(wants, document("B")), shared_filters="", put_rules=[rule("x", 1)])
    assert workspace(filled) == before
    assert "expect" in str(change(filled, put=put(wants.replace("A", "D", 1)))["warnings"])


def test_a_stale_fingerprint_is_refused(filled: Site) -> None:
    """Whatever of the files has changed, or the rule that is changed; another rule does not."""
    stale = workspace(filled)["fingerprint"]
    change(filled, put_rules=[rule("another", 4)])
    change(filled, fingerprint=stale, put_rules=[rule("mine", 3)], remove_rules=["ban"])
    assert names(filled) == ["another", "mine"]
    for again in ({"put_rules": [rule("ban", 9)]}, {"remove_rules": ["mine"]}):
        with pytest.raises(Changed, match="somebody else"):
            change(filled, fingerprint=stale, **again)
    for files in (
        {"put": put(document("B", 8))},
        {"unassign": True},
        {"shared_filters": OTHER_SHARED},
    ):
        stale = workspace(filled)["fingerprint"]
        change(filled, **files)
        with pytest.raises(Changed, match="policies or filter lists"):
            change(filled, fingerprint=stale, delete=["B"])
    with pytest.raises(Changed):
        change(filled, fingerprint="0-0", delete=["B"])
    assert names(filled) == ["another", "mine"]


def test_rules_of_others_that_come_meanwhile_stay(
    monkeypatch: pytest.MonkeyPatch, filled: Site
) -> None:
    """A ban while the policy is compiled; one of a name that is changed refuses it, at the end."""

    def ban(name: str) -> None:
        ask(filled, "ChangeDynamicRules", put=[rule(name, 44)], remove=[])

    meanwhile(monkeypatch, filled, lambda: ban("theirs"))
    fresh = workspace(filled)["fingerprint"]
    change(filled, fingerprint=fresh, put=put(document("A", 1)), put_rules=[rule("mine", 2)])
    assert names(filled) == ["ban", "mine", "theirs"]
    before = workspace(filled)
    meanwhile(monkeypatch, filled, lambda: ban("mine"))
    with pytest.raises(Changed, match="dynamic rule 'mine'"):
        change(
            filled,
            fingerprint=before["fingerprint"],
            put=put(document("A", 3)),
            put_rules=[rule("mine", 9)],
        )
    assert workspace(filled)["policies"] == before["policies"]
    assert filled.blocks(44)
    assert not filled.blocks(9)


@pytest.mark.parametrize("verb", ["apply"])
def test_a_kernel_that_refuses_leaves_all_as_it_was(
    monkeypatch: pytest.MonkeyPatch, filled: Site, verb: str
) -> None:
    """Files, rules, and what is in force."""
    before = workspace(filled)
    failed = fail_once(monkeypatch, filled.backend, verb)
    with pytest.raises(IpsecdError, match="no room"):
        change(
            filled,
            put=put(document("A", 1), document("B", 2)),
            shared_filters=OTHER_SHARED,
            put_rules=[rule("x", 3)],
            remove_rules=["ban"],
        )
    assert failed()
    assert workspace(filled) == before
    assert [filled.blocks(port) for port in (1434, 99, 1, 3)] == [True, True, False, False]
    filled.again()
    assert names(filled) == ["ban"]


def test_comments_and_layout_stay(filled: Site) -> None:
    """A document in canonical form changes lines; another is stored byte by byte."""
    written = "# mine\n" + document("A", 1434)
    change(filled, put=put(written))
    change(filled, put=put(document("A", 1434, 3)))
    (stored,) = [each for each in workspace(filled)["policies"] if each["name"] == "A"]
    assert stored["document"].startswith("# mine\n")
    assert parse_policy(stored["document"]) == parse_policy(document("A", 1434, 3))


def test_a_dry_run_changes_nothing_and_says_what_would(filled: Site) -> None:
    """Also what would be decided differently, where no dynamic rule changes."""
    before = workspace(filled)
    outcome = change(filled, dry_run=True, put=put(document("A", 5)), shared_filters=OTHER_SHARED)
    assert outcome["message"].startswith("this would change: 1 policy stored")
    assert outcome["verdicts"]["classes"]
    with pytest.raises(InvalidInput):
        change(filled, dry_run=True, put_rules=[rule("x\n", 1)])
    assert change(filled, dry_run=True, put_rules=[rule("x", 1)])["changed"]
    assert workspace(filled) == before


def test_one_row_of_the_history_has_all_and_goes_back(filled: Site) -> None:
    """A rollback brings the shared filters back with the policies; rules alone are a row, too."""
    options = ChangeOptions(message="ticket 7")
    change(
        filled, options, put=put(document("A", 1)), shared_filters=OTHER_SHARED,
        put_rules=[rule("x", 1)], remove_rules=["ban"],
    )  # fmt: skip
    row = ask(filled, "GetHistory")["rows"][0]
    assert (row["method"], row["message"]) == ("ChangeTogether", "ticket 7")
    assert (row["put"], row["removed"]) == (1, 1)
    assert "filter lists and filter actions are changed" in row["what"]
    assert ask(filled, "GetState", state=1)["shared_filters"] == SHARED
    outcome = ask(filled, "Rollback", state=1)["outcome"]
    assert "~ filter list 'Worms': 1 filter, 1 new, 1 gone" in outcome["changes"]
    assert workspace(filled)["shared_filters"] == SHARED
    change(filled, put_rules=[rule("y", 1)])
    assert ask(filled, "GetHistory")["rows"][0]["kind"] == "rules"


@pytest.mark.parametrize("crashes", [False, True])
def test_what_nobody_confirms_is_put_back(filled: Site, crashes: bool) -> None:
    """Policies, shared filters and rules, by this daemon or by the next one."""
    before = workspace(filled)
    change(
        filled, ChangeOptions(confirm_s=60.0), put=put(document("A", 1), document("C", 3)),
        delete=["B"], assign="C", shared_filters=OTHER_SHARED, put_rules=[rule("x", 4)],
        remove_rules=["ban"],
    )  # fmt: skip
    assert filled.blocks(3)
    if crashes:
        filled.again()
    ask(filled, "Revert")
    after = workspace(filled)
    for facts in (before, after):
        del facts["fingerprint"], facts["dynamic"][0]["created"], facts["dynamic"][0]["by"]
    assert after == before
    assert [filled.blocks(port) for port in (1434, 99, 3, 4)] == [True, True, False, False]


def test_what_is_put_back_is_put_back_in_one_moment(
    filled: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ban that had become a part of the policy is never away; what others did since stays."""
    change(
        filled, ChangeOptions(confirm_s=60.0), put=put(document("A", 1434, 99)),
        put_rules=[rule("x", 4)], remove_rules=["ban"],
    )  # fmt: skip
    ask(filled, "ChangeDynamicRules", put=[rule("x", 5), rule("theirs", 6)], remove=[])
    seen = []
    for verb in ("apply", "change"):
        really = getattr(filled.backend, verb)

        def look(*state: Any, really: Any = really) -> None:
            really(*state)
            seen.append(filled.blocks(99))

        monkeypatch.setattr(filled.backend, verb, look)
    ask(filled, "Revert")
    assert seen
    assert all(seen)
    assert names(filled) == ["ban", "theirs", "x"]
    assert [filled.blocks(port) for port in (4, 5, 6)] == [False, True, True]


def test_a_backup_has_shared_filters(filled: Site, tmp_path: Path) -> None:
    """And restores them; a host that has others gets exactly those."""
    archive = b64decode(ask(filled, "GetBackup")["archive"])
    other = Site(tmp_path / "other")
    for text in ("", OTHER_SHARED):
        change(other, shared_filters=text)
        ask(other, "Restore", content=archive, source="x", dry_run=False)
        assert workspace(other)["shared_filters"] == SHARED


def test_a_file_that_cannot_be_used_hinders_nothing_else(filled: Site) -> None:
    """It is told, and not written over; what else changes, changes."""
    file = filled.directories.config / "shared-filters.yaml"
    file.write_text("filter-lists: [{filter-list: X, filters: [nonsense]}]\n")
    with pytest.raises(Refused, match="was edited since it was loaded"):
        change(filled, shared_filters=OTHER_SHARED)
    message = ask(filled, "Reload", resolve=False)["outcome"]["message"]
    assert "shared-filters.yaml" in message
    assert any("shared-filters.yaml" in each for each in filled.engine.warnings)
    assert workspace(filled)["shared_filters"] is None
    with pytest.raises(Refused, match="the shared filters cannot be used"):
        change(filled, shared_filters=OTHER_SHARED)
    assert change(filled, put=put(document("A", 2)))["changed"]
    file.write_text(OTHER_SHARED)
    assert ask(filled, "Reload", resolve=False)["outcome"]["changed"]
    assert workspace(filled)["shared_filters"] == OTHER_SHARED
    assert format_policy(filled.engine.stored("A"))


def test_dynamic_rules_are_prepared_where_a_policy_changes_with_them(
    filled: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set of many takes too long for the switch, where every ban waits for it."""
    prepared: list[int] = []

    def prepare(*_: Any, dynamic: Volatile) -> None:
        prepared.append(sum(map(len, dynamic.tables)))

    monkeypatch.setattr(filled.backend, "prepare", prepare)
    checks: list[int] = []
    check = Switching._check_protected

    def check_and_ban(*arguments: Any) -> None:
        if not checks:
            filled.engine.add_dynamic(
                DynamicRule("meanwhile", (parse_filter("*=0:96:UDP"),), Action.BLOCK)
            )
        checks.append(1)
        check(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Switching, "_check_protected", check_and_ban)
        change(filled, put=put(document("A", 1434, 1435)))
    assert (prepared, filled.blocks(96)) == ([0], True)
    change(filled, put_rules=[rule("other", 98)])
    assert prepared == [0]
    change(filled, put=put(document("A", 1436)), put_rules=[rule("third", 97)])
    assert prepared == [0, len([*filled.engine.state.volatile.entries()])]
