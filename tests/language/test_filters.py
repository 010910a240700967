"""Filter text: canonical printing, round trips, and errors that point and help."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from ipsecd.errors import InvalidInput
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.addresses import Keyword
from ipsecd.model.values import Filter
from tests.strategies import filters, wide_filters

GOLDEN = {
    "*=0:1434:UDP": "*=0:1434:UDP",
    " * = 0 : 1434 : udp ": "*=0:1434:UDP",
    "*=0: 1434: UDP": "*=0:1434:UDP",
    "0=*:1434:UDP": "0=*:1434:UDP",
    "*+0:135:tcp": "*+0:135:TCP",
    "0+*": "0+*",
    "*+0": "*+0",
    "*=0::icmp": "*=0::ICMP",
    "0:80+*::TCP": "0:80+*::TCP",
    "0:53+*::UDP": "0:53+*::UDP",
    "0+*:110:TCP": "0+*:110:TCP",
    "*=0:0:*": "*=0",
    "*:*=0:*:TCP": "*=0::TCP",
    "*:=0:": "*=0",
    "*=0::0": "*=0::HOPOPT",
    "*=0::1": "*=0::1",
    "*=0::icmp/Echo-Request": "*=0::ICMP/echo-request",
    "*=0::ICMP/ping": "*=0::ICMP/echo-request",
    "*=0::ICMP/8": "*=0::ICMP/8",
    "*=0::ICMP/3/4": "*=0::ICMP/3/4",
    "*=0::1/8/0": "*=0::1/echo-request/0",
    "*=0::58/128": "*=0::ICMPv6/echo-request",
    "*=0::icmpv6/2": "*=0::ICMPv6/packet-too-big",
    "*=0::ICMP/packet-too-big": "*=0::ICMP/packet-too-big",
    "*=0::ICMPv6/200/7": "*=0::ICMPv6/200/7",
    "*=cafe:*:1/8": "*=cafe:*:1/echo-request",
    "*=0::58": "*=0::ICMPv6",
    "*=0::ipv6-icmp": "*=0::ICMPv6",
    "*=0::47": "*=0::GRE",
    "*=0::99": "*=0::99",
    "*=0::raw": "*=0::RAW",
    "*=0:7:sctp": "*=0:7:SCTP",
    "*=0:80": "*=0:80",
    "10.1.*.*=0": "10.1.0.0/16=0",
    "*.*.*.*=0": "0.0.0.0/0=0",
    "0.0.0.0/0=0": "0.0.0.0/0=0",
    "[::]/0=0": "[::]/0=0",
    "192.168.1.5/255.255.255.255=0": "192.168.1.5=0",
    "192.168.1.5+192.168.1.0/255.255.255.0": "192.168.1.5+192.168.1.0/24",
    "*=0:443,80:tcp": "*=0:80,443:TCP",
    "*=0:80,80:tcp": "*=0:80:TCP",
    "*=0:1000-1999:tcp": "*=0:1000-1999:TCP",
    "*=0:7-7:tcp": "*=0:7:TCP",
    "[2001:db8:0::]/64=0": "[2001:db8::]/64=0",
    "[2001:db8::/64]=0": "[2001:db8::]/64=0",
    "[2001:DB8:0:0:0:0:0:1]:443=0": "[2001:db8::1]:443=0",
    "[2001:db8:0:1:0:0:0:1]=0": "[2001:db8:0:1::1]=0",
    "[2001:db8:0:1:1:1:1:1]=0": "[2001:db8:0:1:1:1:1:1]=0",
    "*=[2001:db8::1]:443:TCP": "*=[2001:db8::1]:443:TCP",
    "*=Www.Example.COM:80:TCP": "*=www.example.com:80:TCP",
    "*=cafe:*:99": "*=cafe:*:99",
    " @drop = 0 ": "@drop=0",
    "0=@drop": "0=@drop",
    "@office+0:22:tcp": "@office+0:22:TCP",
    "@A.b_c-9=@b": "@A.b_c-9=@b",
    "@cafe=@cafe::99": "@cafe=@cafe::99",
}


@pytest.mark.parametrize(("text", "canonical"), GOLDEN.items())
def test_text_is_printed_canonically(text: str, canonical: str) -> None:
    """Every way to write a filter is printed in one way, which reads back as the same."""
    assert format_filter(parse_filter(text)) == canonical
    assert parse_filter(canonical) == parse_filter(text)


REFUSED = [
    ("@=0", 0, "'@' cannot name a list", "write @NAME"),
    ("@a b=0", 0, "'@a b' cannot name a list", "write @NAME"),
    ("*=@-a", 2, "'@-a' cannot name a list", "write @NAME"),
    ("*=@../a", 2, "'@../a' cannot name a list", "write @NAME"),
    (f"*=@{'a' * 65}:80:TCP", 2, "cannot name a list", "at most 64"),
    ("", 0, "no '=' or '+'", "SOURCE=DESTINATION"),
    ("*:0", 3, "no '=' or '+'", "SOURCE=DESTINATION"),
    ("*=0=*", 3, "more than one '=' or '+'", "one filter"),
    ("=0", 0, "the source has no address", "0 for this host"),
    ("*=:80:TCP", 2, "the destination has no address", "* for any"),
    ("*0=: 80: TCP", 0, "'*0'", "0=*:port:protocol"),
    ("*0=:PortNumber:Protocol", 0, "'*0'", "0=*:port:protocol"),
    ("0:80:TCP+*", 5, "one field too many", "far right"),
    ("*=0:80:TCP:x", 11, "'x' is one field too many", "brackets"),
    ("*=0:1434:XYZ", 9, "'XYZ' is not a known protocol", "number"),
    ("*=0:1434:UPD", 9, "'UPD' is not a known protocol", "did you mean UDP?"),
    (
        "*=0::ICMP/echo-reqest",
        10,
        "'echo-reqest' is not a type of ICMP",
        "did you mean echo-request?",
    ),
    ("*=0::ICMP/256", 10, "'256' is not a type of ICMP", "from 0 to 255"),
    ("*=0::ICMP/3/x", 10, "'x' is not a code of ICMP", "ICMP/3"),
    ("*=0::TCP/80", 9, "'TCP' has no types", "a port stands before"),
    ("10.0.0.1=0::ICMP/packet-too-big", 12, "neither IPv4 nor IPv6", "type of ICMP"),
    ("*=0::1/packet-too-big", 5, "has no such message", ""),
    ("*=0:80:256", 7, "'256' is not between 0 and 255", "before the protocol"),
    ("*=0:70000:TCP", 4, "70000 is not between 1 and 65535", "any port"),
    ("*=0:999999:TCP", 4, "'999999' is not between 1 and 65535", "any port"),
    ("*=0:80,0:TCP", 7, "port 0", "any port"),
    ("*=0:9-5:TCP", 4, "ends before it begins", "5-9"),
    ("*=0:80-90,85:TCP", 4, "overlap", "once"),
    ("*=0:http:TCP", 4, "'http' is not a port", "services"),
    ("*=0:80, x y:TCP", 8, "'x y' is not a port", "number"),
    ("*=0:UDP", 4, "'UDP' is not a port", "*=0::UDP"),
    ("*=0:80,:TCP", 7, "'' is not a port", "list"),
    ("*=0:²:TCP", 4, "'²' is not a port", "number"),
    ("*=0:80:ICMP", 7, "has no ports", "*=0::ICMP"),
    ("*=0:80:GRE", 7, "has no ports", "TCP, UDP"),
    ("10.0.0.1/255.0.255.0=0", 9, "has gaps", "255.255.255.0"),
    ("192.168.1.5/255.255.255.0=0", 0, "beyond its mask", "192.168.1.0/24"),
    ("10.0.0.0/33=0", 9, "'33'", "0 to 32"),
    ("10.0.0.0/=0", 9, "''", "0 to 32"),
    ("0/8=*", 1, "cannot follow '0'", "0.0.0.0/0"),
    ("10.*.1.*=0", 3, "after a wildcard", "10.1.*.*"),
    ("10.*=0", 0, "'10.*' is not an address", "10.1.*.*"),
    ("10.01.2.3=0", 0, "'10.01.2.3' is not an IPv4 address", "leading zeros"),
    ("1.2.3=0", 0, "'1.2.3' is not an IPv4 address", "four numbers"),
    ("2001:db8::1=0", 0, "not in brackets", "[2001:db8::1]"),
    ("::1=0", 0, "not in brackets", "[::1]"),
    ("0=fe80::1", 2, "not in brackets", "[fe80::1]"),
    ("*=fe80::/64", 2, "not in brackets", "[fe80::/64]"),
    ("[::1=0", 0, "not closed", "[2001:db8::1]"),
    ("[fe80::1%eth0]=0", 1, "not an IPv6 address", "leave the interface"),
    ("[10.0.0.1]=0", 1, "not an IPv6 address", "write 10.0.0.1"),
    ("[::ffff:10.0.0.1]=0", 1, "IPv4-mapped", "write 10.0.0.1"),
    ("[::1]/64/3=0", 6, "'64/3'", "0 to 128"),
    ("me=*", 0, "'me' is not an address", "write 0 for this host"),
    ("any=0", 0, "'any' is not an address", "write * for any"),
    ("a_b=0", 0, "'a_b' is not an address", "DNS name"),
    ("-a=0", 0, "'-a' is not an address", "DNS name"),
    ("10.0.0.1=[::1]", 9, "packets: '10.0.0.1=[::1]'", "one IP version"),
    (" [*=0:80:TCP]", 1, "'[*=0:80:TCP]' is in brackets", "the filter alone"),
    ("(0:80+*::TCP)", 0, "'(0:80+*::TCP)' is in brackets", "the filter alone"),
    ("[0:80+*::TCP]", 0, "'[0:80+*::TCP]' is in brackets", "the filter alone"),
    ("[0=[::1]]", 0, "is in brackets", "the filter alone"),
    ("*=0:80:TCP]", 10, "not open", "the filter alone"),
    ("*=0 )", 4, "not open", "the filter alone"),
]


@pytest.mark.parametrize(("text", "position", "what", "hint"), REFUSED)
def test_an_error_points_says_why_and_what_to_do(
    text: str, position: int, what: str, hint: str
) -> None:
    """A filter that cannot be read is refused at a place, with a reason and a remedy."""
    with pytest.raises(InvalidInput) as caught:
        parse_filter(text)
    assert (caught.value.source, caught.value.position) == (text, position)
    assert what in caught.value.message
    assert hint in caught.value.hint


@settings(max_examples=500, deadline=None)
@given(filters(names=True))
def test_a_small_filter_that_is_printed_reads_back(flt: Filter) -> None:
    """parse(format(x)) == x over the filters that other tests compile."""
    assert parse_filter(format_filter(flt)) == flt


@settings(max_examples=1000, deadline=None)
@given(wide_filters())
def test_any_filter_that_is_printed_reads_back(flt: Filter) -> None:
    """parse(format(x)) == x over all addresses, prefixes, port lists and protocols."""
    text = format_filter(flt)
    assert parse_filter(text) == flt
    assert format_filter(parse_filter(text)) == text


def test_any_address_is_not_any_ipv4_address() -> None:
    """``*`` is both IP versions; ``0.0.0.0/0`` and ``[::]/0`` are one each."""
    everything = [parse_filter(text) for text in ("*=0", "0.0.0.0/0=0", "[::]/0=0")]
    assert everything[0].source.address is Keyword.ANY
    assert len({flt.families for flt in everything}) == 3
