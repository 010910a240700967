"""Tests of ``netdiag``: the report in each state, and how filters are written out in it."""

from __future__ import annotations

import pytest

from ipsecctl.expansion import Block, Side, blocks_of
from ipsecd.model.addresses import Family
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import FakeDaemon

PASSED = "IP Security test . . . . . . . . . : Passed\n"
FAILED = "IP Security test . . . . . . . . . : Failed\n"
OWN = ["192.168.1.1", "192.168.1.2", "2001:db8::1"]


@pytest.mark.parametrize("switch", ["/test:ipsec", "-test:ipsec", "/TEST:IPSEC"])
def test_assigned_policy(daemon: FakeDaemon, run: Run, switch: str) -> None:
    """The report names the assigned policy, and nothing else is asked."""
    ran = run("netdiag", switch)
    assert ran.code == 0
    assert ran.out == PASSED + "    Local IPSec Policy Active: 'Block UDP 1434 Filter'\n"
    assert daemon.calls == [("Status", {})]


def test_no_policy(daemon: FakeDaemon, run: Run) -> None:
    """Without a policy the report is the two lines of old, with /debug too."""
    daemon.status(assigned=None, policy_path=None, policy_rules=0, policy_filters=0)
    daemon.replies["ListFilters"] = {"filters": []}
    text = PASSED + "    IPSec policy service is active, but no policy is assigned.\n"
    assert run("netdiag", "/test:ipsec").out == text
    assert run("netdiag", "/test:ipsec", "/debug").out == text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": "stopped"}, "stopped"),
        ({"state": "failed", "failures": ["web.yaml:3: no action"]}, "web.yaml:3: no action"),
        ({"state": "drifted", "drift": ["set s4 is missing"]}, "set s4 is missing"),
    ],
)
def test_failures(daemon: FakeDaemon, run: Run, changes: dict[str, object], reason: str) -> None:
    """A test that does not pass says why and exits with 1."""
    daemon.status(**changes)
    ran = run("netdiag", "/test:ipsec")
    assert ran.code == 1
    assert ran.out.startswith(FAILED)
    assert reason in ran.out


@pytest.mark.usefixtures("no_daemon")
def test_no_daemon(run: Run) -> None:
    """A daemon that does not answer fails the test, with exit 1 as of old."""
    ran = run("netdiag", "/test:ipsec")
    assert ran.code == 1
    assert ran.out.startswith(FAILED + "    the daemon cannot be reached")


@pytest.mark.parametrize("switch", ["/debug", "/v", "-V"])
def test_debug_shows_every_filter(daemon: FakeDaemon, run: Run, switch: str) -> None:
    """/debug adds the path and one block per own address, policy first and dynamic last."""
    lines = run("netdiag", "/test:ipsec", switch).out.splitlines()
    assert lines[2:6] == [
        "    IP Security Policy Path: /etc/ipsecd/policies/block-udp-1434-filter.yaml",
        "",
        "    There are 3 filters",
        "    No Name",
    ]
    assert lines[7] == "        Policy Id: {509492EA-1214-4F50-BF43-9CAC2B538518}"
    assert lines[8:14] == [
        "        Src Addr : 0.0.0.0 Src Mask : 0.0.0.0",
        "        Dest Addr : 192.168.1.1 Dest Mask : 255.255.255.255",
        "        Tunnel Addr : 0.0.0.0 Src Port : 0 Dest Port : 1434",
        "        Protocol : 17 TunnelFilter: No",
        "        Flags : Inbound Block",
        "    No Name",
    ]
    assert lines[17] == (
        "        Dest Addr : 2001:db8::1 Dest Mask : ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    )
    assert lines[23] == "        Policy Id: {00000000-0000-0000-0000-000000000000}"
    identities = [line for line in lines if "Filter Id" in line]
    assert len(set(identities)) == 3
    again = run("netdiag", "/test:ipsec", switch).out.splitlines()
    assert [line for line in again if "Filter Id" in line] == identities
    assert daemon.calls


def blocks(text: str) -> list[tuple[str, str, str, str, str, str]]:
    """The blocks of a filter, shortly."""
    return [
        (
            block.source.address,
            block.source.ports,
            block.destination.address,
            block.destination.ports,
            block.protocol,
            " ".join(block.ways),
        )
        for block in blocks_of(text, OWN)
    ]


def test_mirrored_filter_is_two_ways() -> None:
    """A mirrored filter is written out inbound and outbound, ports swapped."""
    assert blocks("0:80+10.0.0.1::TCP") == [
        ("192.168.1.1", "80", "10.0.0.1", "0", "6", "Outbound"),
        ("192.168.1.2", "80", "10.0.0.1", "0", "6", "Outbound"),
        ("10.0.0.1", "0", "192.168.1.1", "80", "6", "Inbound"),
        ("10.0.0.1", "0", "192.168.1.2", "80", "6", "Inbound"),
    ]


def test_ports_without_protocol_are_tcp_and_udp() -> None:
    """Ranges and lists have a block each, for TCP and for UDP when no protocol is given."""
    listed = blocks("10.0.0.1=10.0.0.2:80,1000-1999")
    assert [(block[3], block[4]) for block in listed] == [
        ("80", "6"),
        ("80", "17"),
        ("1000-1999", "6"),
        ("1000-1999", "17"),
    ]
    assert {block[5] for block in listed} == {"Inbound Outbound"}


def test_both_families_are_written_out() -> None:
    """A filter between any addresses has a block for IPv4 and one for IPv6; ICMP is 1 and 58."""
    assert blocks("*=*::ICMP") == [
        ("0.0.0.0", "0", "0.0.0.0", "0", "1", "Inbound Outbound"),
        ("::", "0", "::", "0", "58", "Inbound Outbound"),
    ]


def test_types_of_icmp_stand_behind_the_protocol() -> None:
    """Filters that differ in type or code only are different blocks."""
    assert [block[4] for block in blocks("*=*::ICMP/echo-request")] == ["1/8", "58/128"]
    assert [block[4] for block in blocks("*=*::ICMPv6/packet-too-big")] == ["58/2"]
    assert [block[4] for block in blocks("*=*::1/3/4")] == ["1/3/4"]


def test_masks() -> None:
    """Masks are dotted in IPv4 and in colons in IPv6; a DNS name is shown as it is."""
    (network,) = blocks_of("[2001:db8::]/32=[2001:db8::9]", OWN)
    assert network.source == Side("2001:db8::", "ffff:ffff::", "0")
    (name,) = blocks_of("host.example=10.0.0.0/8", OWN)
    assert name == Block(
        Family.IPV4,
        Side("host.example", "255.255.255.255", "0"),
        Side("10.0.0.0", "255.0.0.0", "0"),
        "0",
        ("Inbound", "Outbound"),
    )


def test_machine_without_addresses() -> None:
    """Before the host has an address its filters are shown all the same, with 0 as written."""
    (block,) = blocks_of("*=0:80:TCP", [])
    assert (block.destination.address, block.destination.ports) == ("0", "80")
