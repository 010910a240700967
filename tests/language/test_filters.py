"""The filter language: canonical text, round trips, and errors that help."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from ipsecd.errors import InvalidInput
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.language.filters import (
    format_filter,
    join_arguments,
    parse_filter,
    parse_short,
    parse_spec,
)
from ipsecd.model.values import Action, Filter, Policy, Rule
from tests.strategies import filters

GOLDEN = {
    "*=0:1434:UDP": "*=0:1434:UDP",
    "* = 0 : 1434 : udp": "*=0:1434:UDP",
    "*=0: 1434: UDP": "*=0:1434:UDP",
    "0+*": "0+*",
    "*=0::icmp": "*=0::ICMP",
    "0:80+*::TCP": "0:80+*::TCP",
    "*=0:0:*": "*=0",
    "*=0::1": "*=0::1",
    "*=0::58": "*=0::ICMPv6",
    "10.1.*.*=0": "10.1.0.0/16=0",
    "192.168.1.5+192.168.1.0/255.255.255.0": "192.168.1.5+192.168.1.0/24",
    "*=0:443,80:tcp": "*=0:80,443:TCP",
    "*=0:1000-1999:tcp": "*=0:1000-1999:TCP",
    "[2001:db8::1]/64=0": "[2001:db8::]/64=0",
    "0.0.0.0/0=0": "0.0.0.0/0=0",
}


@pytest.mark.parametrize(("text", "canonical"), GOLDEN.items())
def test_text_is_printed_canonically(text: str, canonical: str) -> None:
    """Every way to write a filter is printed in one way, which reads back as the same."""
    assert format_filter(parse_filter(text)) == canonical
    assert parse_filter(canonical) == parse_filter(text)


@settings(max_examples=500, deadline=None)
@given(filters())
def test_what_is_printed_reads_back(one: Filter) -> None:
    """parse(format(x)) == x, for filters and for a document that holds them."""
    assert parse_filter(format_filter(one)) == one
    policy = Policy("P: with # signs", (Rule("no", (one,), Action.BLOCK),), "yes")
    assert parse_policy(format_policy(policy)) == policy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("*0=: 80: TCP", "0=*:port:protocol"),
        ("*=0:1434:XYZ", "not a known protocol"),
        ("*=0:70000:TCP", "65535"),
        ("*=0:80:ICMP", "has no ports"),
        ("0:80:TCP+*", "far right"),
        ("*:0", "no '=' or '+'"),
        ("10.0.0.1/255.0.255.0=0", "mask"),
        ("", "no '=' or '+'"),
    ],
)
def test_an_error_says_what_to_do(text: str, words: str) -> None:
    """A filter that cannot be read is refused with a position in it and words that help."""
    with pytest.raises(InvalidInput) as caught:
        parse_filter(text)
    assert words in str(caught.value)
    assert 0 <= caught.value.position <= len(text)


def test_brackets_block_and_parentheses_permit() -> None:
    """The legacy brackets give the action; those of an IPv6 address do not."""
    assert parse_spec("[*=0:80:TCP]").action is Action.BLOCK
    assert parse_spec("(0+*::ICMP)").action is Action.PERMIT
    assert parse_spec("[2001:db8::1]=[2001:db8::2]").action is None
    assert parse_spec("[[2001:db8::1]=0]").action is Action.BLOCK


def test_arguments_are_joined_as_the_article_types_them() -> None:
    """Separate arguments belong together while one ends in a colon."""
    assert join_arguments(["*=0:", "1434:", "UDP", "0+*"]) == ["*=0: 1434: UDP", "0+*"]
    with pytest.raises(InvalidInput, match="file name"):
        join_arguments(["4"])


def test_short_forms_are_filters_to_this_host() -> None:
    """A protocol with a port, and a bare address, stand for packets to this host."""
    assert parse_short("udp/1434") == parse_filter("*=0:1434:UDP")
    assert parse_short("203.0.113.7") == parse_filter("203.0.113.7=0")
    assert parse_short("2001:db8::7") == parse_filter("[2001:db8::7]=0")


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ("policy: P\npolicy: Q\n", 2),
        ("policy: P\nrulez: []\n", 2),
        ("policy: !!str P\n", 1),
        ("policy: &a P\ndescription: *a\n", 1),
        ('policy: P\nrules:\n  - rule: R\n    action: block\n    filters: ["nonsense"]\n', 5),
        ("policy: P\nrules: [[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]\n", 2),
    ],
)
def test_a_bad_document_is_refused_with_its_line(document: str, line: int) -> None:
    """Repeated and unknown keys, tags, aliases, bad filters and depth are named by line."""
    with pytest.raises(InvalidInput) as caught:
        parse_policy(document, "p.yaml")
    assert (caught.value.source, caught.value.line) == ("p.yaml", line)
