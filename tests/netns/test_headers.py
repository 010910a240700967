"""Packets whose headers are odd: extension headers, truncated ones, lone fragments, ICMP."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, Conditions, InForce, Origin
from tests.netns import site
from tests.netns.site import HERE4, HERE6, OUTSIDE, PEER4, PEER6, python, run

pytestmark = pytest.mark.netns

DCCP = 33


class Injector:
    """Puts frames on the wire at the peer's end, and counts what passes our hook here."""

    def __init__(self) -> None:
        address = json.loads(run("ip", "-j", "link", "show", "wire0"))[0]["address"]
        self._to = bytes.fromhex(address.replace(":", ""))
        run("nft", "add table inet witness")
        chain = "{ type filter hook prerouting priority -299; }"
        run("nft", f"add chain inet witness watch {chain}")
        run("nft", "add counter inet witness seen")
        run("nft", "add rule inet witness watch iif wire0 meta pkttype host counter name seen")

    def passes(self, packet: bytes) -> bool:
        """Whether one packet, from its IP header on, is let through."""
        before = self._seen()
        kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
        code = (
            "import socket\n"
            "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
            "s.bind(('wire1', 0))\n"
            f"s.send({self._to + bytes(6) + kind + packet!r})\n"
        )
        run(*python(OUTSIDE, code))
        return self._seen() > before

    def _seen(self) -> int:
        listed = json.loads(run("nft", "-j", "list", "counter", "inet", "witness", "seen"))
        return int(listed["nftables"][-1]["counter"]["packets"])


@pytest.fixture
def wire() -> Iterator[Injector]:
    site.needs_isolation()
    with site.wire():
        yield Injector()
        run("nft", "delete table inet witness")


@pytest.fixture
def backend() -> Iterator[NftablesBackend]:
    nftables = NftablesBackend()
    yield nftables
    nftables.remove()
    nftables.close()


def block(backend: NftablesBackend, *texts: str, drop: bool = True) -> None:
    origin = Origin("static", "P", "R")
    filters = [InForce(origin, parse_filter(text), Action.BLOCK) for text in texts]
    backend.apply(compile_filters(filters, drop_unparsable=drop), Volatile())


def udp(port: int) -> bytes:
    return struct.pack(">HHHH", 4000, port, 28, 0) + bytes(20)


def ipv4(payload: bytes, protocol: int = 17, *, offset: int = 0, more: bool = False) -> bytes:
    addresses = socket.inet_aton(PEER4) + socket.inet_aton(HERE4)
    flags = offset >> 3 | (0x2000 if more else 0)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 7, flags, 64, protocol, 0)
    total = sum(struct.unpack(">10H", head + addresses))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~total & 0xFFFF) + addresses + payload


def ipv6(payload: bytes, protocol: int = 17, *extensions: int) -> bytes:
    """A packet with extension headers of the given numbers, eight bytes each."""
    for number in reversed(extensions):
        body = bytes((protocol, 0, 1, 4)) + bytes(4)
        if number == 44:
            body = struct.pack(">BBHI", protocol, 0, 0, 9)
        payload, protocol = body + payload, number
    addresses = socket.inet_pton(10, PEER6) + socket.inet_pton(10, HERE6)
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + addresses + payload


@pytest.mark.parametrize("extensions", [(), (0,), (60,), (0, 60), (43, 60), (44,), (0, 43, 44, 60)])
def test_extension_headers_are_seen_through(
    wire: Injector, backend: NftablesBackend, extensions: tuple[int, ...]
) -> None:
    """The port behind a chain of extension headers is the port that filters see."""
    assert wire.passes(ipv6(udp(1434), 17, *extensions))
    block(backend, "*=0:1434:UDP")
    assert not wire.passes(ipv6(udp(1434), 17, *extensions))
    assert wire.passes(ipv6(udp(1435), 17, *extensions))


def test_a_packet_that_ends_before_its_ports_is_dropped_and_counted(
    wire: Injector, backend: NftablesBackend
) -> None:
    """While anything is blocked, what cannot be read does not pass; by configuration it does."""
    cut = [ipv4(b"\x0f\xa0\x05"), ipv6(b"\x0f\xa0\x05"), ipv6(b"", 17, 0)]
    cut += [ipv4(b"\x08\0\0", 1), ipv4(b"", 1), ipv6(b"\x80", 58), ipv6(b"\x80\0", 58, 60)]
    assert all(wire.passes(packet) for packet in cut)
    block(backend, "*=0:9:TCP")
    assert not any(wire.passes(packet) for packet in cut)
    assert backend.unparsable() == 7
    block(backend, "*=0:9:TCP", drop=False)
    assert all(wire.passes(packet) for packet in cut)


def test_what_cannot_be_read_is_dropped_whatever_is_blocked(
    wire: Injector, backend: NftablesBackend
) -> None:
    """A block of one address of one IP version is enough, for packets of both."""
    cut = [ipv4(b"\x0f\xa0\x05"), ipv6(b"\x0f\xa0\x05")]
    block(backend, "1.2.3.4=0:80:TCP")
    assert not any(wire.passes(packet) for packet in cut)


