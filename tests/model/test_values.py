"""Values are valid or do not exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Family, HostName, Keyword, Network
from ipsecd.model.exemptions import exemption
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import (
    ICMP,
    Action,
    Endpoint,
    Filter,
    Policy,
    PortRange,
    Rule,
    Store,
    filters_of,
)

V4, V6 = Family.IPV4, Family.IPV6
ANY, ME = Endpoint(), Endpoint(Keyword.ME)
WEB = Endpoint(Keyword.ME, (PortRange(80, 80),))
FILTER = Filter(ANY, ME, 17)
RULE = Rule("R", (FILTER,), Action.BLOCK)


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda: Network(V4, 0, 33), "prefix length 33"),
        (lambda: Network(V6, 0, -1), "prefix length -1"),
        (lambda: Network(V4, 1 << 32, 32), "does not fit"),
        (lambda: Network(V4, 1, 31), "bits set beyond"),
        (lambda: HostName(""), "not a DNS name"),
        (lambda: HostName("x" * 254), "not a DNS name"),
        (lambda: HostName("x", (Network(V4, 0, 8),)), "only stand for hosts"),
        (lambda: PortRange(0, 5), "port 0"),
        (lambda: PortRange(1, 65536), "port 65536"),
        (lambda: PortRange(9, 5), "ends before it begins"),
        (lambda: Endpoint(ports=(PortRange(1, 5), PortRange(5, 9))), "overlap"),
        (lambda: Filter(ANY, ME, 256), "protocol 256"),
        (lambda: Filter(ANY, WEB, ICMP), "ICMP has no ports"),
        (lambda: Filter(ANY, WEB, 47), "47 has no ports"),
        (
            lambda: Filter(Endpoint(Network(V4, 0, 0)), Endpoint(Network(V6, 0, 0))),
            "neither IPv4 nor IPv6",
        ),
        (lambda: Filter(Endpoint(Network(V6, 0, 0)), ME, 60), "neither IPv4 nor IPv6"),
        (lambda: Rule("R", (), Action.BLOCK), "has no filters"),
        (lambda: Rule(" R", (FILTER,), Action.BLOCK), "cannot name a rule"),
        (lambda: Policy("a\nb"), "cannot name a policy"),
        (lambda: Policy("x" * 257), "cannot name a policy"),
        (lambda: Policy("P", (RULE, RULE)), "two rules named 'R'"),
        (lambda: Policy("P", (), "\ud800"), "description of policy 'P'"),
        (lambda: exemption("x"), "no exemption 'x'"),
        (
            lambda: Packet(Point.ARRIVING, V4, 1, 2, 17, 1, 2, later_fragment=True),
            "fragment has no ports",
        ),
        (lambda: Packet(Point.ARRIVING, V4, 1, 2, 17, 1, None), "both ports or none"),
    ],
)
def test_what_cannot_be_is_refused(build: Callable[[], object], what: str) -> None:
    """A constructor raises the one error for input, and says what is wrong."""
    with pytest.raises(InvalidInput) as caught:
        build()
    assert what in caught.value.message


def test_ports_are_sorted_and_named_once() -> None:
    """Two ways to list the same ports are one value."""
    listed = (PortRange(443, 443), PortRange(80, 80), PortRange(443, 443))
    assert Endpoint(ports=listed) == Endpoint(ports=(PortRange(80, 80), PortRange(443, 443)))


def test_the_same_filter_twice_in_a_rule_is_once() -> None:
    """Repeating a filter changes nothing, and order is kept."""
    second = Filter(ME, ANY)
    assert Rule("R", (FILTER, second, FILTER), Action.BLOCK).filters == (FILTER, second)


def test_values_do_not_change() -> None:
    """A change gives a new value."""
    with pytest.raises(FrozenInstanceError):
        FILTER.mirrored = True  # type: ignore[misc]


def test_a_rule_replaces_the_one_of_its_name_in_its_place() -> None:
    """Names are unique, and the document keeps its order."""
    policy = Policy("P", (RULE, Rule("S", (FILTER,), Action.PERMIT)))
    new = Rule("R", (FILTER,), Action.PERMIT)
    assert [rule.name for rule in policy.with_rule(new).rules] == ["R", "S"]
    assert policy.with_rule(new).rules[0] is new
    added = Rule("T", (FILTER,), Action.BLOCK)
    assert policy.with_rule(added).rules[-1] is added
    assert policy.without_rules(frozenset({"S", "absent"})).rules == (RULE,)


def test_families_follow_from_addresses_and_protocol() -> None:
    """An address narrows to its IP version; a name counts as both until it is resolved."""
    four = Network(V4, 0x0A000001, 32)
    assert FILTER.families == {V4, V6}
    assert Filter(Endpoint(four), ME).families == {V4}
    assert Filter(Endpoint(HostName("a")), ME).families == {V4, V6}
    assert Filter(Endpoint(HostName("a", (four,))), ME).families == {V4}
    assert Filter(ANY, ME, 0).families == {V4}


def test_ports_alone_stand_for_tcp_and_udp() -> None:
    """No protocol with ports is two protocols; without ports it is any."""
    assert Filter(ANY, WEB).protocols == (6, 17)
    assert Filter(ANY, ME).protocols == (None,)
    assert Filter(ANY, WEB, 132).protocols == (132,)


def test_filters_in_force_carry_their_origin() -> None:
    """What is enforced leads back to what a person wrote; only dynamic rules are volatile."""
    static = filters_of(Policy("P", (RULE,)), Store.STATIC)
    assert [(flt.origin.store, flt.origin.policy, flt.origin.rule) for flt in static] == [
        ("static", "P", "R")
    ]
    assert not static[0].origin.volatile
    assert filters_of(Policy("P", (RULE,)), Store.DYNAMIC)[0].origin.volatile
