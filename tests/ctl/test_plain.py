"""The short way to the canonical form of plain filters leads where the grammar does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecctl.plain import plain_filter, plain_filters
from ipsecd.errors import InvalidInput
from ipsecd.language.filters import format_filter, join_arguments, parse_short
from tests.strategies import filters

ADDRESSES = st.ip_addresses().map(str)
PORTS = st.integers(0, 70000).map(str)
SIDES = st.sampled_from(["*", "0", "me", "[::1]"]) | ADDRESSES
TEXTS = (
    ADDRESSES
    | st.ip_addresses(v=6).map(lambda address: address.exploded)
    | st.builds("{}/{}".format, st.sampled_from(["udp", "tcp", "UDP", "icmp", "17"]), PORTS)
    | st.builds("{}{}{}:{}:{}".format, SIDES, st.sampled_from("=+"), SIDES, PORTS, SIDES)
    | st.builds("{}={}:{}:TCP".format, SIDES, SIDES, PORTS)
    | st.builds("{}={}:{}".format, SIDES, SIDES, PORTS)
    | st.builds("{}={}".format, SIDES, SIDES)
    | st.text("0123456789afAF:./*=+ tcpudTCPUD", max_size=24)
    | st.from_regex(
        r"[0-9]{0,4}(\.[0-9]{0,4}){3}([=+][*0](:[0-9]*){0,2}(UDP|tcp)?)?", fullmatch=True
    )
    | filters().map(format_filter)
)


def canonical(text: str) -> str | None:
    """What the grammar makes of a text; None if it refuses it."""
    try:
        (joined,) = join_arguments([text])
        return format_filter(parse_short(joined))
    except InvalidInput:
        return None


@given(TEXTS)
def test_what_is_plain_means_what_the_grammar_says(text: str) -> None:
    """The short way is never another one; it may be none."""
    plain = plain_filter(text)
    assert plain is None or plain == canonical(text)


@pytest.mark.parametrize(
    ("text", "filter_"),
    [
        ("203.0.113.7", "203.0.113.7=0"),
        ("2001:DB8::0:7", "[2001:db8::7]=0"),
        ("udp/1434", "*=0:1434:UDP"),
        ("*=0:1434:UDP", "*=0:1434:UDP"),
        ("203.0.113.7+0:80", "203.0.113.7+0:80"),
    ],
)
def test_what_is_typed_most_is_plain(text: str, filter_: str) -> None:
    """Or the short way would be taken by nobody."""
    assert plain_filter(text) == filter_ == canonical(text)


@pytest.mark.parametrize("text", ["::ffff:203.0.113.7", "::203.0.113.7", "0", "*", "1", "tcp/0"])
def test_what_is_not_plain_is_left_to_the_grammar(text: str) -> None:
    """It may be right or wrong."""
    assert plain_filter(text) is None
    assert plain_filters(["203.0.113.7", text]) is None