def test_what_cannot_be_read_is_dropped_though_it_belongs_to_a_connection(
    wire: Injector, backend: NftablesBackend
) -> None:
    """Connections pass at once where all rules are for what opens one: if they can be read.

    Kernels that do not read the ports of DCCP take what ends before them for part of a connection.
    """
    origin, opening = Origin("static", "P", "R"), Conditions(opening=True)
    rule = InForce(origin, parse_filter("*=0:9:TCP"), Action.BLOCK, opening)
    backend.apply(compile_filters([rule]), Volatile())
    assert wire.passes(ipv4(bytes(8), DCCP))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, DCCP) as sock:
        sock.sendto(bytes(8), (PEER4, 0))
    assert backend.unparsable() == 0
    wire.passes(ipv4(bytes(3), DCCP))
    assert backend.unparsable() == 1


@pytest.mark.usefixtures("wire")
def test_what_this_host_sends_is_dropped_if_it_cannot_be_read(backend: NftablesBackend) -> None:
    """Also where no rule is for what is sent, so that all else passes by one rule."""
    block(backend, "*=0:9:TCP")
    for family, peer in ((socket.AF_INET, PEER4), (socket.AF_INET6, PEER6)):
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP) as sock:
            sock.sendto(bytes(8), (peer, 0))
            with pytest.raises(PermissionError):
                sock.sendto(bytes(3), (peer, 0))
    assert backend.unparsable() == 2


def test_a_later_fragment_has_no_ports(wire: Injector, backend: NftablesBackend) -> None:
    """What lies where ports would be is never taken for them; a filter without ports matches."""
    later = ipv4(udp(1434), offset=1480)
    block(backend, "*=0:1434:UDP")
    assert wire.passes(later)
    assert not wire.passes(ipv4(udp(1434), more=True))
    block(backend, "*=0::UDP")
    assert not wire.passes(later)
    block(backend, "*=0::TCP")
    assert wire.passes(later)


@pytest.mark.parametrize("following", [0, 43, 51, 60])
def test_a_later_fragment_may_have_its_headers_in_the_first(
    wire: Injector, backend: NftablesBackend, following: int
) -> None:
    """So it is read, and what matches it is a filter with neither ports nor a protocol."""
    later = ipv6(struct.pack(">BBHI", following, 0, 1448, 9) + udp(1434), 44)
    cut = ipv6(struct.pack(">BBHI", following, 0, 0, 9) + b"\x11", 44)
    block(backend, "*=0:1434:UDP")
    assert wire.passes(later)
    assert not wire.passes(cut)
    assert backend.unparsable() == 1
    block(backend, "*=0::UDP", "*=0::TCP")
    assert wire.passes(later)
    block(backend, "*=0")
    assert not wire.passes(later)
    assert backend.unparsable() == 1


def test_icmp_is_the_protocol_of_either_ip_version(
    wire: Injector, backend: NftablesBackend
) -> None:
    """``ICMP`` blocks ICMP and ICMPv6; a number blocks exactly that number."""
    echo4, echo6 = ipv4(b"\x08\0" + bytes(6), 1), ipv6(b"\x80\0" + bytes(6), 58)
    block(backend, "*=0::ICMP")
    assert not wire.passes(echo4)
    assert not wire.passes(echo6)
    block(backend, "*=0::1")
    assert not wire.passes(echo4)
    assert wire.passes(echo6)
    block(backend, "*=0::58")
    assert wire.passes(echo4)
    assert not wire.passes(echo6)


def test_types_and_codes_of_icmp(wire: Injector, backend: NftablesBackend) -> None:
    """A filter for a type lets others pass, and so does one for a code; fragments have neither."""
    echo4, echo6 = ipv4(b"\x08\0" + bytes(6), 1), ipv6(b"\x80\0" + bytes(6), 58, 0, 60)
    block(backend, "*=0::ICMP/echo-request")
    assert not wire.passes(echo4)
    assert not wire.passes(echo6)
    assert wire.passes(ipv4(b"\0\0" + bytes(6), 1))
    assert wire.passes(ipv6(b"\x81\0" + bytes(6), 58))
    assert wire.passes(ipv4(b"\x08\0" + bytes(6), 253))
    block(backend, "*=0::ICMP/3/4", "*=0::ICMPv6/200")
    assert not wire.passes(ipv4(b"\x03\x04" + bytes(6), 1))
    assert wire.passes(ipv4(b"\x03\x01" + bytes(6), 1))
    assert not wire.passes(ipv6(b"\xc8\x07" + bytes(6), 58))
    assert wire.passes(ipv6(b"\x01\x04" + bytes(6), 58))


def test_link_local_and_multicast_destinations_are_this_host(
    wire: Injector, backend: NftablesBackend
) -> None:
    """``me`` as a destination is every address that is delivered here, link-local ones too.

    A tentative address is not yet: the kernel delivers nothing to it (RFC 4862, section 5.4).
    """
    while "tentative" in run("ip", "-6", "address", "show", "dev", "wire0"):
        time.sleep(0.1)
    links = json.loads(run("ip", "-j", "-6", "address", "show", "dev", "wire0", "scope", "link"))
    local = next(
        address["local"] for link in links for address in link.get("addr_info", []) if address
    )
    source = socket.inet_pton(10, "fe80::66")
    for text in (local, "ff02::1", HERE6):
        head = struct.pack(">IHBB", 6 << 28, 28, 17, 64)
        packet = head + source + socket.inet_pton(10, text) + udp(1434)
        block(backend)
        assert wire.passes(packet)
        block(backend, "*=0:1434:UDP")
        assert not wire.passes(packet), text
