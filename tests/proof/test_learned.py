"""What is learned permits what was noted and blocks the rest, by the oracle; and reads well."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipsecd.language.filters import format_filter, parse_short
from ipsecd.language.packets import parse_packet
from ipsecd.language.seen import assumed_types, to_packet
from ipsecd.model.addresses import Family, Network
from ipsecd.model.decide import Decision, decide, matches_of
from ipsecd.model.flows import Flow, flow_of, is_answer
from ipsecd.model.kinds import Conditions
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import Action, InForce, Policy, Rule, Store, filters_of
from ipsecd.proof.learned import Learned, learn
from ipsecd.proof.peers import MANY_NETWORKS, prefixes_of
from tests.proof.boundaries import LINKS, Boundaries
from tests.strategies import HOST, LUCK, in_force

BLOCK, PERMIT = Action.BLOCK, Action.PERMIT
TYPES = {name: kind for link in LINKS for name, kind in assumed_types(link).items()}
some = settings(max_examples=100, deadline=None, suppress_health_check=[*HealthCheck])
OPENING = Conditions(opening=True)


def policy_of(filters: Sequence[InForce]) -> Policy:
    """A policy with a rule for each of the filters; what is no permit is a block."""
    rules = (
        Rule(
            f"r{number}",
            (one.filter,),
            PERMIT if one.action is PERMIT else BLOCK,
            one.conditions,
        )
        for number, one in enumerate(filters)
    )
    return Policy("P", tuple(rules))


def judged(policy: Policy, packet: Packet) -> Decision:
    return decide(filters_of(policy, Store.STATIC), packet, HOST)


def on_a_link(packet: Packet, luck: random.Random) -> Packet:
    """The packet as it is seen: on a link with a name, with nothing known of before."""
    name = luck.choice(LINKS)
    return replace(packet, interface=name, interface_type=TYPES[name], arrived=None)


@some
@given(in_force(6), LUCK, st.sampled_from([None, 8, 24]))
def test_what_was_noted_passes_and_nothing_else(
    drawn: list[InForce], luck: random.Random, widen: int | None
) -> None:
    """Every packet that was noted, from any port of its client, and no packet but those permitted.

    What is enforced is the policy where its audit rules are blocks.
    """
    policy = policy_of(drawn)
    blocks = [rule.name for rule in policy.rules if rule.action is BLOCK]
    audits = [name for name in blocks if luck.random() < 0.7]
    boundaries = Boundaries(filters_of(policy, Store.STATIC), HOST)
    packets = [on_a_link(boundaries.packet(luck), luck) for _ in range(150)]
    noted = []
    for packet in packets:
        by = judged(policy, packet).by
        if by is not None and by.origin.rule in audits:
            flow = flow_of(packet, by.origin.rule)
            if flow:
                noted.append((packet, flow))
    flows = [flow for _, flow in noted]
    learned = learn(policy, audits, flows, HOST, types=TYPES, widen=widen)
    assert not learned.settled
    for packet, flow in noted:
        assert flow in learned.refused or judged(learned.policy, packet).action is PERMIT
    permits = [
        one
        for one in filters_of(learned.policy, Store.STATIC)
        if one.origin.rule in {rule.name for rule in learned.rules}
    ]
    for packet in (*packets, *(on_a_link(boundaries.packet(luck), luck) for _ in range(100))):
        before, now = judged(policy, packet), judged(learned.policy, packet)
        covered = any(any(matches_of(permit, packet, HOST)) for permit in permits)
        assert covered or now.action is before.action
        if before.by and before.by.origin.rule not in audits and learned.is_proven:
            is_overruled = before.action is not now.action
            assert not is_overruled or before.by.origin.rule in learned.overruled
    assert {flow for rule in learned.rules for one in rule.permits for flow in one.flows} == (
        set(flows) - set(learned.refused)
    )


def noted(*texts: str, rule: str = "Audit", flags: str = "") -> list[Flow]:
    flows = []
    for text in texts:
        parsed = parse_packet(text)
        packet = to_packet(parsed, HOST, assumed_types(parsed.interface))
        flow = flow_of(packet, rule, flags)
        assert flow
        flows.append(flow)
    return flows


def filters(learned: Learned) -> list[str]:
    return [format_filter(one.filter) for rule in learned.rules for one in rule.permits]


def audited(*texts: str, conditions: Conditions = OPENING, more: tuple[Rule, ...] = ()) -> Policy:
    audit = Rule("Audit", tuple(map(parse_short, texts)), BLOCK, conditions)
    return Policy("P", (audit, *more))


ANYBODY = [f"tcp 203.0.{n}.7:40000 > me:443" for n in range(MANY_NETWORKS)]


@pytest.mark.parametrize(
    ("packets", "widen", "permits"),
    [
        (ANYBODY, None, ["*=0:443:TCP"]),
        (ANYBODY[1:2], None, ["203.0.1.7=0:443:TCP"]),
        ([f"tcp 192.0.2.{n}:999 > me:22" for n in range(8, 12)], None, ["192.0.2.8/30=0:22:TCP"]),
        (["tcp 192.0.2.8:5000 > me:22", "tcp 192.0.2.11:5001 > me:22"], None,
         ["192.0.2.8=0:22:TCP", "192.0.2.11=0:22:TCP"]),
        (["tcp 192.0.2.8:5000 > me:22", "tcp 192.0.2.11:5001 > me:22"], 24,
         ["192.0.2.8/30=0:22:TCP"]),
        (["tcp 192.0.2.8:5000 > me:22", "tcp 192.0.3.11:5001 > me:22"], 24,
         ["192.0.2.8=0:22:TCP", "192.0.3.11=0:22:TCP"]),
        (["tcp 192.0.2.8:5000 > me:80", "tcp 192.0.2.8:5001 > me:443",
          "tcp 192.0.2.8:5001 > me:81"], None, ["192.0.2.8=0:80-81,443:TCP"]),
        (["udp me:40000 > 192.0.2.53:53", "tcp me:40000 > 192.0.2.53:53"], None,
         ["0=192.0.2.53:53:TCP", "0=192.0.2.53:53:UDP"]),
        (["icmp/echo-request 192.0.2.1 > me"], None, ["192.0.2.1=0::1/echo-request/0"]),
        (["47 192.0.2.1 > me"], None, ["192.0.2.1=0::GRE"]),
        (["tcp 192.0.2.1:50000 > 198.51.100.7:8080"], None, ["192.0.2.1=198.51.100.7:8080:TCP"]),
        (["udp 0.0.0.0:68 > 255.255.255.255:67 out eth1"], None,
         ["0.0.0.0=255.255.255.255:67:UDP"]),
        (["udp [2001:db8::1]:5000 > me:514"], 24, ["[2001:db8::1]=0:514:UDP"]),
    ],
)  # fmt: skip
def test_few_and_narrow(packets: list[str], widen: int | None, permits: list[str]) -> None:
    """What a person would have written who saw the same packets."""
    learned = learn(audited("*=0", "0=*", "*=*"), ["Audit"], noted(*packets), HOST, widen=widen)
    assert filters(learned) == permits
    assert (learned.settled, learned.refused, learned.overruled) == ((), (), ())
    (rule,) = learned.rules
    assert (rule.name, rule.audit) == ("Learned from Audit", "Audit")
    assert learned.policy.rules[-1].conditions == OPENING


def test_both_ways_are_one_filter() -> None:
    """Where a rule without state notes requests and answers, the filter is a mirrored one."""
    policy = audited("*=0", "0=*", conditions=Conditions())
    both = ("tcp 192.0.2.8:50000 > me:22", "tcp me:22 > 192.0.2.8:50000")
    assert filters(learn(policy, ["Audit"], noted(*both), HOST)) == ["192.0.2.8+0:22:TCP"]
    asked = ("udp me:50000 > 192.0.2.53:53", "udp 192.0.2.53:53 > me:50000")
    assert filters(learn(policy, ["Audit"], noted(*asked), HOST)) == ["0+192.0.2.53:53:UDP"]


def test_nothing_is_wider_than_what_it_must_outrank() -> None:
    """Where the audit rule names a prefix, everybody's permit would be of no effect."""
    policy = audited("203.0.0.0/16=0")
    learned = learn(policy, ["Audit"], noted(*ANYBODY), HOST)
    assert filters(learned) == [f"203.0.{n}.7=0:443:TCP" for n in range(MANY_NETWORKS)]


