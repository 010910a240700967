"""Packet text: what it says, how a host sees it, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.errors import InvalidInput
from ipsecd.language.packets import format_packet, parse_packet
from ipsecd.language.seen import to_packet
from ipsecd.model.addresses import Family, Network, Process, Selector
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import InterfaceType
from tests.strategies import packets_for, policies

V4, V6 = Family.IPV4, Family.IPV6
ME, PEER = 0x0A000001, 0x0A000002
ME6 = 0xFD09 << 112 | 1
HOST = Host(
    frozenset({(V4, 0x7F000001), (V6, 1), (V4, ME), (V6, ME6)}), frozenset({(V4, 0x0A0000FF)})
)
LINKS = {"eth0": InterfaceType.LAN, "ppp0": InterfaceType.DIALUP, "lo": None}


def as_seen(text: str, host: Host = HOST) -> Packet:
    return to_packet(parse_packet(text), host, LINKS)


def test_a_packet_to_me_arrives_at_my_address_of_its_ip_version() -> None:
    """``me`` is the host's address of the other side's version, never a loopback one."""
    packet = as_seen("udp 203.0.113.7:4000 > me:1434")
    assert packet == Packet(Point.ARRIVING, V4, 0xCB007107, ME, 17, 4000, 1434, InterfaceType.LAN)
    assert as_seen("tcp [2001:db8::1]:443 > me:5000").destination == ME6


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("icmp 10.0.0.2 > me", Point.ARRIVING),
        ("icmp 10.0.0.2 > 10.0.0.255", Point.ARRIVING),
        ("icmp 10.0.0.2 > 10.9.9.9", Point.ARRIVING),
        ("icmp me > 10.0.0.2", Point.SENDING),
        ("icmp 10.0.0.1 > 10.0.0.2", Point.SENDING),
        ("icmp 10.0.0.3 > 10.0.0.2 out eth0", Point.SENDING),
        ("icmp me > 10.0.0.2 in eth0", Point.ARRIVING),
    ],
)
def test_where_a_packet_is_looked_at(text: str, point: Point) -> None:
    """What the host itself sends is looked at as sent, all else as arriving, unless said."""
    assert as_seen(text).point is point


@pytest.mark.parametrize(
    ("tail", "kind"),
    [("", InterfaceType.LAN), (" in ppp0", InterfaceType.DIALUP), (" in lo", None)],
)
def test_the_interface_gives_the_kind_of_link(tail: str, kind: InterfaceType | None) -> None:
    """No interface is a LAN, and loopback is none of the kinds."""
    assert as_seen("icmp 10.0.0.2 > me" + tail).interface_type is kind


def test_icmp_is_the_protocol_of_the_ip_version() -> None:
    """``icmp`` is 1 in IPv4 and 58 in IPv6; a number is itself."""
    assert as_seen("icmp 10.0.0.2 > me").protocol == 1
    assert as_seen("icmp 2001:db8::1 > me").protocol == 58
    assert as_seen("47 10.0.0.2 > me").protocol == 47


@pytest.mark.parametrize(
    ("text", "kind", "code", "printed"),
    [
        ("icmp/echo-request 10.0.0.2 > me", 8, 0, "icmp/echo-request 10.0.0.2 > 10.0.0.1"),
        ("icmp/3/4 10.0.0.2 > me", 3, 4, "icmp/destination-unreachable/4 10.0.0.2 > 10.0.0.1"),
        ("icmpv6/2 2001:db8::1 > me", 2, 0, "icmp/packet-too-big 2001:db8::1 > "),
        ("icmp/echo-request 2001:db8::1 > me", 128, 0, "icmp/echo-request 2001:db8::1 > "),
        ("icmp/200 10.0.0.2 > me", 200, 0, "icmp/200 10.0.0.2 > 10.0.0.1"),
    ],
)
def test_the_type_of_icmp_stands_behind_the_protocol(
    text: str, kind: int, code: int, printed: str
) -> None:
    """A name is the type of the packet's IP version, and a code that is left out is 0."""
    packet = as_seen(text)
    assert (packet.icmp_type, packet.icmp_code) == (kind, code)
    assert format_packet(packet).startswith(printed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("icmp/packet-too-big 10.0.0.2 > me", "IPv4 does not have"),
        ("icmpv6/128 10.0.0.2 > me", "not ICMP in IPv4"),
        ("udp/8 10.0.0.2:1 > me:2", "has no types"),
        ("icmp/echo-request 10.0.0.2 > me fragment", "a later fragment has none"),
    ],
)
def test_a_type_that_the_packet_cannot_have_is_refused(text: str, said: str) -> None:
    """By its IP version, its protocol, or because it has no header of its own."""
    with pytest.raises(InvalidInput, match=said):
        as_seen(text)


