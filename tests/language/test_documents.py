"""Policy documents: round trips, refusals with their line, the schema, differences, speed."""

from __future__ import annotations

import time
from dataclasses import replace

import jsonschema
import pytest
import yaml
from hypothesis import given, settings

from ipsecd.errors import InvalidInput
from ipsecd.language.differences import Difference, diff_policies
from ipsecd.language.documents import (
    MAX_BYTES,
    format_policy,
    parse_policy,
    policy_schema,
)
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import (
    Action,
    Conditions,
    InterfaceType,
    Policy,
    Rule,
    Store,
    filters_of,
)
from tests.strategies import policies

SLAMMER = """\
policy: Block UDP 1434 Filter
description: Keeps the Slammer worm out, and in
rules:
  - rule: Block Inbound UDP 1434 Rule
    action: block
    filters:
      - "*=0:1434:UDP"
  - rule: Let the branch in
    action: permit
    interface: dialup
    filters:
      - "10.1.0.0/16=0:80,443:TCP"
      - "0+*::ICMP"
"""
POLICY = parse_policy(SLAMMER)
RULE = 'policy: P\nrules:\n  - rule: R\n    action: block\n    filters: ["0+*"]\n'


def test_the_canonical_form_is_stable() -> None:
    """A canonical document is printed as it was read."""
    assert format_policy(POLICY) == SLAMMER
    assert POLICY.rules[1] == Rule(
        "Let the branch in",
        (parse_filter("10.1.0.0/16=0:80,443:TCP"), parse_filter("0+*::ICMP")),
        Action.PERMIT,
        Conditions(InterfaceType.DIALUP),
    )


@settings(max_examples=300, deadline=None)
@given(policies(names=True, expect=True, shared=True))
def test_what_is_printed_reads_back(policy: Policy) -> None:
    """parse(format(x)) == x, as text and as bytes, whatever characters the names have."""
    text = format_policy(policy)
    assert parse_policy(text) == policy
    assert parse_policy(text.encode()) == policy


@pytest.mark.parametrize(
    "sender",
    [r"service:a\x2db.service", r"service:a\b.service", r"service:a\\b.scope", r"cgroup:/a\n/b\q"],
)
@pytest.mark.parametrize("filters", [1, 20])
def test_senders_with_backslashes_read_back(sender: str, filters: int) -> None:
    """As systemd escapes names; read as an escape of YAML it would be another service."""
    texts = [f"{sender}=*:{port}:TCP" for port in range(1, filters + 1)]
    policy = Policy("P", (Rule("R", tuple(map(parse_filter, texts)), Action.BLOCK),))
    document = format_policy(policy)
    assert parse_policy(document) == policy
    assert yaml.safe_load(document)["rules"][0]["filters"] == texts
    whole = Difference(None, policy).lines()
    assert whole == (f'+ rule "R": block {" ".join(texts)}',)


@settings(max_examples=200, deadline=None)
@given(policies(names=True, expect=True, shared=True))
def test_other_readers_of_yaml_see_the_same_text(policy: Policy) -> None:
    """A reader that makes ``no`` false and ``1`` a number still finds only text; it validates."""
    document = yaml.safe_load(format_policy(policy))
    assert document["policy"] == policy.name
    written = [(rule.name, rests) for rule, rests in policy.written_rules()]
    entries = document["rules"]
    assert [(one["rule"], not one.get("enabled", True)) for one in entries] == written
    jsonschema.validate(document, policy_schema())


@pytest.mark.parametrize(
    "name", ["no", "Yes", "null", "1434", "1e3", "a: b", "a #b", "~", "x.", "é\U0001f600"]
)
def test_every_name_is_text(name: str) -> None:
    """Names that YAML has other ideas about stay names, and survive printing."""
    assert parse_policy(format_policy(Policy(name))).name == name


def test_a_description_of_several_lines_is_legible() -> None:
    """Line ends and tabs are printed as people write them, controls by their number."""
    text = format_policy(Policy("P", (), 'one "1"\n\ttwo\x1b'))
    assert text == 'policy: P\ndescription: "one \\"1\\"\\n\\ttwo\\U0000001B"\nrules: []\n'


def test_an_error_of_a_filter_quotes_the_filter_once() -> None:
    """A reader of the message finds the filter in the document, even without the line."""
    for text in ("*=0:http:TCP", "*=0:80:ICMP", "nonsense"):
        with pytest.raises(InvalidInput) as caught:
            parse_policy(RULE.replace("0+*", text))
        assert caught.value.message.count(repr(text)) == 1


