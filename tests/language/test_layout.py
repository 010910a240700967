"""Changes to documents that people wrote: what did not change is there byte by byte."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.errors import InvalidInput
from ipsecd.language import layout
from ipsecd.language.documents import format_policy, parse_policy, rule_keys
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.language.layout import MAX_CHARACTERS, edited_text
from ipsecd.model.values import Action, Policy, Rule
from tests.strategies import LUCK, filters, policies

HAND = """\
# Who to call: ann
policy: Web   # for the shop
description: "a shop"
rules:
    # nobody telnets
    - rule: 'No telnet'
      action:   block
      filters: ["*=0:23:TCP",   '*=0:24:TCP'] # both

    # -- the shop --
    - action: permit # first
      rule: 007
      filters:
      - "*=0:80:TCP"   # http
      # encrypted
      - tcp/443
      - udp/443   # QUIC

    # the end of the rules
expect:
  - "permit tcp 203.0.113.7 > me:80"
# the end
"""
POLICY = parse_policy(HAND)
NEW = Rule("New one", (parse_filter("*=0:9:UDP"),), Action.BLOCK)


def edited(wanted: Policy, text: str = HAND) -> list[str]:
    """The lines after a change, which mean what is wanted."""
    changed = edited_text(text, wanted)
    assert changed is not None
    assert parse_policy(changed) == wanted
    return changed.split("\n")


def lines(first: int, last: int) -> list[str]:
    """Lines of the document above, counted from 1."""
    return HAND.split("\n")[first - 1 : last]


def test_a_new_rule_stands_below_the_last_one() -> None:
    """Set off and indented as the others are."""
    added = ["", "    - rule: New one", "      action: block", "      filters:"]
    added.append('        - "*=0:9:UDP"')
    assert edited(POLICY.with_rule(NEW)) == [*lines(1, 17), *added, *lines(18, 99)]


def test_a_rule_that_goes_takes_its_own_lines_with_it() -> None:
    """A comment above it stays: it may be about what follows, too."""
    assert edited(POLICY.without_rules(frozenset({"007"}))) == [*lines(1, 10), *lines(18, 99)]
    gone = edited(POLICY.without_rules(frozenset({"No telnet"})))
    assert gone == [*lines(1, 5), *lines(9, 99)]


def test_without_rules_the_list_is_empty() -> None:
    """And takes new ones in again."""
    nothing = edited(replace(POLICY, rules=()))
    assert nothing == [*lines(1, 3), "rules: []", *lines(5, 5), *lines(9, 10), *lines(18, 99)]
    again = edited(replace(POLICY, rules=(NEW,)), "\n".join(nothing))
    assert again[:5] == [*lines(1, 4), "  - rule: New one"]
    assert edited(POLICY.with_rule(NEW), HAND)[0] == lines(1, 1)[0]


@pytest.mark.parametrize(
    "text", ["# c\npolicy: Web # w\n", "policy: Web\nrules:   []  # none\n# e\n"]
)
def test_the_first_rule(text: str) -> None:
    """Where there is no list yet, or an empty one."""
    changed = edited(Policy("Web", (NEW,)), text)
    for comment in ("# c", "# w", "# none", "# e"):
        assert (comment in text) == any(comment in line for line in changed)


def test_a_filter_more_or_less_changes_one_line() -> None:
    """In a list below, and in one on a line."""
    telnet, shop = POLICY.rules
    more = replace(shop, filters=(*shop.filters, parse_filter("*=0:25:TCP")))
    assert edited(POLICY.with_rule(more)) == [
        *(*lines(1, 16), lines(17, 17)[0], '      - "*=0:25:TCP"'),
        *lines(18, 99),
    ]
    less = replace(shop, filters=shop.filters[:2])
    assert edited(POLICY.with_rule(less)) == [*lines(1, 16), *lines(18, 99)]
    one = replace(telnet, filters=telnet.filters[:1])
    changed = edited(POLICY.with_rule(one))
    assert changed[7].split() == ["filters:", '["*=0:23:TCP"]', "#", "both"]
    assert [*changed[:7], *changed[8:]] == [*lines(1, 7), *lines(9, 99)]


def test_another_action_changes_one_line() -> None:
    """Its comment stays, and so does the order of keys."""
    shop = replace(POLICY.rules[1], action=Action.BLOCK)
    changed = edited(replace(POLICY, expect=()).with_rule(shop), HAND.partition("expect:")[0])
    assert changed[:10] == lines(1, 10)
    assert changed[10].split("#") == ["    - action: block  ", " first"]
    assert changed[11:19] == lines(12, 19)


def test_a_rule_that_is_switched_off_or_on_stands_where_it_stood() -> None:
    """One line comes, and goes again."""
    telnet, shop = POLICY.rules
    off = edited_text(HAND, POLICY.with_rules((shop,), (telnet,)))
    assert off is not None
    assert off.split("\n") == [*lines(1, 7), "      enabled: false", *lines(8, 99)]
    assert edited_text(off, POLICY) == HAND


def test_what_a_rule_is_made_from_stands_behind_its_action() -> None:
    """Its filters come and go below; with none and a filter list, the rule stays."""
    telnet, shop = POLICY.rules
    empty = replace(telnet, filters=(), filter_list="Old: ways", description="off")
    text = "\n".join(edited(POLICY.with_rules((empty, shop), ())))
    assert [line.split() for line in text.split("\n")[7:10]] == [
        ["description:", '"off"'],
        ["filter-list:", '"Old:', 'ways"'],
        ["filters:", "[]", "#", "both"],
    ]
    again = replace(empty, filters=telnet.filters)
    assert parse_policy("\n".join(edited(POLICY.with_rule(again), text))).rules == (again, shop)
    without = text.replace(text.split("\n")[9] + "\n", "")
    assert parse_policy("\n".join(edited(POLICY.with_rule(again), without))).rules[0] == again


def test_no_comment_is_lost_with_the_filter_above_it() -> None:
    """One whose place is gone stands at the beginning of the rule."""
    shop = POLICY.rules[1]
    changed = edited(
        replace(POLICY, expect=()).with_rule(replace(shop, filters=shop.filters[1:])),
        HAND.partition("expect:")[0],
    )
    assert "# encrypted" in [line.strip() for line in changed]


def test_a_comment_stays_where_the_filter_above_it_goes() -> None:
    """It is about the next one."""
    rule = ["policy: P", "rules:", "- rule: R", "  action: block", "  filters:", "  - udp/1"]
    rest = ["  # the third", "  - udp/3", ""]
    text = "\n".join([*rule, "  - udp/2  # the second", *rest])
    (old,) = parse_policy(text).rules
    wanted = Policy("P", (replace(old, filters=(old.filters[0], old.filters[2])),))
    assert edited(wanted, text) == [*rule, *rest]


def test_what_comes_out_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one reader of documents decides."""
    monkeypatch.setattr(layout, "_edited", lambda *_: format_policy(POLICY))
    assert edited_text(HAND, POLICY.with_rule(NEW)) is None