def test_me_without_another_address_prefers_ipv4_from_outside() -> None:
    """Loopback addresses do not make a host one of IPv4."""
    assert as_seen("icmp me > me").family is V4
    assert as_seen("icmp me > me", Host(frozenset({(V4, 0x7F000001), (V6, ME6)}))).family is V6


def addresses_of(selector: Selector) -> tuple[Network, ...]:
    """A container of both IP versions, and one of IPv6 alone."""
    six = Network(V6, 0xFD90 << 112 | 5, 128)
    return {"web": (Network(V4, 0x0A5A0005, 32), six), "six": (six,)}.get(selector.name, ())


def test_a_container_is_an_address_of_the_other_sides_ip_version() -> None:
    """IPv4 where both are possible; with a port and a network, as in filters."""

    def meant(text: str) -> Packet:
        return to_packet(parse_packet(text), HOST, LINKS, addresses_of)

    packet = meant("udp container:web:4000 > 203.0.113.7:53")
    assert (packet.source, packet.source_port) == (0x0A5A0005, 4000)
    assert meant("icmp 2001:db8::1 > container:web@front").destination == 0xFD90 << 112 | 5
    assert meant("icmp container:web > me").family is V4
    assert meant("icmp me > container:six").source == ME6


def test_a_sender_is_named_at_the_end() -> None:
    """It is one of what the packet's processes are; what arrives has none."""
    packet = as_seen("tcp me:5000 > 10.0.0.2:25 out eth0 by service:mailer.service")
    assert packet.processes == {Process("service", "mailer.service")}
    assert as_seen("icmp me > 10.0.0.2 by cgroup:/a").processes == {Process("cgroup", "/a")}
    assert as_seen("icmp me > 10.0.0.2").processes == frozenset()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("icmp container:db > me", "container:db has no address that is known here"),
        ("icmp container:six > 10.0.0.2", "from one IP version to the other"),
        ("icmp network:front > me", "more than one address"),
        ("icmp label:a=b > me", "more than one address"),
        ("icmp container: > me", "cannot name a container"),
        ("udp container:web:x > me:9", "'x' is not a port"),
        ("icmp 10.0.0.2 > me by service:mailer.service", "this packet arrives"),
        ("icmp me > 10.0.0.2 by mailer", "names no local processes"),
        ("icmp me > 10.0.0.2 by service:mailer", "cannot name a service"),
        ("icmp me > 10.0.0.2 by service:a.service in eth0", "is not understood"),
    ],
)
def test_names_that_nobody_has_are_refused(text: str, said: str) -> None:
    """With the place of the name, and what to write."""
    with pytest.raises(InvalidInput, match=said) as caught:
        to_packet(parse_packet(text), HOST, LINKS, addresses_of)
    assert caught.value.position is not None


def test_what_is_forwarded_may_leave_as_this_hosts() -> None:
    """Under its address and with what it was before; what it receives or sends does not."""
    packet = as_seen("udp 10.0.0.9:4000 > 203.0.113.7:53")
    leaving = packet.leaving(HOST)
    assert leaving is not None
    assert leaving.point is Point.LEAVING
    assert leaving.source in (ME, 0x7F000001)
    assert leaving.arrived == packet
    assert as_seen("udp 10.0.0.9:4000 > me:53").leaving(HOST) is None
    assert as_seen("udp me:4000 > 10.0.0.9:53").leaving(HOST) is None
    assert packet.leaving(Host()) is None


@pytest.mark.parametrize(
    ("tail", "opening"),
    [("", True), (" opening", True), (" reply", False), (" established", False)],
)
def test_the_last_word_says_what_it_is_to_a_connection(tail: str, opening: bool) -> None:
    """Without one it opens a connection; also behind all else that can follow."""
    assert as_seen(f"icmp 10.0.0.2 > me{tail}").opening is opening
    whole = f"udp me > 10.0.0.2 fragment out eth0 by service:a.service{tail}"
    assert as_seen(whole).opening is opening


def test_an_interface_can_be_called_like_a_word_for_connections() -> None:
    """What follows in or out is the name of a link."""
    packet = to_packet(parse_packet("icmp 10.0.0.2 > me in reply"), HOST, {"reply": None})
    assert packet.opening


def test_the_interface_is_known_by_its_name_too() -> None:
    """Rules can be for one link; where none is named, it is none of those."""
    assert as_seen("icmp 10.0.0.2 > me in eth0").interface == "eth0"
    assert not as_seen("icmp 10.0.0.2 > me").interface


