"""What of expectations is not so: as decide says, the same on every host, in linear time."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ipsecd.errors import LimitExceeded
from ipsecd.language.documents import parse_policy
from ipsecd.language.expectations import parse_expectation
from ipsecd.model.addresses import Family, HostName, Network, Selector
from ipsecd.model.decide import decide
from ipsecd.model.expectations import SOME_HOST, Expectation
from ipsecd.model.packets import Host, Packet
from ipsecd.model.unmet import unmet
from ipsecd.model.values import Action, Policy, Rule, Store, filters_of
from tests.strategies import packets_for, policies


def policy(*filters: str, action: str = "block", expect: tuple[str, ...]) -> Policy:
    listed = "".join(f'\n    - "{text}"' for text in filters)
    expected = "".join(f'\n- "{text}"' for text in expect)
    return parse_policy(
        f"policy: P\nrules:\n- rule: R\n  action: {action}\n  filters:{listed}\nexpect:{expected}\n"
    )


def failing(found: Policy) -> list[str]:
    return [one.expectation.text for one in unmet(found)]


def nameless(found: Policy) -> Policy:
    """The policy without the filters by names, which stand for nobody here."""
    rules = []
    for rule in found.rules:
        members = tuple(
            one
            for one in rule.filters
            if not isinstance(one.source.address, HostName | Selector)
            and not isinstance(one.destination.address, HostName | Selector)
        )
        if members:
            rules.append(replace(rule, filters=members))
    return replace(found, rules=tuple(rules))


def own_address(found: Policy, packets: list[Packet], family: Family, offset: int) -> int | None:
    """An address that a host can have and nobody names, tried out one after the other."""
    sides = {side for packet in packets for side in (packet.source, packet.destination)}
    named = [
        end.address
        for rule in found.rules
        for one in rule.filters
        for end in (one.source, one.destination)
        if isinstance(end.address, Network) and end.address.length
    ]
    first, step = (0x10000000, 0x0913A7F1) if family is Family.IPV4 else (0x2001 << 112, 7 << 109)
    for number in range(24):
        address = first + (number + offset) % 24 * step
        taken = any(one.family is family and address in one for one in named)
        if not taken and address >> 24 != 127 and address not in sides:
            return address
    return None


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_the_verdict_is_that_of_decide(data: st.DataObject) -> None:
    """Over all filters, for packets from their boundaries, whichever address nobody names is ours.

    Filters by names are left out: they stand for nobody. A policy that is tried as audits is judged
    as if it blocked.
    """
    found = data.draw(policies(names=True))
    packets = data.draw(st.lists(packets_for(found, SOME_HOST), min_size=1, max_size=4))
    offset = data.draw(st.integers(0, 23))
    own = {family: own_address(found, packets, family, offset) for family in Family}
    assume(None not in own.values())
    host = Host(frozenset((family, value) for family, value in own.items() if value is not None))
    standing = dict(SOME_HOST.addresses)

    def ours(packet: Packet, side: int) -> int:
        return dict(host.addresses)[packet.family] if side == standing[packet.family] else side

    filters = filters_of(nameless(found).with_audit(False), Store.STATIC)
    expect = tuple(Expectation(Action.BLOCK, str(n), one) for n, one in enumerate(packets))
    blocked = [
        decide(
            filters,
            replace(one, source=ours(one, one.source), destination=ours(one, one.destination)),
            host,
        )
        for one in packets
    ]
    permitted = [
        (one, decision)
        for one, decision in zip(expect, blocked, strict=True)
        if decision.action is Action.PERMIT
    ]
    answers = unmet(replace(found, expect=expect))
    assert [one.expectation for one in answers] == [one for one, _ in permitted]
    for answer, (_, decision) in zip(answers, permitted, strict=True):
        assert (answer.decision.by, answer.decision.reason) == (decision.by, decision.reason)


def test_me_is_an_address_that_no_filter_names() -> None:
    """So a filter for the network of one host decides nothing that holds for all of them."""
    everywhere = ("block tcp 192.0.2.1:4 > me:22", "permit tcp me:4 > 192.0.2.1:22")
    assert failing(policy("*=0:22:TCP", expect=everywhere)) == []
    for network in ("1.0.0.0/8", "240.0.0.0/4", "1.0.0.1", "0.0.0.0/1"):
        found = policy(f"{network}=192.0.2.1:22:TCP", "*=0:22:TCP", expect=everywhere)
        assert failing(found) == []
    assert failing(policy("0.0.0.0/0=192.0.2.1:22:TCP", expect=everywhere[1:])) == [
        "tcp me:4 > 192.0.2.1:22"
    ]
    halves = ("0.0.0.0/1=192.0.2.1:22:TCP", "128.0.0.0/1=192.0.2.1:22:TCP")
    assert failing(policy(*halves, expect=everywhere[1:])) == ["tcp me:4 > 192.0.2.1:22"]


def test_an_address_that_the_packet_names_is_not_this_hosts() -> None:
    """Also where it is the first that a host could have."""
    found = policy("*=0:22:TCP", expect=("permit tcp 192.0.2.1:4 > 1.0.0.1:22",))
    assert failing(found) == []


def test_names_stand_for_nobody() -> None:
    """What a name stands for differs between hosts; what is expected must not hang on it."""
    filters = ("peer.example=0:22:TCP", "container:web=0:22:TCP", "*=network:front:22:TCP")
    expect = ("permit tcp 192.0.2.1:4 > me:22", "permit tcp 192.0.2.1:4 > 192.0.2.2:22")
    found = policy(*filters, expect=expect)
    assert failing(found) == []
    first = found.rules[0].filters[0]
    name = HostName("peer.example", (Network(Family.IPV4, 0xC0000201, 32),))
    looked_up = replace(first, source=replace(first.source, address=name))
    rule = Rule("R", (looked_up, *found.rules[0].filters[1:]), Action.BLOCK)
    assert failing(replace(found, rules=(rule,))) == []


def test_senders_and_interfaces_are_those_that_the_packet_names() -> None:
    """As explain takes them without a daemon."""
    by = "tcp me:4 > 192.0.2.1:25 by service:mail.service"
    found = policy("service:mail.service=*:25:TCP", expect=(f"block {by}",))
    assert failing(found) == []
    assert failing(replace(found, expect=(parse_expectation(f"permit {by}"),))) == [by]
    rule = "{rule: R, action: block, interface: dialup, filters: ['*=0:22:TCP']}"
    text = f"policy: P\nrules:\n- {rule}\n"
    dialup = parse_policy(
        f"{text}expect:\n- block tcp 192.0.2.1:4 > me:22 in ppp0\n"
        "- permit tcp 192.0.2.1:4 > me:22 in eth0\n- permit tcp 192.0.2.1:4 > me:22 in lo\n"
    )
    assert failing(dialup) == []


@pytest.mark.parametrize(
    ("permit", "unmet_packets"),
    [
        ("*:53=0::TCP", ["tcp 192.0.2.1 > me:23"]),
        ("0+*:53:TCP", ["tcp 192.0.2.1 > me:23"]),
        ("0=*:53:TCP", []),
        ("0:53=*::TCP", ["tcp me > 192.0.2.1:23"]),
        ("*=0:23:UDP", []),
    ],
)
def test_every_source_port_counts_where_none_is_written(
    permit: str, unmet_packets: list[str]
) -> None:
    """So a permit by the source port is seen, at either end of a mirrored filter."""
    block, other = "*+0::TCP", f"- {{rule: S, action: permit, filters: ['{permit}']}}"
    expect = ("block tcp 192.0.2.1 > me:23", "block tcp me > 192.0.2.1:23")
    found = parse_policy(
        f"policy: P\nrules:\n- {{rule: R, action: block, filters: ['{block}']}}\n{other}\n"
        f"expect: ['{expect[0]}', '{expect[1]}']\n"
    )
    assert failing(found) == unmet_packets


def test_packets_of_a_connection_are_not_matched_when_opening() -> None:
    """As the packet says; without a word it opens one."""
    text = "policy: P\nrules:\n- {rule: R, action: block, when: opening, filters: ['*=0']}\n"
    expect = (
        "block tcp 192.0.2.1 > me:22",
        "block tcp 192.0.2.1 > me:22 opening",
        "permit tcp 192.0.2.1 > me:22 reply",
        "permit icmp 192.0.2.1 > me established",
    )
    assert failing(parse_policy(text + "expect:\n" + "".join(f"- {e}\n" for e in expect))) == []


def test_a_policy_that_is_tried_as_audits_is_expected_to_block() -> None:
    """What its author expects is to be so when it blocks; an audit that is written is none."""
    expect = ("block tcp 192.0.2.1 > me:22",)
    assert failing(policy("*=0:22:TCP", expect=expect).with_audit(True)) == []
    assert failing(policy("*=0:22:TCP", action="audit", expect=expect)) == ["tcp 192.0.2.1 > me:22"]


def test_exemptions_do_not_count() -> None:
    """They are a setting of each host."""
    found = policy("*=0::ICMP", expect=("block icmpv6/135 fe80::1 > me",))
    assert failing(found) == []


def test_a_policy_that_expects_nothing_is_not_looked_at() -> None:
    """Its rules may not even have been read."""

    class Unread(Policy):
        @property
        def rules(self) -> tuple[Rule, ...]:
            raise AssertionError

    found = object.__new__(Unread)
    vars(found).update(name="P", expect=())
    assert unmet(found) == ()


def test_two_hundred_thousand_filters_take_seconds() -> None:
    """In which every packet is judged by all of them that can match it."""
    lines = "".join(
        f'\n  - "10.{n >> 16}.{n >> 8 & 255}.{n & 255}=0:1434:UDP"' for n in range(200_000)
    )
    expect = "".join(f"\n- block udp 10.0.1.{n}:4000 > me:1434" for n in range(10))
    found = parse_policy(
        f"policy: P\nrules:\n- rule: R\n  action: block\n  filters:{lines}\nexpect:{expect}\n"
    )
    began = time.thread_time()
    assert unmet(found) == ()
    assert time.thread_time() - began < 20


def test_too_many_pairs_are_refused_before_they_are_compared() -> None:
    """A thousand expectations are judged by at most ten thousand filters that can match any."""
    expect = tuple(f"block udp 192.0.2.1:4 > me:{number + 1}" for number in range(1000))
    found = policy(*(f"*=0:1-{last}:UDP" for last in range(1000, 11_001)), expect=expect)
    began = time.thread_time()
    with pytest.raises(LimitExceeded, match="'P' expects too much to be judged: its 1,000"):
        unmet(found)
    assert time.thread_time() - began < 5


def test_too_many_matches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can match a packet is judged in full; filters for other packets do not count."""
    monkeypatch.setattr("ipsecd.model.unmet.MAX_JUDGED", 4)
    expect = tuple(f"block udp 192.0.2.{number}:4 > me:7" for number in range(1, 5))
    apart = tuple(f"192.0.2.{number}=0:7:UDP" for number in range(1, 5))
    assert unmet(policy(*apart, expect=expect)) == ()
    with pytest.raises(LimitExceeded, match="more than 4 filters together"):
        unmet(policy(*apart, "*=0:7:UDP", expect=expect))