def test_line_ends_stay_as_they_are() -> None:
    """Also those of other systems."""
    text = HAND.replace("\n", "\r\n")
    changed = edited_text(text, POLICY.with_rule(NEW))
    assert changed is not None
    assert changed.count("\n") == changed.count("\r\n") == text.count("\n") + 5


def test_lines_that_are_all_the_same_are_given_up() -> None:
    """To compare each with each would take hours."""
    rule = "  - rule: R\n    action: block\n" + "    #\n" * 5000 + "    filters: [udp/1]\n"
    text = "policy: P\nrules:\n" + rule
    (old,) = parse_policy(text).rules
    wanted = Policy("P", (replace(old, action=Action.PERMIT),))
    assert edited_text(text, wanted) is None


@pytest.mark.parametrize(
    "text",
    [
        "policy: P\nrules: [{rule: R, action: block, filters: [udp/1]}]\n",
        "policy: P\nrules:\n  -\n    rule: R\n    action: block\n    filters: [udp/1]\n",
        "policy: P\nrules:\n  - rule: R\n    action: block\n    filters: [udp/1]\n"
        + "#" * MAX_CHARACTERS,
        "{policy: P, rules: [{rule: R, action: block, filters: [udp/1]}]}",
    ],
)
def test_what_is_written_in_a_way_that_is_not_known_is_given_up(text: str) -> None:
    """None says so; nothing wrong comes out."""
    assert edited_text(text, parse_policy(text).with_rule(NEW)) is None


