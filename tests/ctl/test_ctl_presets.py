"""Presets: ordinary policies that meet their own expectations and do what their names say."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ipsecctl.presets import PRESETS, preset_policy
from ipsecctl.services import SERVICES
from ipsecctl.verbs import VERBS
from ipsecd.errors import InvalidInput, Refused
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.language.packets import parse_packet
from ipsecd.language.seen import assumed_types, to_packet
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.explanation import explain
from ipsecd.model.packets import Host
from ipsecd.model.unmet import unmet
from ipsecd.model.values import Action, Policy, Store, filters_of
from tests.ctl.conftest import Run
from tests.ctl.fake_daemon import FakeDaemon

HOST = Host(frozenset({(Family.IPV4, 0xC0A80101), (Family.IPV6, 0xFD09 << 112 | 1)}))
PERMITS = ("ssh", "tcp/80,443", "ping")


def policy(preset: str, *permits: str, out: tuple[str, ...] = ()) -> Policy:
    return preset_policy("P", preset, permits, out)


def passes(found: Policy, text: str) -> bool:
    """Whether a packet passes at every point at which this host looks at it, from any port."""
    parsed = parse_packet(text)
    packet = to_packet(parsed, HOST, assumed_types(parsed.interface))
    explanation = explain(
        filters_of(found, Store.STATIC),
        packet,
        HOST,
        ESSENTIALS,
        any_source_port=parsed.any_source_port,
    )
    points = [explanation, *([explanation.leaving] if explanation.leaving else [])]
    decisions = [point.decision for point in points]
    decisions += [ports.decision for point in points for ports in point.source_ports]
    actions = {decision.action for decision in decisions}
    assert len(actions) == 1 or not parsed.any_source_port, text
    return actions == {Action.PERMIT}


def variants() -> list[Policy]:
    return [
        *(policy(preset) for preset in PRESETS),
        *(policy(preset, *PERMITS, "10.0.0.0/8=0:3306:TCP", "peer.example") for preset in PRESETS),
        *(policy(preset, *SERVICES) for preset in PRESETS),
        policy("deny-all", *SERVICES, out=tuple(SERVICES)),
        policy("workstation", "udp/1-65535", "tcp/1-65535"),
        policy("container-host", "dns", "*=0::UDP", "*=0::TCP"),
    ]


@pytest.mark.parametrize("found", variants(), ids=lambda found: found.description[:20])
def test_a_preset_reads_back_and_meets_its_expectations(found: Policy) -> None:
    """As any policy that somebody wrote, whatever is permitted."""
    assert parse_policy(format_policy(found)) == found
    assert unmet(found) == ()
    assert found.expect


def test_without_permits_every_expectation_of_a_preset_is_kept() -> None:
    """One that is left out because of a permit is not left out otherwise."""
    for preset, base in PRESETS.items():
        expected = len(base.expect) + len(base.closed) + len(base.closed_out)
        assert len(policy(preset).expect) == expected


def test_expectations_notice_a_preset_that_lost_a_rule() -> None:
    """Whichever rule is taken out of a preset that has no permits, something is not met."""
    for preset in PRESETS:
        found = policy(preset)
        for rule in found.rules:
            less = replace(found, rules=tuple(one for one in found.rules if one is not rule))
            assert unmet(less), (preset, rule.name)


EVERYWHERE = [
    ("tcp 203.0.113.7 > me:22", True),
    ("tcp [2001:db8::7] > me:443", True),
    ("tcp 203.0.113.7 > me:23", False),
    ("tcp [2001:db8::7] > me:3389", False),
    ("udp 203.0.113.7 > me:161", False),
    ("udp 203.0.113.7:53 > me:40000", False),
    ("udp 203.0.113.7:53 > me:40000 reply", True),
    ("tcp 203.0.113.7:443 > me:40000", False),
    ("tcp 203.0.113.7:443 > me:40000 established", True),
    ("icmp/echo-request 203.0.113.7 > me", True),
    ("icmp/echo-request 2001:db8::7 > me", True),
    ("icmp/timestamp-request 203.0.113.7 > me", False),
    ("icmp/destination-unreachable/4 203.0.113.7 > me reply", True),
    ("icmpv6/packet-too-big 2001:db8::7 > me reply", True),
    ("icmpv6/multicast-listener-query fe80::1 > ff02::1", True),
    ("2 192.168.1.254 > 224.0.0.1", True),
    ("47 203.0.113.7 > me", False),
    ("udp 203.0.113.7 > me fragment", False),
    ("udp 192.168.1.254:67 > me:68", True),
    ("udp [fe80::1]:547 > me:546", True),
    ("udp 192.168.1.9:137 > 192.168.1.255:137 in lo", True),
]
OUT = [
    ("tcp me > 203.0.113.7:443", True),
    ("tcp me > [2001:db8::7]:25", True),
    ("udp me > 203.0.113.7:53", True),
    ("icmp/echo-request me > 203.0.113.7", True),
    ("udp me > 224.0.0.251:5353", True),
    ("udp me > 192.168.1.254:67", True),
    ("47 me > 203.0.113.7", True),
]
FORWARDED = [
    ("tcp 10.0.0.5 > 203.0.113.7:443 in eth0", True),
    ("tcp 203.0.113.7 > 10.0.0.5:80 in eth0", True),
]
NOT_FORWARDED = [(text, False) for text, _ in FORWARDED]
CONTAINERS = [
    ("tcp 172.17.0.2 > 203.0.113.7:443 in docker0", True),
    ("udp 10.89.0.2 > 203.0.113.7:53 in podman1", True),
    ("tcp [fd00::2] > [2001:db8::7]:443 in br-0123456789ab", True),
    ("tcp 203.0.113.7:443 > 172.17.0.2:40000 in eth0 reply", True),
    ("tcp 203.0.113.7 > 172.17.0.2:80 in eth0", False),
    ("tcp [2001:db8::7] > [fd00::2]:80 in eth0", False),
    ("tcp 203.0.113.7 > me:8080 in eth0", False),
    ("tcp [2001:db8::7] > me:8080 in eth0", False),
    ("udp 10.89.0.2 > me:53 in podman1", True),
    ("tcp 10.88.0.2 > me:53 in cni-podman0", True),
    ("udp 203.0.113.7 > me:53 in eth0", False),
    ("tcp 172.17.0.2 > me:5432 in docker0", False),
    ("tcp me > 172.17.0.2:80 out docker0", True),
]
NEAR = [
    ("udp 192.168.1.9:5353 > 224.0.0.251:5353", True),
    ("udp [fe80::9]:5353 > [ff02::fb]:5353", True),
    ("udp 192.168.1.9:5353 > me:45000", True),
    ("udp 192.168.1.9:5353 > me:5353", True),
    ("udp [fe80::9]:5353 > me:45000", True),
    ("udp 192.168.1.8:1900 > me:45000", True),
    ("udp 192.168.1.8:1900 > me:1900", False),
    ("udp 192.168.1.9:5353 > me:111", False),
    ("udp 203.0.113.7:5353 > me:45000", False),
    ("udp 203.0.113.7:1900 > me:45000", False),
    ("tcp 192.168.1.9:5353 > me:45000", False),
]
ONLY_PERMITTED_OUT = [
    ("udp me > 203.0.113.7:53", True),
    ("tcp me > [2001:db8::7]:53", True),
    ("tcp me > 203.0.113.7:443", False),
    ("tcp me:443 > 203.0.113.7:40000 reply", True),
    ("icmp/echo-request me > 203.0.113.7", False),
    ("icmpv6/version-2-multicast-listener-report me > ff02::16", True),
    ("2 me > 224.0.0.22", True),
    ("udp me:67 > 192.168.1.254:67", False),
    ("udp me:68 > 192.168.1.254:67", True),
]
TABLE = {
    "deny-incoming": [*EVERYWHERE, *OUT, *FORWARDED],
    "workstation": [*EVERYWHERE, *OUT, *FORWARDED, *NEAR],
    "container-host": [*EVERYWHERE, *OUT, *NOT_FORWARDED, *CONTAINERS],
    "deny-all": [*EVERYWHERE, *ONLY_PERMITTED_OUT, *NOT_FORWARDED],
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_does_what_its_name_says(preset: str) -> None:
    """Packets in and out, of connections and new, of both IP versions, forwarded, to containers."""
    found = policy(preset, *PERMITS, out=("dns",) if preset == "deny-all" else ())
    wrong = [text for text, wanted in TABLE[preset] if passes(found, text) is not wanted]
    assert wrong == []


def test_a_published_port_can_be_permitted() -> None:
    """It is a port of this host, whoever listens."""
    assert passes(policy("container-host", "tcp/8080"), "tcp 203.0.113.7 > me:8080 in eth0")


def test_every_service_can_be_permitted_in_and_out() -> None:
    """By its name in any letter case, and all that it says is for this host."""
    for name in SERVICES:
        found = policy("deny-all", name.upper(), out=(name,))
        assert len(found.rules) == len(PRESETS["deny-all"].rules) + 2


@pytest.mark.parametrize(
    ("preset", "permits", "out", "said"),
    [
        ("deny-incoming", ["sshd"], [], "'sshd' is no service that is known"),
        ("deny-incoming", ["tcp/99999"], [], "port 99999"),
        ("deny-incoming", ["*=0"], [], "says no more than the rule that blocks everything"),
        ("deny-incoming", ["0=*:22:TCP"], [], "no permit of what comes in to this host"),
        ("deny-incoming", ["*+0:22:TCP"], [], "no permit of what comes in to this host"),
        ("deny-incoming", ["ssh"], ["dns"], "everything goes out with deny-incoming"),
    ],
)
def test_what_is_no_permit_is_refused(
    preset: str, permits: list[str], out: list[str], said: str
) -> None:
    """With what to write instead."""
    with pytest.raises(InvalidInput, match=re.escape(said)) as caught:
        preset_policy("P", preset, permits, out)
    assert caught.value.hint


def test_the_verb_offers_every_preset() -> None:
    """The table of verbs is read at every start, and so has their names alone."""
    create = VERBS["policy"].actions["create"]
    (option,) = (option for option in create.options if option.name == "--preset")
    assert option.choices == tuple(PRESETS)


def test_a_preset_is_stored_as_a_new_policy(daemon: FakeDaemon, run: Run) -> None:
    """In one call, with its document, and refused if there is one of its name."""
    words = ("policy", "create", "My Server", "--preset", "deny-incoming", "--permit", "ssh")
    assert run("ipsecctl", *words, "--permit=tcp/80,443", "--assign").code == 0
    ((method, parameters),) = daemon.calls
    document = format_policy(
        preset_policy("My Server", "deny-incoming", ["ssh", "tcp/80,443"]),
    )
    assert method == "ApplyPolicy"
    assert parameters == {
        "document": document,
        "source": "<deny-incoming>",
        "assign": True,
        "dry_run": False,
        "new": True,
        "live": None,
        "audit": None,
    }
    daemon.replies["ApplyPolicy"] = Refused("there is a policy 'My Server' already")
    ran = run("ipsecctl", *words)
    assert (ran.code, "already" in ran.err) == (1, True)


@pytest.mark.usefixtures("no_daemon")
def test_a_preset_can_be_printed(run: Run) -> None:
    """Without a daemon, as a document that check takes; the description can be another."""
    words = ("policy", "create", "W", "--preset", "workstation", "--print")
    ran = run("ipsecctl", *words, "--description", "for the desks")
    assert (ran.code, ran.err) == (0, "")
    assert parse_policy(ran.out).description == "for the desks"
    assert ran.out == format_policy(parse_policy(ran.out))


def test_permits_go_with_a_preset(run: Run) -> None:
    """A policy without rules has no place for them."""
    ran = run("ipsecctl", "policy", "create", "W", "--permit", "ssh")
    assert (ran.code, "--permit goes with --preset" in ran.err) == (2, True)
