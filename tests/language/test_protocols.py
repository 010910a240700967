"""Protocol names and numbers."""

from __future__ import annotations

import socket

import pytest

from ipsecd.errors import InvalidInput
from ipsecd.language.protocols import format_protocol, parse_protocol
from ipsecd.model.values import ICMP


@pytest.mark.parametrize("number", range(256))
def test_every_number_reads_back_from_its_text(number: int) -> None:
    """A number is printed by name or as it is, and reads back as that number."""
    assert parse_protocol(format_protocol(number)) == number
    assert parse_protocol(str(number)) == number
    assert parse_protocol(format_protocol(number).lower()) == number


def test_icmp_is_not_number_one() -> None:
    """``ICMP`` is the protocol of either IP version; ``1`` is that number exactly."""
    assert parse_protocol("icmp") is ICMP
    assert format_protocol(ICMP) == "ICMP"
    assert format_protocol(1) == "1"
    assert format_protocol(58) == "ICMPv6"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("TCP", socket.IPPROTO_TCP),
        ("udp", socket.IPPROTO_UDP),
        ("Gre", socket.IPPROTO_GRE),
        ("esp", socket.IPPROTO_ESP),
        ("AH", socket.IPPROTO_AH),
        ("sctp", socket.IPPROTO_SCTP),
        ("igmp", socket.IPPROTO_IGMP),
        ("IPIP", 4),
        ("dccp", 33),
        ("rsvp", 46),
        ("ospf", 89),
        ("pim", 103),
        ("vrrp", 112),
        ("udplite", 136),
        ("raw", 255),
    ],
)
def test_names_are_those_of_the_kernel(name: str, number: int) -> None:
    """Names in any letter case give the numbers that the system headers give."""
    assert parse_protocol(name) == number


@pytest.mark.parametrize("text", ["256", "-1", "1.0", "foo", "", "any", "٣"])
def test_what_is_no_protocol_is_refused(text: str) -> None:
    """Numbers above 255 and unknown names are refused, with the text and a hint."""
    with pytest.raises(InvalidInput) as caught:
        parse_protocol(text)
    assert repr(text) in caught.value.message
    assert caught.value.hint