def test_without_the_library_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the only part that needs it."""
    monkeypatch.setitem(sys.modules, "ruamel.yaml.error", None)
    assert edited_text(HAND, POLICY.with_rule(NEW)) is None


# -- generated documents ---------------------------------------------------------------------------


def by_hand(policy: Policy, luck: random.Random) -> tuple[list[str], list[tuple[int, int]]]:
    """A policy as some hand might write it, and where the lines of each rule begin and end."""
    document = format_policy(policy.with_rules((), ())).split("\n")
    (at,) = [number for number, line in enumerate(document) if line.startswith("rules:")]
    dash, gap = luck.randrange(5), luck.randrange(1, 4)
    column = dash + 1 + gap
    written = ["# head", *document[:at], "rules:   # all of them"]
    places = []
    for rule, rests in policy.written_rules():
        written += luck.choice(([], [""], ["  # about the next"], [" " * dash + "# next", ""]))
        begin = len(written)
        keys = [[f"rule: {quoted(rule.name)}"], [f"action: {' ' * luck.randrange(3)}"]]
        keys[1][0] += rule.action.value + luck.choice(("", "   # an action"))
        own = rule_keys(rule, rests=rests).items()
        keys += [[f"{key}:  {quoted(value)}"] for key, value in own if value]
        if rule.filters or luck.random() < 0.5:
            keys.append(list_of_filters(rule, luck))
        luck.shuffle(keys)
        rows = [row for key in keys for row in key]
        written.append(" " * dash + "-" + " " * gap + rows[0])
        written += [" " * column + row if row else row for row in rows[1:]]
        places.append((begin, len(written)))
    return [*written, *luck.choice(([], [""], ["# tail"])), *document[at + 1 :]], places


def list_of_filters(rule: Rule, luck: random.Random) -> list[str]:
    texts = [quoted(format_filter(flt)) for flt in rule.filters]
    if not texts or luck.random() < 0.3:
        return ["filters: [" + ",  ".join(texts) + "]" + luck.choice(("", " # flow"))]
    indent = " " * luck.randrange(3)
    rows = ["filters:" + luck.choice(("", " # below"))]
    for text in texts:
        rows += luck.choice(([], [], [f"{indent}# above"]))
        rows.append(f"{indent}- {text}" + luck.choice(("", "", "   # beside")))
    return rows


def printable(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Those whose texts can stand in double quotes without more ado."""
    return tuple(
        rule
        for rule in rules
        if all(map(str.isprintable, rule_keys(rule, rests=False).values()))
        and rule.name.isprintable()
    )


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


KINDS = ("add", "remove", "change", "action", "rest")


@settings(max_examples=200, deadline=None)
@given(policies(shared=True), filters(), LUCK, st.sampled_from(KINDS))
def test_what_did_not_change_is_there_byte_by_byte(
    policy: Policy, flt: object, luck: random.Random, kind: str
) -> None:
    """And the document means what is wanted."""
    policy = policy.with_rules(*map(printable, (policy.rules, policy.resting)))
    if not policy.rules:
        return
    written, places = by_hand(policy, luck)
    text = "\n".join(written)
    assert parse_policy(text) == policy
    at = luck.randrange(len(policy.rules))
    rule = policy.rules[at]
    begin, end = places[at]
    match kind:
        case "add":
            new = replace(rule, name="a rule of its own", filters=(*rule.filters, flt))  # type: ignore[arg-type]
            changed = edited(policy.with_rule(new), text)
            begin = end = places[-1][1]
        case "remove":
            changed = edited(policy.without_rules(frozenset({rule.name})), text)
        case "change":
            kept = [each for each in rule.filters if luck.random() < 0.6]
            other = replace(rule, filters=(*kept, flt))  # type: ignore[arg-type]
            changed = edited(policy.with_rule(other), text)
        case "rest":
            others = policy.without_rules(frozenset({rule.name}))
            changed = edited(others.with_rules(others.rules, (rule, *others.resting)), text)
        case _:
            action = Action.PERMIT if rule.action is Action.BLOCK else Action.BLOCK
            changed = edited(policy.with_rule(replace(rule, action=action)), text)
    before = [line for line in written[:begin] if line.strip()]
    after = [line for line in written[end:] if line.strip()]
    told = [line for line in changed if line.strip()]
    if kind == "remove" and len(places) == 1:
        before[before.index("rules:   # all of them")] = "rules: []   # all of them"
    assert told[: len(before)] == before
    assert told[len(told) - len(after) :] == after
    if kind == "remove":
        assert len(told) == len(before) + len(after)
    if kind == "action":
        inside = [line for line in written[begin:end] if line.strip()]
        now = told[len(before) : len(told) - len(after)]
        assert [a == b for a, b in zip(inside, now, strict=True)].count(False) == 1


def test_a_policy_becomes_one_of_audits_and_back() -> None:
    """One line comes behind the description, and goes; comments and layout stay."""
    rule = "- {rule: R, action: block, filters: ['*=0']}"
    tidy = f"# ours\npolicy: P  # a name\n\n# rules of 2003\nrules:\n{rule}\n"
    for text in (tidy, tidy.replace("\n", "\r\n"), tidy.replace("\n\n#", "\ndescription: d\n\n#")):
        policy = parse_policy(text)
        audited = edited_text(text, policy.with_audit(audit=True))
        assert audited is not None
        assert audited.splitlines().count("audit: true") == 1
        assert parse_policy(audited) == policy.with_audit(audit=True)
        assert edited_text(audited, policy) == text
    wrong = "policy: P\naudit: maybe\nrules: []\n"
    with pytest.raises(InvalidInput, match="'maybe' is not true or false"):
        parse_policy(wrong)
