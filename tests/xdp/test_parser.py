"""The programs read a frame as the reference does: a corpus, and random changes to it."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

from ipsecd.backend.xdp import abi
from tests.netns.site import needs_isolation
from tests.xdp.observer import Observer, takes
from tests.xdp.reference_parser import Seen, read_bare, read_frame

pytestmark = [pytest.mark.netns, pytest.mark.timeout(280)]

HOOKS = ("receive", "arrive", "leave")
SOURCE4, HERE4 = bytes((203, 0, 113, 7)), bytes((10, 9, 0, 1))
SOURCE6 = bytes.fromhex("20010db8000000000000000000000007")
HERE6 = bytes.fromhex("fd090000000000000000000000000001")
UDP = struct.pack(">HHHH", 4000, 1434, 12, 0) + b"worm"
INNER = struct.pack(">HHHH", 53, 53, 12, 0) + b"data"


def ethernet(payload: bytes, kind: int = 0x0800, tags: tuple[int, ...] = ()) -> bytes:
    # To the hardware address of the loopback interface, on which test runs are.
    head = bytes(12)
    for tag in tags:
        head += struct.pack(">HH", tag, 7)
    return head + struct.pack(">H", kind) + payload


def ipv4(
    payload: bytes,
    protocol: int = 17,
    *,
    options: bytes = b"",
    fragment: int = 0,
    length: int | None = None,
    first: int | None = None,
) -> bytes:
    header = 20 + len(options)
    return (
        struct.pack(
            ">BBHHHBBH4s4s",
            0x40 | header // 4 if first is None else first,
            0,
            header + len(payload) if length is None else length,
            1,
            fragment,
            64,
            protocol,
            0,
            SOURCE4,
            HERE4,
        )
        + options
        + payload
    )


def extension(kind: int, following: int, words: int = 0, fragment: int = 0) -> bytes:
    if kind == 44:
        return struct.pack(">BBHI", following, 0, fragment, 1)
    size = 4 * (words + 2) if kind == 51 else 8 * (words + 1)
    return bytes((following, words)) + bytes(max(size, 8) - 2)


def ipv6(
    payload: bytes,
    protocol: int = 17,
    kinds: tuple[int, ...] = (),
    *,
    fragment: int = 0,
    words: int = 0,
    length: int | None = None,
) -> bytes:
    chain = b""
    for kind, following in zip(kinds, (*kinds, protocol)[1:], strict=True):
        # An authentication header is never shorter than eight bytes, so it has a word at least.
        count = max(words, 1) if kind == 51 else words
        chain += extension(kind, following, count, fragment)
    body = chain + payload
    size = len(body) if length is None else length
    first = kinds[0] if kinds else protocol
    return struct.pack(">IHBB16s16s", 6 << 28, size, first, 64, SOURCE6, HERE6) + body


CHAINS = [
    tuple(kinds[n % len(kinds)] for n in range(length))
    for length in range(13)
    for kinds in ((60,), (0, 43, 60), (0, 60, 43, 51), (51,))
]
PACKETS = {
    "udp": ipv4(UDP),
    "udp in ipv6": ipv6(UDP),
    "ipv4 options": ipv4(UDP, options=b"\x94\x04\0\0" * 3),
    "all ipv4 options": ipv4(UDP, options=bytes(40)),
    "first fragment": ipv4(UDP, fragment=0x2000),
    "later fragment": ipv4(UDP, fragment=0x2003),
    "last fragment": ipv4(UDP, fragment=3),
    "first fragment of ipv6": ipv6(UDP, kinds=(44,), fragment=1),
    "atomic fragment of ipv6": ipv6(UDP, kinds=(44,)),
    "later fragment of ipv6": ipv6(UDP, kinds=(44,), fragment=8),
    "later fragment that begins with a header": ipv6(UDP, kinds=(44, 60), fragment=8),
    "tcp": ipv4(UDP + bytes(12), 6),
    "sctp": ipv4(UDP, 132),
    "dccp": ipv6(UDP, 33),
    "udp-lite": ipv4(UDP, 136),
    "icmp": ipv4(b"\x08\0" + bytes(6), 1),
    "icmpv6": ipv6(b"\x80\0" + bytes(6), 58),
    "icmp with a code": ipv4(b"\x03\x04" + bytes(6), 1),
    "icmpv6 behind headers": ipv6(b"\x01\x03" + bytes(6), 58, (0, 60)),
    "short icmp": ipv4(b"\x08\0\0", 1),
    "short icmpv6": ipv6(b"\x80\0\0", 58),
    "empty icmp": ipv4(b"", 1),
    "later fragment of icmp": ipv4(b"\x08", 1, fragment=3),
    "icmp in ipv6": ipv6(b"\x08", 1),
    "icmpv6 in ipv4": ipv4(b"\x80", 58),
    "gre": ipv4(UDP, 47),
    "esp": ipv6(UDP, 50),
    "no next header": ipv6(b"", 59),
    "ipv4 in ipv6": ipv6(ipv4(INNER), 4),
    "ipv6 in ipv4": ipv4(ipv6(INNER), 41),
    "ipv4 in ipv4": ipv4(ipv4(INNER), 4),
    "length of zero": ipv4(UDP, length=0),
    "length of zero in ipv6": ipv6(UDP, length=0),
    "jumbogram": ipv6(UDP, kinds=(0,), length=0),
    "header too short": ipv4(UDP, first=0x44),
    "wrong version": ipv4(UDP, first=0x55),
    "length below the header": ipv4(UDP, length=19),
    "ports beyond the length": ipv4(UDP, length=22),
    "ports beyond the length of ipv6": ipv6(UDP, length=3),
    "long extension headers": ipv6(UDP, kinds=(0, 60), words=60),
    "jumbo frame": ipv4(UDP + bytes(3000)),
}
EXPECTED = {
    "length of zero in ipv6": "transport-truncated",
    "header too short": "network-invalid",
    "wrong version": "network-invalid",
    "length below the header": "network-invalid",
    "short icmp": "transport-truncated",
    "short icmpv6": "transport-truncated",
    "empty icmp": "transport-truncated",
    "ports beyond the length": "transport-truncated",
    "ports beyond the length of ipv6": "transport-truncated",
}
"""By hand, what the reference must say too; everything else is parsed."""


@pytest.fixture(scope="module")
def observer() -> Iterator[Observer]:
    needs_isolation()
    watching = Observer()
    yield watching
    watching.close()


def agree(observer: Observer, frame: bytes, *, bare: bool = False) -> Seen | str:
    """What the reference reads, after every program was seen to read the same."""
    wanted = read_bare(frame) if bare else read_frame(frame)
    for hook in HOOKS:
        if not takes(hook, frame):
            continue
        result = observer.result(hook, frame, bare=bare)
        assert result == (wanted if isinstance(wanted, str) else "parsed"), (hook, frame.hex())
        if isinstance(wanted, Seen):
            assert observer.sees(hook, frame, wanted, bare=bare), (hook, wanted, frame.hex())
    return wanted


def kind_of(packet: bytes) -> int:
    return 0x86DD if packet[0] >> 4 == 6 else 0x0800


@pytest.mark.parametrize("name", PACKETS)
@pytest.mark.parametrize("tags", [(), (0x8100,), (0x88A8, 0x8100)])
def test_the_corpus(observer: Observer, name: str, tags: tuple[int, ...]) -> None:
    """Every packet, untagged, in a VLAN, and in a VLAN in a VLAN."""
    result = agree(observer, ethernet(PACKETS[name], kind_of(PACKETS[name]), tags))
    expected = EXPECTED.get(name)
    assert result == expected if expected else isinstance(result, Seen)


@pytest.mark.parametrize("name", PACKETS)
def test_the_corpus_without_a_link_header(observer: Observer, name: str) -> None:
    """Every packet as a tunnel delivers it."""
    result = agree(observer, PACKETS[name], bare=True)
    if name == "wrong version":
        assert result == "not-ip"
    else:
        assert result == EXPECTED.get(name, result)


@pytest.mark.parametrize("kinds", CHAINS, ids=str)
def test_chains_of_extension_headers(observer: Observer, kinds: tuple[int, ...]) -> None:
    """Up to eight are seen through, and what has more is unreadable."""
    result = agree(observer, ethernet(ipv6(UDP, kinds=kinds), 0x86DD))
    if len(kinds) > 8:
        assert result == "too-many-headers"
    else:
        assert isinstance(result, Seen)
        assert (result.source_port, result.destination_port) == (4000, 1434)


@pytest.mark.parametrize(
    "name",
    [
        "udp",
        "ipv4 options",
        "udp in ipv6",
        "atomic fragment of ipv6",
        "later fragment",
        "icmp",
        "icmpv6",
    ],
)
@pytest.mark.parametrize("tags", [(), (0x8100,)])
def test_truncation_at_every_byte(observer: Observer, name: str, tags: tuple[int, ...]) -> None:
    """A frame that ends anywhere is read as far as it goes, and never beyond."""
    whole = ethernet(PACKETS[name], kind_of(PACKETS[name]), tags)
    results = {str(agree(observer, whole[:end])) for end in range(14, len(whole) + 1)}
    assert "network-truncated" in results


def test_padding_is_no_part_of_the_packet(observer: Observer) -> None:
    """What fills a short frame up is never read as ports."""
    short = ethernet(ipv4(b"\x0f", length=21) + struct.pack(">HH", 1434, 1434) + bytes(30))
    assert agree(observer, short) == "transport-truncated"


@pytest.mark.parametrize("kind", [0x0806, 0x8847, 0x8864, 0x0100])
def test_what_is_not_ip_passes(observer: Observer, kind: int) -> None:
    """ARP, MPLS, PPPoE and the rest are none of a packet filter's business."""
    frame = ethernet(PACKETS["udp"], kind)
    assert agree(observer, frame) == "not-ip"
    assert not observer.run("receive", frame)