def test_unquoted_words_of_yaml_are_text() -> None:
    """``policy: no`` is a policy called "no"."""
    assert parse_policy("policy: no\nrules: []\n").name == "no"
    assert parse_policy("policy: 2024-01-01\n").name == "2024-01-01"


def test_letter_case_of_words_does_not_matter() -> None:
    """``Block`` and ``LAN`` are accepted, and printed in lower case."""
    text = RULE.replace("block", "Block").replace("    filters", "    interface: LAN\n    filters")
    assert "action: block\n    interface: lan\n" in format_policy(parse_policy(text))


SHARED = """\
policy: Shared
rules:
  - rule: Worms
    action: block
    description: "from the list: of worms"
    filter-action: Drop
    filter-list: Worms
    filters:
      - "*=0:1434:UDP"
  - rule: Nothing yet
    action: permit
    filter-list: Empty
    filters: []
  - rule: Resting
    action: block
    when: opening
    enabled: false
    filters:
      - "*=0:80:TCP"
"""


def test_rules_keep_what_they_were_made_from() -> None:
    """The names of shared filters and actions; a list may be empty, and a rule switched off."""
    policy = parse_policy(SHARED)
    worms, nothing = policy.rules
    (off,) = policy.resting
    assert (worms.filter_list, worms.filter_action) == ("Worms", "Drop")
    assert worms.description == "from the list: of worms"
    assert (nothing.filters, nothing.filter_list) == ((), "Empty")
    assert off.name == "Resting"
    assert format_policy(policy) == SHARED
    assert parse_policy(SHARED.replace("    filters: []\n", "")) == policy
    assert parse_policy(SHARED.replace("enabled: false", "enabled: true")).resting == ()
    jsonschema.validate(yaml.safe_load(SHARED), policy_schema())


def test_what_rests_is_nowhere_in_force() -> None:
    """Not in what is asked of a policy, nor among its filters; another rule of its name counts."""
    policy = parse_policy(SHARED)
    assert set(policy.facts.actions) == {"Worms", "Nothing yet"}
    assert policy.facts.filters == 1
    assert {each.origin.rule for each in filters_of(policy, Store.STATIC)} == {"Worms"}
    assert policy.with_audit(audit=True).resting == policy.resting
    again = policy.with_rule(policy.resting[0])
    assert (again.resting, again.rules[-1].name) == ((), "Resting")
    assert policy.without_rules(frozenset({"Resting"})).resting == ()
    with pytest.raises(InvalidInput, match="two rules named 'Resting'"):
        policy.with_rules((*policy.rules, *policy.resting), policy.resting)


def test_what_changes_of_a_rule_is_told_without_its_filters() -> None:
    """That it is off, what it is for, and where its filters are from."""
    policy = parse_policy(SHARED)
    (off,), (worms, nothing) = policy.resting, policy.rules
    other = replace(worms, filter_list="", description="")
    changed = policy.with_rules((other, off), (nothing,))
    assert diff_policies(policy, changed) == (
        '~ rule "Nothing yet": enabled: false',
        '~ rule "Resting": enabled: true',
        '~ rule "Worms": description: ""',
        '~ rule "Worms": filter-list: ""',
    )
    assert diff_policies(None, policy.without_rules(frozenset({"Worms"}))) == (
        '+ rule "Nothing yet": permit',
        '+ rule "Nothing yet": filter-list: Empty',
        '+ rule "Resting": block when opening *=0:80:TCP',
        '+ rule "Resting": enabled: false',
    )
    assert diff_policies(policy, policy.without_rules(frozenset({"Resting"}))) == (
        '- rule "Resting": block when opening *=0:80:TCP',
    )