def test_a_source_port_can_be_left_out() -> None:
    """It is then one of those that systems take for themselves; fragments have none."""
    for text in ("udp 10.0.0.2 > me:53", "udp me > [2001:db8::1]:53", "6 10.0.0.2 > me:22",
                 "tcp 2001:db8::1 > me:22", "tcp [2001:db8::1:443] > me:22"):  # fmt: skip
        assert parse_packet(text).any_source_port
        assert as_seen(text).source_port == 49152
    assert not parse_packet("udp 10.0.0.2:1 > me:53").any_source_port
    assert not parse_packet("udp 10.0.0.2 > me fragment").any_source_port
    assert not parse_packet("icmp 10.0.0.2 > me").any_source_port


@pytest.mark.parametrize("text", ["tcp 10.0.0.2 > 10.0.0.3:22", "tcp [::ffff:0:1] > [::2]:22"])
def test_a_packet_from_any_port_is_printed_as_it_is_written(text: str) -> None:
    """In brackets, so that no part of an address looks like a port."""
    assert format_packet(as_seen(text), any_source_port=True) == text


def test_a_later_fragment_has_no_ports() -> None:
    """``fragment`` stands for one after the first, and may be followed by the interface."""
    packet = as_seen("udp 10.0.0.2 > me fragment in ppp0")
    assert packet.later_fragment
    assert (packet.source_port, packet.destination_port) == (None, None)
    assert packet.interface_type is InterfaceType.DIALUP


@pytest.mark.parametrize(
    ("text", "position", "what"),
    [
        ("", 0, "is not a packet"),
        ("udp 10.0.0.2:1", 0, "is not a packet"),
        ("udp > me:1", 0, "is not a packet"),
        (" foo 10.0.0.2 > me", 1, "'foo' is not a known protocol"),
        ("tcp 10.0.0.2:1 > me", 0, "leaves the destination's port out"),
        ("sctp 10.0.0.2 > me", 0, "leaves the destination's port out"),
        ("tcp 2001:db8::1:443 > me:22", 4, "can be an address, or an address with a port"),
        ("icmp 10.0.0.2 > me established reply", 19, "'established reply' is not understood"),
        ("icmp 10.0.0.2 > me reply in eth0", 19, "'reply in eth0' is not understood"),
        ("icmp 10.0.0.2 > me answering", 19, "'answering' is not understood"),
        ("icmp 10.0.0.2:1 > me", 0, "has none"),
        ("udp 10.0.0.2:1 > me:2 fragment", 0, "a later fragment has none"),
        ("udp 10.0.0.2:65536 > me:2", 13, "'65536' is not a port"),
        ("udp 10.0.0.2: > me:2", 13, "'' is not a port"),
        ("udp 10.0.0.2:x > me:2", 13, "'x' is not a port"),
        ("udp 10.0.0.2:1 > host:2", 17, "'host' is not an IP address"),
        ("icmp 10.0.0.2 > 10.0.0.2.3", 16, "is not an IP address"),
        ("tcp [::1:80 > me:2", 4, "in brackets"),
        ("tcp [10.0.0.2]:80 > me:2", 4, "in brackets"),
        ("tcp [::1]80 > me:2", 4, "in brackets"),
        ("icmp 10.0.0.2 > me via eth0", 19, "'via eth0' is not understood"),
        ("icmp 10.0.0.2 > me in", 19, "'in' is not understood"),
        ("icmp 10.0.0.2 > ::1", 0, "one IP version to the other"),
        ("icmp 10.0.0.2 > me in eth7", 22, "no interface 'eth7'"),
    ],
)
def test_an_error_points_and_helps(text: str, position: int, what: str) -> None:
    """What is no packet is refused at a place, with a reason and a remedy."""
    with pytest.raises(InvalidInput) as caught:
        as_seen(text)
    assert (caught.value.source, caught.value.position) == (text, position)
    assert what in caught.value.message
    assert caught.value.hint


def test_an_unknown_interface_is_answered_with_those_that_exist() -> None:
    """The hint lists the interfaces."""
    with pytest.raises(InvalidInput) as caught:
        as_seen("icmp 10.0.0.2 > me in eth7")
    assert caught.value.hint == "there are: eth0, lo, ppp0"


def test_me_needs_an_address_of_the_ip_version() -> None:
    """A host without IPv6 cannot be ``me`` for an IPv6 packet."""
    with pytest.raises(InvalidInput, match="no IPv6 address"):
        as_seen("icmp 2001:db8::1 > me", Host(frozenset({(V4, ME)})))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_packet_that_is_printed_reads_back(data: st.DataObject) -> None:
    """The text of a packet gives its addresses, protocol, ports and fragment back."""
    packet = data.draw(packets_for(data.draw(policies())))
    again = to_packet(parse_packet(format_packet(packet)), Host(), {})
    for name in ("family", "source", "destination", "protocol", "later_fragment", "opening"):
        assert getattr(again, name) == getattr(packet, name)
    assert again.source_port == packet.source_port
    assert again.destination_port == packet.destination_port