def test_what_nothing_can_permit_is_said() -> None:
    """A filter of an audit rule that is as narrow as a permit can be blocks all the same."""
    policy = audited("203.0.1.7=0:443:TCP", "*=0")
    learned = learn(policy, ["Audit"], noted(ANYBODY[1], ANYBODY[2]), HOST)
    assert filters(learned) == ["203.0.2.7=0:443:TCP"]
    assert list(learned.refused) == noted(ANYBODY[1])


def test_what_another_rule_blocks_stays_blocked() -> None:
    """Everybody is too many where one of them is blocked by a rule that is enforced already."""
    block = Rule("Worm", (parse_short("*=0::TCP"),), BLOCK, Conditions())
    policy = audited("203.0.0.0/16=0:443:TCP", more=(block,))
    learned = learn(policy, ["Audit"], noted(*ANYBODY), HOST)
    # The permits of hosts outrank both; all packets they match would have been noted.
    assert filters(learned) == [f"203.0.{n}.7=0:443:TCP" for n in range(MANY_NETWORKS)]
    # Packets that open no connection are not noted, and 'Worm' goes on blocking them.
    assert learned.overruled == ()
    packet = to_packet(parse_packet(f"{ANYBODY[1]} established"), HOST, {"": None})
    assert judged(learned.policy, replace(packet, interface_type=TYPES["eth1"])).action is BLOCK


