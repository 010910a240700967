"""All errors of a document: each with its line, none because of another, the first as raised."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.language.collected import MAX_ERRORS
from ipsecd.language.documents import MAX_BYTES, errors_of_policy
from ipsecd.model.expectations import MAX_EXPECTATIONS
from tests.fuzz.fuzz_documents import SEEDS, read_both_ways
from tests.language import test_documents, test_expectations
from tests.language.test_runs import LONG

MAYBE = "maybe tcp 203.0.113.7:4000 > me:22"
TEN = f"""\
policy: Web
descripton: a web server
rules:
  - rule: No shell
    action: drop
    filters:
      - "*=0:22:TCP"
      - "*=0:ssh:TCP"
      - nonsense
  - rule: No names
    action: block
    interface: wi fi
    when: closing
    filters: ["*=0:53:UDP", *a, "*=0:153:UDP"]
  - rule: No shell
    action: block
    filters:
      - "*=0:23:TCP"
expect:
  - "{MAYBE}"
  - packet: tcp 203.0.113.7:4000 > me:23
"""
"""Ten faults, and what stands between them is right."""
RULE = "  - rule: R\n    action: block\n    filters:\n"


def lines_of(document: str | bytes) -> list[int]:
    return [error.line for error in errors_of_policy(document).by_line]


def test_ten_faults_are_ten_errors() -> None:
    """In the order of their lines, each with what it says alone."""
    errors = errors_of_policy(TEN, "p.yaml")
    assert (errors.count, errors.more) == (10, 0)
    told = [(error.line, error.message) for error in errors.by_line]
    assert told == [
        (2, "the key 'descripton' is not known"),
        (5, "'drop' is not block, permit or audit"),
        (8, "'ssh' is not a port: filter '*=0:ssh:TCP'"),
        (9, "'nonsense' alone is not a filter"),
        (12, "'wi fi' cannot be the name of an interface"),
        (13, "'closing' does not say when a rule applies"),
        (14, "anchors and aliases are not allowed"),
        (15, "there is a rule 'No shell' above already"),
        (20, f"{MAYBE!r} does not begin with what is expected"),
        (21, "the expectation has no 'verdict'"),
    ]
    assert all(error.hint and error.source == "p.yaml" for error in errors.by_line)


@pytest.mark.parametrize(
    ("document", "lines"),
    [
        (f"policy: P\nrules:\n{RULE}      - x y\n", [6]),
        (f"policy: P\nrules:\n{RULE.replace('action', 'actoin')}      - 0+*\n", [4]),
        (f"policy: P\nrules:\n{RULE.replace('filters', 'filter')}      - x y\n", [5, 6]),
        (f"policy: P\nrules:\n{RULE.replace('rule: R', 'rule: [a, [b]]')}      - 0+*\n", [3]),
        ("policy: P\nrules:\n  - rule: ' '\n    action: block\n    filters: []\n", [3, 3]),
        ("policy: P\nrules:\n  - {}\n", [3, 3, 3]),
        ("policy: P\nrules: &a\n  - x\n  - [y, {z: 1}]\nexpect: x\n", [2, 3, 4, 5]),
        ("policy: P\n? [a, {b: c}]\n: [d]\nrules: x\n", [2, 4]),
        ("policy: P\n*a : {b: *c}\nzzz: {b: &c d}\nrules: x\n", [2, 3, 4]),
        ("policy: [P]\nrules: x\n---\n", [1, 2, 3]),
        ("rules: x\n", [1, 1]),
        ("policy: P\nrules: x\nexpect: [\n", [2, 4]),
        ("policy: P\nrules: x\nexpect: \x07\n", [3]),
        ('policy: P\nexpect: [{packet: x, verdict: y, reason: "\\t"}, block x]\n', [2, 2, 2]),
        (f"policy: P\nrules:\n{RULE}    - x y\n{RULE}    - 0+*\n", [6, 7]),
        (
            "policy: P\nexpect:\n- {packet: icmp me > ::1, verdict: y}\n- permit icmp me > ::1\n",
            [3],
        ),
        (f"{LONG}    - nonsense\nrules: x\n", [26, 27, 27]),
    ],
)
def test_an_error_is_not_told_again_in_other_words(document: str, lines: list[int]) -> None:
    """What is there only because of it is none."""
    assert lines_of(document) == lines


def test_each_fault_is_told_without_the_others() -> None:
    """With one of the lines mended there is one error less, and the others stay as they were."""
    mended = {
        2: "description: D",
        5: "    action: block",
        8: '      - "*=0:24:TCP"',
        9: '      - "*=0:25:TCP"',
        12: "    interface: lan",
        13: "    when: opening",
        14: '    filters: ["*=0:53:UDP"]',
        15: "  - rule: Another",
        20: "  - block tcp 203.0.113.7:4000 > me:22",
        21: "  - {verdict: block, packet: tcp 203.0.113.7:4000 > me:23}",
    }
    assert lines_of(TEN) == [*mended]
    for number, line in mended.items():
        lines = TEN.split("\n")
        lines[number - 1] = line
        assert lines_of("\n".join(lines)) == [other for other in mended if other != number]


CASES: list[str | bytes] = [
    *(document for document, *_ in test_documents.BAD),
    *test_documents.SCHEMA_BAD,
    *(test_expectations.HEAD + items for items, *_ in test_expectations.BAD),
    *(
        test_expectations.WITH_REASON.replace(old, new, 1)
        for old, new, _ in test_expectations.SLIPS
    ),
    *SEEDS,
    TEN,
    f"{LONG}    - nonsense=\n",
    LONG.replace("192.0.2.7", "192.0.2.700"),
    "policy: P\ndescription: \ud800\n",
    b"policy: P\ndescription: \xe9\n",
    b"[" * (MAX_BYTES + 1),
]


@pytest.mark.parametrize("document", CASES, ids=range(len(CASES)))
def test_the_first_that_is_met_is_what_is_raised(document: str | bytes) -> None:
    """In the same words, with the same line; a document without errors is accepted."""
    read_both_ways(document)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 39)), st.booleans())
def test_every_wrong_filter_is_told(wrong: set[int], quoted: bool) -> None:
    """Whichever they are, also all of them, and in a list that is long enough to be folded."""
    mark = '"' if quoted else ""
    texts = [f"192.0.2.{n}=0:{'x' * (n in wrong)}80:TCP" for n in range(40)]
    document = f"policy: P\nrules:\n{RULE}" + "".join(f"    - {mark}{t}{mark}\n" for t in texts)
    assert lines_of(document) == [6 + number for number in sorted(wrong)]


def test_a_rule_is_told_of_in_its_place() -> None:
    """Though its filters were read before it was judged."""
    rule = RULE.replace("    action: block\n", "")
    errors = errors_of_policy(f"policy: P\nrules:\n{rule}    - x y\n")
    assert [error.line for error in errors.first] == [5, 3]
    assert [error.line for error in errors.by_line] == [3, 5]


def test_too_many_expectations_are_one_error() -> None:
    """Not one for each that is more."""
    lines = (f"  - block tcp 192.0.2.1:{n} > me:22\n" for n in range(MAX_EXPECTATIONS + 9))
    document = test_expectations.HEAD + "".join(lines)
    assert lines_of(document) == [4 + MAX_EXPECTATIONS]


def test_of_very_many_errors_the_first_are_kept_and_all_counted() -> None:
    """So that a file of another kind does not fill a terminal, or memory."""
    errors = errors_of_policy(f"policy: P\nrules:\n{RULE}" + "    - x y\n" * 3000)
    assert [error.line for error in errors.by_line] == [*range(6, 6 + MAX_ERRORS)]
    assert (errors.count, errors.more) == (3000, 3000 - MAX_ERRORS)


def test_an_error_that_is_kept_keeps_nothing_else() -> None:
    """Neither what was read when it was met nor other errors."""
    for error in errors_of_policy(TEN).first:
        assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)