BAD = [
    ("", 1, "empty", "policy: NAME"),
    ("- a\n", 1, "keys and values", "policy"),
    ("rules: []\n", 1, "names no policy", "policy: NAME"),
    ("policy: P\npolicy: Q\n", 2, "'policy' stands twice", "keep one"),
    ("policy: P\nrulez: []\n", 2, "'rulez' is not known", "did you mean rules?"),
    ("policy: P\nzzz: []\n", 2, "'zzz' is not known", "policy, description, audit, rules, expect"),
    ("policy: P\nrules: R\n", 2, "a list", "dash"),
    ("policy: [P]\n", 1, "text", ""),
    ("policy: ''\n", 1, "'' cannot name a policy", "printable"),
    ("policy: !!str P\n", 1, "tags", "plain YAML"),
    ("policy: &a P\ndescription: *a\n", 1, "anchors", "plain YAML"),
    ("policy: P\n---\npolicy: Q\n", 2, "more than one document", "plain YAML"),
    ("policy: P\nrules: " + "[" * 17 + "]" * 17 + "\n", 2, "keys and values", "rule, action"),
    ("policy: P\n  bad: indent\n", 2, "not YAML", "indentation"),
    ("policy: P\ndescription: \x07\n", 2, "no text has", "UTF-8"),
    (
        RULE.replace("block", "drop"),
        4,
        "'drop' is not block, permit or audit",
        "block, permit or audit",
    ),
    (RULE.replace("action: block", "interface: lan"), 3, "no 'action'", "action:"),
    (RULE + "    interface: wi fi\n", 6, "'wi fi' cannot be the name of an interface", "eth1"),
    (RULE + "    when: closing\n", 6, "'closing' does not say when", "write opening"),
    (RULE + "    enabled: off\n", 6, "'off' is not true or false", "write true or false"),
    (RULE.replace('["0+*"]', "[]\n    filter-list: ''"), 3, "no filters", "at least one"),
    (RULE + '    filter-list: " L"\n', 3, "' L' cannot name a filter list", "printable"),
    (RULE + '    filter-action: "a\\nb"\n', 3, "cannot name a filter action", "printable"),
    (RULE + RULE[RULE.index("  - ") :] + "    enabled: false\n", 6, "'R' above", "own"),
    (RULE + "    actoin: block\n", 6, "'actoin' is not known", "did you mean action?"),
    (RULE.replace('["0+*"]', '"0+*"'), 5, "a list", "dash"),
    (RULE.replace('["0+*"]', "[]"), 3, "no filters", "at least one"),
    (RULE.replace('"0+*"', '"0+*",\n      "*=0:http"'), 6, "'http' is not a port", "number"),
    (RULE + RULE[RULE.index("  - ") :], 6, "'R' above already", "a name of its own"),
]


@pytest.mark.parametrize(("document", "line", "what", "hint"), BAD)
def test_a_bad_document_is_refused_with_its_line(
    document: str, line: int, what: str, hint: str
) -> None:
    """Whatever is not a policy document is refused by file, line and reason, with a remedy."""
    with pytest.raises(InvalidInput) as caught:
        parse_policy(document, "p.yaml")
    assert (caught.value.source, caught.value.line) == ("p.yaml", line)
    assert what in caught.value.message
    assert hint in caught.value.hint


def test_bytes_that_are_not_utf8_are_refused_with_their_line() -> None:
    """A file in another encoding is not guessed at."""
    with pytest.raises(InvalidInput, match="not UTF-8") as caught:
        parse_policy(b"policy: P\ndescription: \xe9\n")
    assert caught.value.line == 2


def test_a_document_that_is_too_large_is_refused_unread() -> None:
    """The limit on size comes before any parsing."""
    with pytest.raises(InvalidInput, match="bytes long"):
        parse_policy(b"[" * (MAX_BYTES + 1))


SHORT = {
    "udp/1434": "*=0:1434:UDP",
    "tcp/80,443": "*=0:80,443:TCP",
    "203.0.113.7": "203.0.113.7=0",
    "2001:db8::/32": "[2001:db8::]/32=0",
    "evil.example.com": "evil.example.com=0",
    "@drop": "@drop=0",
}
"""Filters in short, and what each stands for."""


@pytest.mark.parametrize("times", [1, 20])
def test_a_filter_in_short_is_what_it_is_on_the_command_line(times: int) -> None:
    """It is stored written out, and a run of many such filters is read as a single one is."""
    items = "".join(f'      - "{text}"\n' for text in [*SHORT] * times)
    document = f"policy: P\nrules:\n  - rule: R\n    action: block\n    filters:\n{items}"
    (rule,) = parse_policy(document).rules
    assert rule.filters == tuple(map(parse_filter, SHORT.values()))
    assert parse_policy(format_policy(parse_policy(document))).rules == (rule,)
    jsonschema.validate(yaml.safe_load(document), policy_schema())


