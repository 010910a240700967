"""Fuzz target: any text is a packet that a host sees, or ``InvalidInput``."""

from __future__ import annotations

from ipsecd.errors import InvalidInput
from ipsecd.language.packets import format_packet, parse_packet
from ipsecd.language.seen import to_packet
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Host
from ipsecd.model.values import InterfaceType
from tests.fuzz.running import fuzz

HOST = Host(frozenset({(Family.IPV4, 0x0A000001)}))
LINKS = {"eth0": InterfaceType.LAN, "ppp0": InterfaceType.DIALUP, "lo": None}
SEEDS = (
    b"udp 203.0.113.7:4000 > me:1434",
    b"tcp [2001:db8::1]:443 > [fd09::2]:5000",
    b"icmp 10.0.0.1 > 10.0.0.2",
    b"icmp/echo-request 10.0.0.1 > me",
    b"icmpv6/3/4 ::1 > fe80::1",
    b"47 10.0.0.1 > me",
    b"udp me > 10.0.0.2 fragment out ppp0",
    b"icmp ::1 > fe80::1 in lo",
    b"sctp 0:0 > me:65535 in eth0",
    b"icmp me > me in none",
    b"tcp 10.0.0.2 > me:22 opening",
    b"udp me > 10.0.0.2:53 out ppp0 reply",
    b"icmp me > 10.0.0.2 by service:a.service established",
    b"> > >",
    b"tcp []:1 > [:]:1",
    b"\xff\xfe\x00",
)


def fuzz_one(data: bytes) -> None:
    """Read `data` as a packet, and see it from a host without IPv6."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        packet = to_packet(parse_packet(text), HOST, LINKS)
    except InvalidInput as error:
        check(error, text)
        return
    again = to_packet(parse_packet(format_packet(packet)), HOST, LINKS)
    assert format_packet(again) == format_packet(packet)


def check(error: InvalidInput, text: str) -> None:
    """An error is about the text, and points into it."""
    assert error.source == text
    assert 0 <= error.position <= len(text)
    assert error.message


if __name__ == "__main__":
    fuzz(fuzz_one)