def test_everybody_is_too_many_for_another_rule() -> None:
    """A permit for all that would let through what another rule blocks is made narrower."""
    block = Rule("Worm", (parse_short("*=10.9.0.0/17::TCP"),), BLOCK)
    policy = audited("203.0.0.0/16=10.9.0.0/16", conditions=Conditions())
    alone = learn(policy, ["Audit"], noted(*ANYBODY), HOST)
    assert filters(alone) == ["*=0:443:TCP"]
    beside = learn(replace(policy, rules=(*policy.rules, block)), ["Audit"], noted(*ANYBODY), HOST)
    assert filters(beside) == [f"203.0.{n}.7=0:443:TCP" for n in range(MANY_NETWORKS)]
    assert (beside.overruled, beside.is_proven) == ((), True)


def test_a_rule_that_is_overruled_is_named() -> None:
    """Where even the narrowest permit lets something through that it blocks, it is told."""
    block = Rule("Worm", (parse_short("*=10.9.0.0/24"),), BLOCK)
    policy = audited("*=10.9.0.1", conditions=Conditions(), more=(block,))
    learned = learn(policy, ["Audit"], noted(ANYBODY[0]), HOST)
    # Broadcasts are for this host as well, and the audit does not stand for them.
    assert filters(learned) == ["203.0.0.7=0:443:TCP"]
    assert learned.overruled == ("Worm",)


def test_what_is_settled_is_not_learned_again() -> None:
    """Flows that are permitted by now ask for nothing, nor do those of rules that are gone."""
    policy = audited("*=0")
    flows = noted(*ANYBODY)
    learned = learn(policy, ["Audit"], flows, HOST)
    again = learn(learned.policy, ["Audit"], flows, HOST)
    assert (again.rules, list(again.settled)) == ((), flows)
    assert again.policy == learned.policy
    permit = replace(policy.rules[0], action=PERMIT)
    assert learn(replace(policy, rules=(permit,)), ["Audit"], flows, HOST).rules == ()
    gone = learn(policy, ["Audit"], noted(*ANYBODY, rule="Gone"), HOST)
    assert gone.rules == ()
    # More of them are added to the rule that is there.
    more = learn(learned.policy, ["Audit"], [*flows, *noted("udp 192.0.2.1:5000 > me:53")], HOST)
    assert [rule.name for rule in more.policy.rules] == ["Audit", "Learned from Audit"]
    assert list(map(format_filter, more.policy.rules[1].filters)) == [
        "*=0:443:TCP",
        "192.0.2.1=0:53:UDP",
    ]


def test_a_name_that_is_taken() -> None:
    """A rule that somebody wrote for something else is left alone, and long names are cut."""
    taken = Rule("Learned from Audit", (parse_short("*=0:1:TCP"),), BLOCK)
    learned = learn(audited("*=0", more=(taken,)), ["Audit"], noted(ANYBODY[0]), HOST)
    assert learned.rules[0].name == "Learned from Audit 2"
    long = "x" * 256
    policy = Policy("P", (Rule(long, (parse_short("*=0"),), BLOCK),))
    learned = learn(policy, [long], noted(ANYBODY[0], rule=long), HOST)
    assert len(learned.rules[0].name) == 256


@pytest.mark.parametrize(
    ("source", "destination", "flags", "answer"),
    [(50000, 443, "", False), (443, 50000, "", True), (443, 50000, "S", False),
     (50000, 443, "SA", True), (123, 123, "", False), (5000, 111, "", False),
     (60000, 50000, "", False), (50000, 60000, "", True)],
)  # fmt: skip
def test_which_side_is_the_service(source: int, destination: int, flags: str, answer: bool) -> None:
    """The packets that open a connection say it, and ports do where they differ in kind."""
    assert is_answer(source, destination, flags) is answer


def test_what_no_filter_is_narrow_enough_for() -> None:
    """A fragment without ports, and a port that cannot be written."""
    packet = Packet(Point.ARRIVING, Family.IPV4, 1, 2, 17, 5000, 0)
    assert flow_of(packet, "r") is None
    fragment = replace(packet, source_port=None, destination_port=None, later_fragment=True)
    assert flow_of(fragment, "r") is None
    assert flow_of(replace(packet, destination_port=1, parsed=False), "r") is None
    assert flow_of(replace(packet, destination_port=1), "r")


@given(
    st.lists(
        st.one_of(st.integers(0, 9), st.integers(0, 300)).map(
            lambda n: (Family.IPV4, 0xC0000200 + n)
        ),
        max_size=20,
    ),
    st.sampled_from([None, 8, 24, 30, 32]),
)
def test_prefixes_hold_who_was_seen(peers: list[tuple[Family, int]], widen: int | None) -> None:
    """All of them and, unless more is asked for, nobody else; and no two of them overlap."""
    prefixes = list(prefixes_of(peers, widen))
    held = [address for one in prefixes for address in addresses(one)]
    assert len(held) == len(set(held))
    assert set(held) >= {address for _, address in peers}
    if widen is None:
        assert set(held) == {address for _, address in peers}
    else:
        seen = {address for _, address in peers}
        assert all(one.length >= widen or seen >= set(addresses(one)) for one in prefixes)


def addresses(network: Network) -> range:
    return range(network.address, network.address + (1 << network.family.bits - network.length))
