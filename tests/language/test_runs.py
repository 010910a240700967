"""Short ways through long documents: they lead where the long way does, or are not taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.errors import InvalidInput
from ipsecd.language import filters, reading
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.language.filters import parse_filter
from ipsecd.language.runs import MARK, fold
from ipsecd.model.values import Filter, Policy

LINES = "".join(f'    - "192.0.2.{number}=0:80:TCP"\n' for number in range(20))
RULE = f"  - rule: R\n    action: block\n    filters:\n{LINES}"
LONG = f"policy: P\nrules:\n{RULE}"
SIDES = st.sampled_from(
    (
        *("0", "*", "1.2.3.4", "1.2.3", "1.2.3.256", "01.2.3.4", "10.0.0.0/8", "10.0.0.1/8", ""),
        *("[2001:db8::1]", "[2001:db8::]/32", "[::ffff:1.2.3.4]", "[]", "[1.2.3.4]", "2001:db8::1"),
        *("1", "12", "0/0", "*/8", "name", "service:a.service", " 1.2.3.4", "1.2.3.4/", "[::1"),
    )
)
AFTER = st.sampled_from(
    (
        *("", ":", ":80", ":0", ":*", ":80,80", ":9-1", ":1-9,20", ":70000", ":80:", ":80:TCP"),
        *("::UDP", "::ICMP", ":1:ICMP", "::41", "::44", "::99", "::256", "::nonsense", ":::", ":-"),
    )
)


def outcome(text: str, source: str = "<document>") -> Policy | str:
    try:
        return parse_policy(text, source)
    except InvalidInput as error:
        return f"{error} {error.line}"


def the_long_way(text: str, monkeypatch: pytest.MonkeyPatch) -> Policy | str:
    with monkeypatch.context() as patch:
        patch.setattr(reading, "fold", lambda document: (document, {}))
        return outcome(text)


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        LONG.rstrip("\n"),
        LONG + "description: after it\n",
        f"policy: P\nrules:\n{RULE}{RULE.replace('rule: R', 'rule: S')}",
        f"policy: P\nrules:\n{RULE}{RULE}",
        f"{LONG}    - nonsense\n",
        f"{LONG}    - nonsense=\n{LINES}",
        f"{LONG}      more\n",
        f"{LONG}     : more\n",
        f"{LONG}   - x\n",
        LONG.replace("192.0.2.7", "192.0.2.700"),
        LONG.replace("filters:", "description:"),
        LONG.replace("    filters:", "    Filters:"),
        LONG.replace("filters:\n", "filters:\n    - *a\n"),
        LONG.replace("filters:\n", "filters: |\n"),
        LONG.replace("filters:\n", "filters: >\n    filters:\n"),
        LONG.replace("    action: block\n", ""),
        LONG.replace("policy: P", 'policy: "P\\x'),
        f"policy: P\ndescription: |\n  filters:\n{LINES}rules: []\n",
        f"policy: P\ndescription: '\n  filters:\n{LINES}  '\nrules: []\n",
        f"policy: P\nrules: []\nnonsense:\n  filters:\n{LINES}",
        f"policy: P\ndescription: {MARK}0\nrules:\n{RULE}",
        f"{LONG}---\n{LONG}",
        f"{LONG}\x07",
        LONG.replace("\n", "\r\n"),
    ],
)
def test_a_folded_document_is_read_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what looks like a list of filters is something else, and where it is wrong."""
    assert outcome(text) == the_long_way(text, monkeypatch)


def test_lines_after_a_run_keep_their_numbers() -> None:
    """An error in what follows points at its own line."""
    with pytest.raises(InvalidInput) as caught:
        parse_policy(f"{LONG}    - nonsense\n")
    assert caught.value.line == 5 + 20 + 1


def test_a_run_is_folded_whole() -> None:
    """The reader of YAML sees one item of it."""
    folded, runs = fold(LONG)
    assert folded.count("192.0.2") == 0
    assert folded.count("\n") == LONG.count("\n")
    ((mark, items),) = runs.items()
    assert folded.count(mark) == 1
    assert items == [f"192.0.2.{number}=0:80:TCP" for number in range(20)]


def test_what_is_written_canonically_is_folded() -> None:
    """The documents that the daemon writes are those that it reads most."""
    policy = parse_policy(LONG)
    text = format_policy(policy)
    assert fold(text)[1]
    assert parse_policy(text) == policy


@settings(max_examples=400)
@given(SIDES, AFTER, st.sampled_from("=+"), SIDES, AFTER)
def test_a_plain_filter_is_what_the_grammar_says(
    source: str, ports: str, sign: str, destination: str, tail: str
) -> None:
    """Or has the same error at the same place."""
    text = f"{source}{ports}{sign}{destination}{tail}"
    assert parsed(parse_filter, text) == parsed(filters._parse_carefully, text)


def parsed(parse: Callable[[str], Filter], text: str) -> Filter | tuple[str, int]:
    try:
        return parse(text)
    except InvalidInput as error:
        return str(error), error.position
