"""Filters as they are typed: brackets, short forms, and arguments that a shell took apart."""

from __future__ import annotations

import pytest

from ipsecd.errors import InvalidInput
from ipsecd.language.filters import (
    Spec,
    format_filter,
    join_arguments,
    parse_filter,
    parse_short,
    parse_spec,
)
from ipsecd.model.values import Action


@pytest.mark.parametrize(
    ("text", "canonical", "action"),
    [
        ("[*=0:80:TCP]", "*=0:80:TCP", Action.BLOCK),
        ("(0+*::ICMP)", "0+*::ICMP", Action.PERMIT),
        (" [ 0+* ] ", "0+*", Action.BLOCK),
        ("*=0:80:TCP", "*=0:80:TCP", None),
        ("[2001:db8::1]=[2001:db8::2]", "[2001:db8::1]=[2001:db8::2]", None),
        ("[[2001:db8::1]=0]", "[2001:db8::1]=0", Action.BLOCK),
        ("([2001:db8::1]=[2001:db8::2])", "[2001:db8::1]=[2001:db8::2]", Action.PERMIT),
    ],
)
def test_brackets_block_and_parentheses_permit(
    text: str, canonical: str, action: Action | None
) -> None:
    """The legacy brackets give the action; those of an IPv6 address do not."""
    assert parse_spec(text) == Spec(parse_filter(canonical), action)


@pytest.mark.parametrize("text", ["[*=0:80:TCP", "(*=0:80:TCP]", "[*=0]:80", "["])
def test_brackets_that_do_not_pair_are_refused(text: str) -> None:
    """A bracket that nothing closes is an error, and never a filter without an action."""
    with pytest.raises(InvalidInput) as caught:
        parse_spec(text)
    assert 0 <= caught.value.position <= len(text)


def test_an_error_within_brackets_points_into_the_whole_text() -> None:
    """The position counts the bracket too."""
    with pytest.raises(InvalidInput) as caught:
        parse_spec(" [*=0:http:TCP]")
    assert caught.value.position == 6
    assert caught.value.source == " [*=0:http:TCP]"


@pytest.mark.parametrize(
    ("typed", "joined"),
    [
        (["*=0:", "1434:", "UDP"], ["*=0: 1434: UDP"]),
        (["[*=0:", "80:", "TCP]", "(0+*)"], ["[*=0: 80: TCP]", "(0+*)"]),
        (["*+0:135:tcp", "*+0:445:tcp"], ["*+0:135:tcp", "*+0:445:tcp"]),
        (["*=0:80:", "*=0:81:TCP"], ["*=0:80:", "*=0:81:TCP"]),
        (["[", "*=0:", "80:", "TCP", "]", "(", "0+*)"], ["[ *=0: 80: TCP ]", "( 0+*)"]),
        ([], []),
    ],
)
def test_arguments_are_joined_as_the_article_types_them(
    typed: list[str], joined: list[str]
) -> None:
    """Separate arguments belong together while one ends in a colon, and so does a bracket."""
    assert join_arguments(typed) == joined


@pytest.mark.parametrize("word", ["T", "=", "notes", "Makefile"])
def test_what_a_glob_left_is_recognised(word: str) -> None:
    """A lone character or file name gets an error that shows how to quote."""
    with pytest.raises(InvalidInput, match="file name") as caught:
        join_arguments([word])
    assert "'[*=0:80:TCP]'" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("udp/1434", "*=0:1434:UDP"),
        ("TCP/80,443", "*=0:80,443:TCP"),
        ("17/1434", "*=0:1434:UDP"),
        ("tcp/1000-1999", "*=0:1000-1999:TCP"),
        ("icmp/", "*=0::ICMP"),
        ("icmp/echo-request", "*=0::ICMP/echo-request"),
        ("ICMPv6/packet-too-big", "*=0::ICMPv6/packet-too-big"),
        ("203.0.113.7", "203.0.113.7=0"),
        ("203.0.113.0/24", "203.0.113.0/24=0"),
        ("2001:db8::7", "[2001:db8::7]=0"),
        ("2001:db8::/32", "[2001:db8::]/32=0"),
        ("[2001:db8::7]", "[2001:db8::7]=0"),
        ("evil.example.com", "evil.example.com=0"),
        ("0=*:25:TCP", "0=*:25:TCP"),
    ],
)
def test_short_forms_are_filters_to_this_host(text: str, canonical: str) -> None:
    """A protocol with ports, and a bare address, stand for packets to this host."""
    assert format_filter(parse_short(text)) == canonical


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("*", "alone is not a filter", "*=0"),
        ("0", "alone is not a filter", "0+*"),
        ("monitor", "alone is not a filter", "monitor=0"),
        ("icmp", "alone is not a filter", "write '*=0::ICMP'"),
        ("foo/80", "'foo' is not a known protocol", "udp/1434"),
        ("0/0", "a mask cannot follow '0'", "0.0.0.0/0"),
        ("10/8", "a mask cannot follow '10'", "four octets"),
        ("tcp/http", "'http' is not a port", "services"),
        ("icmp/80", "has no ports", "TCP"),
        ("203.0.113.7:80", "'203.0.113.7:80' is not", "203.0.113.7:80=0"),
        ("10.0.0.5/24", "beyond its mask", "10.0.0.0/24"),
        ("[*=0:80:TCP]", "is in brackets", "the filter alone"),
        ("", "no address", "this host"),
    ],
)
def test_a_slip_of_the_hand_is_not_a_short_form(text: str, what: str, hint: str) -> None:
    """Words that could block everything, or nothing, by accident are refused."""
    with pytest.raises(InvalidInput) as caught:
        parse_short(text)
    assert what in caught.value.message
    assert caught.value.source == text
    assert hint in caught.value.hint
