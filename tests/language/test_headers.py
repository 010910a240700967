"""Headers are read from bytes as the programs in the kernel read them."""

from __future__ import annotations

import random

import pytest

from ipsecd.language.headers import read_packet
from ipsecd.model.packets import Point
from ipsecd.model.values import InterfaceType
from tests.xdp.reference_parser import Seen, read_bare
from tests.xdp.test_parser import CHAINS, PACKETS, UDP, ipv4, ipv6


def seen(data: bytes) -> Seen | None:
    """What is read, in the words of the reference; None where it cannot be read."""
    read = read_packet(data, Point.ARRIVING, "eth0", InterfaceType.LAN)
    if read is None or not read.packet.parsed:
        return None
    packet = read.packet
    message = None if packet.icmp_type is None else (packet.icmp_type, packet.icmp_code)
    return Seen(
        packet.family,
        packet.source,
        packet.destination,
        packet.protocol,
        packet.source_port,
        packet.destination_port,
        packet.later_fragment,
        message,
    )


def agree(data: bytes) -> None:
    expected = read_bare(data)
    assert seen(data) == (expected if isinstance(expected, Seen) else None), data.hex()


@pytest.mark.parametrize("name", PACKETS)
def test_the_corpus_is_read_as_the_reference_reads_it(name: str) -> None:
    """Every packet, and every beginning of it."""
    for end in range(min(len(PACKETS[name]), 400) + 1):
        agree(PACKETS[name][:end])
    agree(PACKETS[name])


@pytest.mark.parametrize("kinds", CHAINS, ids=str)
def test_chains_of_headers(kinds: tuple[int, ...]) -> None:
    """Up to eight are seen through."""
    agree(ipv6(UDP, kinds=kinds))


def test_damaged_packets() -> None:
    """Bytes at random places are replaced: it is read alike, and raises nothing."""
    chance = random.Random(7)
    for packet in list(PACKETS.values()) * 40:
        data = bytearray(packet[:200])
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        agree(bytes(data))


@pytest.mark.parametrize(
    ("bits", "letters"), [(0x02, "S"), (0x12, "SA"), (0x04, "R"), (0xFF, "SAFRPUEC"), (0, "")]
)
def test_flags_of_tcp(bits: int, letters: str) -> None:
    """Those that are set, and none where they are missing or it is not TCP."""
    header = UDP[:8] + bytes(5) + bytes((bits,)) + bytes(6)
    for packet, expected in (
        (ipv4(header, 6), letters),
        (ipv6(header, 6), letters),
        (ipv4(header, 17), ""),
        (ipv4(UDP[:4], 6), ""),
    ):
        read = read_packet(packet, Point.ARRIVING, "", None)
        assert read is not None
        assert read.flags == expected
