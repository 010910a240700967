"""What programs look at before the exempt patterns hides no pattern from an exempt packet."""

from __future__ import annotations

from itertools import product

import pytest

from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.patterns import exempt_words, patterns_at
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import BROADCAST as ALL_BROADCAST
from ipsecd.model.exemptions import (
    BY_NAME,
    DHCP_CLIENT,
    ESSENTIALS,
    IKE,
    KERBEROS,
    Exemption,
    Pattern,
)
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import TCP, UDP, Action, InForce, Origin
from tests.frames import frame
from tests.netns.site import needs_isolation
from tests.strategies import BROADCAST, HOST, ME, MULTICAST, OTHERS

PORTS = (0, 4, 67, 68, 88, 132, 500, 546, 547, 4000, 4500)
WORDS = {UDP: abi.EXEMPT_UDP, TCP: abi.EXEMPT_TCP}
ICMP = {Family.IPV4: 1, Family.IPV6: 58}
RSVP = 46
XDP_DROP, XDP_PASS = 1, 2


def patterns_of(exemptions: tuple[Exemption, ...], point: Point, family: Family) -> list[Pattern]:
    """The patterns at a point."""
    return patterns_at((p for each in exemptions for p in each.patterns), point, family)


def may_be_exempt(words: list[int], packet: Packet) -> bool:
    """What the programs read out of the words."""
    port = packet.destination_port or packet.message or 0
    word = words[WORDS.get(packet.protocol, abi.EXEMPT_OTHER)]
    return bool(word >> port % abi.EXEMPT_BITS & 1)


def packets_of(point: Point, family: Family) -> list[Packet]:
    """Packets of which every exemption has some."""
    source, ends = OTHERS[family][0], [ME[family], MULTICAST[family]]
    if family is Family.IPV4:
        ends.append(BROADCAST)
    made = []
    for destination in ends:
        common = (point, family, source, destination)
        for protocol, sport, dport in product((TCP, UDP), PORTS, PORTS):
            made.append(Packet(*common, protocol, sport, dport))
        for kind, code, hops in product(range(256), (0, 4, 5), (1, 255)):
            made.append(
                Packet(*common, ICMP[family], icmp_type=kind, icmp_code=code, hop_limit=hops)
            )
        made += [Packet(*common, protocol, later_fragment=True) for protocol in (TCP, UDP, RSVP)]
        made.append(Packet(*common, RSVP))
    return made


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("point", Point)
def test_every_exempt_packet_meets_the_patterns(point: Point, family: Family) -> None:
    """For each exemption that can be in force; each has packets."""
    packets = packets_of(point, family)
    for exemption in BY_NAME.values():
        patterns = patterns_of((exemption,), point, family)
        words = exempt_words(patterns)
        exempt = [p for p in packets if any(each.matches(p, HOST) for each in patterns)]
        has_none = not patterns or (exemption is ALL_BROADCAST and family is Family.IPV6)
        assert bool(exempt) != has_none, exemption
        assert all(may_be_exempt(words, packet) for packet in exempt), exemption


@pytest.mark.netns
@pytest.mark.parametrize("family", Family)
def test_the_programs_read_the_words_as_they_were_written(family: Family) -> None:
    """With all blocked, what is exempt passes, and what has a bit in common with it does not."""
    needs_isolation()
    programs = Programs()
    try:
        programs.set_host(HOST)
        block = InForce(Origin("static", "P", "r"), parse_filter("*=*"), Action.BLOCK)
        judge = programs.program("receive_lan")
        sent = [p for p in packets_of(Point.ARRIVING, family) if p.protocol in WORDS]
        for exemption in (DHCP_CLIENT, IKE, KERBEROS):
            programs.apply(compile_filters([block], [exemption.name]), Volatile())
            passed = 0
            for packet in sent:
                verdict, _ = libbpf.run_program(judge, frame(packet, 1))
                is_exempt = any(each.matches(packet, HOST) for each in exemption.patterns)
                assert verdict == (XDP_PASS if is_exempt else XDP_DROP), packet
                passed += is_exempt
            assert 0 < passed < len(sent)
    finally:
        programs.close()


def test_most_ports_are_spared_the_patterns() -> None:
    """Of what is always exempt only DHCP has ports, and it has one bit of 64."""
    words = exempt_words(patterns_of(ESSENTIALS, Point.ARRIVING, Family.IPV4))
    assert words == [1 << 68 % 64, 0, 1 << 4]
    words = exempt_words(patterns_of(ESSENTIALS, Point.ARRIVING, Family.IPV6))
    assert words == [1 << 546 % 64, 0, (1 << 64) - 1]