@pytest.mark.parametrize("slip", ["*", "0", "monitor", "icmp", "foo/80", "0/0", "10/8"])
def test_a_slip_in_a_document_is_refused_with_its_line(slip: str) -> None:
    """What could block everything by accident is no filter in a document either."""
    with pytest.raises(InvalidInput) as caught:
        parse_policy(RULE.replace("0+*", slip), "p.yaml")
    assert (caught.value.source, caught.value.line) == (
        "p.yaml",
        1 + RULE[: RULE.index("0+*")].count("\n"),
    )


SCHEMA_BAD = [
    "policy: ''",
    "rules: []",
    "policy: P\nrulez: []",
    "policy: P\nrules: R",
    RULE.replace("block", "drop"),
    RULE.replace("    action: block\n", ""),
    RULE + "    interface: wi fi\n",
    RULE.replace('["0+*"]', "[]"),
    RULE.replace('["0+*"]', "[]\n    filter-list: ''"),
    RULE + "    enabled: maybe\n",
    RULE.replace('    filters: ["0+*"]\n', ""),
    RULE.replace('["0+*"]', '"0+*"'),
    RULE.replace("0+*", "nonsense"),
]


@pytest.mark.parametrize("document", [SLAMMER, RULE, SHARED, "policy: P", "policy: P\nrules: []"])
def test_the_schema_accepts_what_the_parser_accepts(document: str) -> None:
    """Good documents are good by both."""
    jsonschema.Draft202012Validator.check_schema(policy_schema())
    jsonschema.validate(yaml.safe_load(document), policy_schema())
    parse_policy(document)


@pytest.mark.parametrize("document", SCHEMA_BAD)
def test_the_schema_refuses_what_the_parser_refuses(document: str) -> None:
    """Bad documents are bad by both."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(document), policy_schema())
    with pytest.raises(InvalidInput):
        parse_policy(document)


def test_a_difference_is_told_by_rule_and_filter() -> None:
    """Added and removed rules show whole; a changed list of filters shows the change."""
    first, second = POLICY.rules
    smaller = replace(second, filters=second.filters[:1])
    turned = replace(first, action=Action.PERMIT)
    assert diff_policies(POLICY, POLICY) == ()
    assert diff_policies(None, None) == ()
    assert diff_policies(POLICY, replace(POLICY, rules=(first, smaller))) == (
        '- rule "Let the branch in": 0+*::ICMP',
    )
    assert diff_policies(POLICY, replace(POLICY, rules=(turned, second))) == (
        '- rule "Block Inbound UDP 1434 Rule": block *=0:1434:UDP',
        '+ rule "Block Inbound UDP 1434 Rule": permit *=0:1434:UDP',
    )
    assert diff_policies(None, replace(POLICY, rules=(first,))) == (
        '+ rule "Block Inbound UDP 1434 Rule": block *=0:1434:UDP',
    )
    assert diff_policies(POLICY, replace(POLICY, name="Q", description="")) == (
        "~ policy: Block UDP 1434 Filter becomes Q",
        '~ description: ""',
    )


@settings(max_examples=100, deadline=None)
@given(policies(expect=True, shared=True), policies(expect=True, shared=True))
def test_only_equal_rules_differ_in_nothing(old: Policy, new: Policy) -> None:
    """The difference is empty exactly when both hold the same rules and words."""

    def content(policy: Policy) -> tuple[object, ...]:
        rules = {
            (
                replace(rule, filters=(), filter_list=rule.filter_list or "-"),
                frozenset(rule.filters),
                rests,
            )
            for rule, rests in policy.written_rules()
        }
        return policy.name, policy.description, policy.audit, rules, frozenset(policy.expect)

    assert (diff_policies(old, new) == ()) == (content(old) == content(new))


def test_a_hundred_thousand_filters_take_seconds() -> None:
    """A large list is read and compared in a time that grows with its length only."""
    lines = (f'    - "10.{n >> 16}.{n >> 8 & 255}.{n & 255}=0:1434:UDP"' for n in range(100_000))
    document = "policy: P\nrules:\n- rule: R\n  action: block\n  filters:\n" + "\n".join(lines)
    began = time.thread_time()
    policy = parse_policy(document)
    changed = replace(policy.rules[0], filters=policy.rules[0].filters[1:])
    assert diff_policies(policy, replace(policy, rules=(changed,))) == (
        '- rule "R": 10.0.0.0=0:1434:UDP',
    )
    assert len(policy.rules[0].filters) == 100_000
    assert time.thread_time() - began < 60