@pytest.mark.parametrize("vlans", [(5, 6, 7), (0, 5, 6), (5, 0, 6), (5, 6, 0), (0, 0, 0)])
def test_a_third_tag(observer: Observer, vlans: tuple[int, ...]) -> None:
    """Of VLANs it is read elsewhere; with VLAN 0, whose tags the stack takes off, unreadable."""
    tags = b"".join(struct.pack(">HH", 0x8100, vlan) for vlan in vlans)
    frame = bytes(12) + tags + struct.pack(">H", 0x0800) + PACKETS["udp"]
    assert agree(observer, frame) == ("too-many-headers" if 0 in vlans else "not-ip")
    assert observer.run("receive", frame) == (0 in vlans)


def test_unreadable_packets_are_dropped_while_anything_is_blocked(observer: Observer) -> None:
    """Each is counted by what was wrong with it."""
    assert observer.run("receive", ethernet(PACKETS["header too short"]))
    assert observer.run("leave", ethernet(PACKETS["ports beyond the length"]))
    assert not observer.run("receive", ethernet(PACKETS["udp"]))


def test_random_changes(observer: Observer) -> None:
    """Thousands of damaged frames are read as the reference reads them."""
    luck = random.Random(1434)
    packets = [*PACKETS.values(), *(ipv6(UDP, kinds=kinds) for kinds in CHAINS)]
    outcomes = set()
    for _ in range(20_000):
        packet = bytearray(luck.choice(packets)[:400])
        for _ in range(luck.randrange(1, 5)):
            at = luck.randrange(min(len(packet), 64))
            packet[at] = luck.choice(
                (luck.randrange(256), 0, 255, 17, 44, 51, 60, packet[at] ^ 1 << luck.randrange(8))
            )
        if luck.random() < 0.3:
            del packet[luck.randrange(len(packet)) :]
        tags = luck.choice(((), (), (0x8100,), (0x88A8, 0x8100)))
        kind = luck.choice((0x0800, 0x86DD, 0x86DD, 0x0806))
        frame = ethernet(bytes(packet), kind, tags)
        if tags and luck.random() < 0.05:
            frame = frame[:15]
        wanted = read_frame(frame)
        hook = luck.choice([hook for hook in HOOKS if takes(hook, frame)])
        result = observer.result(hook, frame)
        assert result == (wanted if isinstance(wanted, str) else "parsed"), frame.hex()
        if isinstance(wanted, Seen):
            assert observer.sees(hook, frame, wanted), (wanted, frame.hex())
        outcomes.add(result)
    assert outcomes == set(abi.PARSE_RESULTS)
