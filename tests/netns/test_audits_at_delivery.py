"""Audits count what the same policy as blocks drops, also where a packet is looked at again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ipsecd.model.values import Conditions, InForce, InterfaceType
from tests.engine.test_lists import entries
from tests.equality.wire import make
from tests.netns import site
from tests.netns.audited import (
    AUDIT,
    BLOCK,
    PERMIT,
    Enforced,
    Policy,
    as_blocks,
    dynamic,
    of_audits,
    rule,
)
from tests.netns.deliveries import (
    ANYWHERE4,
    ANYWHERE6,
    BRIDGED,
    heard_from_first_machine,
    local_by,
    machines,
)
from tests.netns.site import HERE4, HERE6, OUTSIDE, PEER4, PEER6, eventually, run, send

pytestmark = pytest.mark.netns

WITNESS = """
table inet witness {
  counter arrived { }
  chain arrived {
    type filter hook input priority 300;
    iif wire0 udp dport 1434-1436 counter name arrived;
  }
  chain answers {
    type filter hook output priority -500;
    oif wire0 icmp type destination-unreachable drop;
    oif wire0 icmpv6 type destination-unreachable drop;
  }
}
"""
"""Counts what is delivered, and drops what the kernel answers: policies are about both."""
LISTS = {
    "far": entries(PEER4, f"[{PEER6}]", "192.168.1.0/24"),
    "near": entries(ANYWHERE4, "198.51.100.0/24", "[2001:db8:7::/64]", HERE4),
}
PACKETS = tuple(product((HERE4, ANYWHERE4, HERE6, ANYWHERE6), (1434, 1435, 1436)))


@pytest.fixture(scope="module", params=site.BACKENDS)
def enforced(request: pytest.FixtureRequest) -> Iterator[Enforced]:
    """A backend, and a peer that sends to addresses of which only the stack knows."""
    site.needs_isolation()
    with ExitStack() as stack:
        stack.enter_context(site.wire())
        stack.enter_context(local_by("iif wire0"))
        # What IPv6 itself has to say is said when the packets are sent.
        for address in (HERE4, HERE6):
            send(OUTSIDE, address, 9, 1)
        made = make(request.param)
        stack.callback(made.close)
        stack.callback(made.remove)
        yield Enforced(made, LISTS)


@pytest.fixture
def witness() -> Iterator[None]:
    run("nft", WITNESS)
    yield
    run("nft", "delete table inet witness")


def arrived() -> int:
    """How many datagrams were delivered."""
    (counter,) = (
        item["counter"]
        for item in json.loads(run("nft", "-j", "list", "counters", "table", "inet", "witness"))[
            "nftables"
        ]
        if "counter" in item
    )
    packets: int = counter["packets"]
    return packets


def compare(enforced: Enforced, policy: Policy) -> Counter[str]:
    """Have all packets come to a policy as blocks, and as audits; what these have counted."""
    results = []
    for rules in (as_blocks(policy), policy):
        enforced.put(rules)
        before = arrived()
        for address, port in PACKETS:
            send(OUTSIDE, address, port, 1)
        stops = {each.origin.rule for each in rules if each.action is BLOCK}

        def ended(before: int = before, stops: set[str] = stops) -> bool:
            dropped = sum(n for name, n in enforced.counted().items() if name in stops)
            return len(PACKETS) == dropped + arrived() - before

        assert eventually(ended), (rules, enforced.counted(), arrived() - before)
        assert enforced.entries_are_right(), rules
        results.append((of_audits(policy, enforced.counted()), arrived() - before))
    (dropped, passed), (audited, more) = results
    assert audited == dropped, policy
    if all(each.action is not BLOCK for each in policy):
        assert (more, passed + audited.total()) == (len(PACKETS), len(PACKETS)), policy
    return audited


ANYWHERE = f"*={ANYWHERE4}::UDP"
LISTED = {
    "entries": [(AUDIT, "@far=0:1434:UDP"), (AUDIT, "@far=@near:1435:UDP")],
    "a permit by a list": [(AUDIT, "*=@near"), (AUDIT, "@far=0"), (PERMIT, "@far=@near:1435:UDP")],
    "a block by a list": [(AUDIT, "@far=0:1434:UDP"), (BLOCK, "@far=0"), (PERMIT, "*=@near:1435")],
}
"""Policies by lists whose entries count."""
OPENING, LAN = Conditions(opening=True), Conditions(InterfaceType.LAN)
POLICIES = {
    "to this host": [(AUDIT, "*=0")],
    "a port": [(AUDIT, "*=0:1434:UDP"), (PERMIT, "*=0:1435:UDP")],
    "of two that match one that names no me ranks below": [
        (AUDIT, "*=0:1434:UDP"),
        (AUDIT, "*=*::UDP"),
    ],
    "and above": [(AUDIT, "*=0"), (AUDIT, f"{PEER4}={ANYWHERE4}"), (AUDIT, f"*=[{ANYWHERE6}]")],
    "a permit above it": [(AUDIT, "*=0:1434:UDP"), (AUDIT, "*=*"), (PERMIT, ANYWHERE)],
    "a permit to me": [(AUDIT, "*=*"), (PERMIT, "*=0:1434:UDP"), (AUDIT, "*=0:1434-1435:UDP")],
    "blocks below": [(AUDIT, "*=0:1434:UDP"), (BLOCK, "*=0"), (AUDIT, "*=*:1435:UDP")],
    "blocks above": [(BLOCK, f"{PEER4}=0:1434:UDP"), (AUDIT, "*=0::UDP"), (PERMIT, "*=*:1435:UDP")],
}


@pytest.mark.usefixtures("witness")
@pytest.mark.parametrize("name", [*POLICIES, *LISTED])
def test_what_only_the_second_look_knows_counts_there(enforced: Enforced, name: str) -> None:
    """A packet that the first look counted does not count again, nor does another's."""
    texts = {**POLICIES, **LISTED}[name]
    policy = [rule(*each) for each in texts]
    assert compare(enforced, policy)
    assert compare(enforced, [dynamic(*each) for each in texts])
    assert compare(enforced, [replace(each, conditions=OPENING) for each in policy])


FILTERS = tuple(
    f"{source}={destination}{ports}"
    for source, destination, ports in product(
        ("*", PEER4, "192.168.1.0/24", f"[{PEER6}]"),
        ("0", "*", ANYWHERE4, "198.51.100.0/24", f"[{ANYWHERE6}]", HERE4),
        ("", ":1434:UDP", ":1435-1436:UDP", "::UDP"),
    )
    if ("[" in source) + ("." in destination) < 2 and ("." in source) + ("[" in destination) < 2
)

BY_LISTS = tuple(
    f"{source}={destination}{ports}"
    for source, destination, ports in product(
        ("@far", "*"), ("0", "@near"), ("", ":1434:UDP", "::UDP")
    )
    if "@" in source + destination
)


@pytest.mark.usefixtures("witness")
def test_audits_count_at_delivery_what_they_drop_as_blocks(enforced: Enforced) -> None:
    """Generated policies of audits, permits and blocks, dynamic rules among them."""

    @seed(1434)
    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.lists(
            st.builds(
                lambda make_rule, action, text, asked: (
                    make_rule(action, text) if make_rule is dynamic else rule(action, text, asked)
                ),
                st.sampled_from([rule, rule, dynamic]),
                st.sampled_from([AUDIT, AUDIT, PERMIT, BLOCK]),
                st.one_of(*map(st.sampled_from, (FILTERS, BY_LISTS))),
                st.sampled_from([Conditions(), Conditions(), OPENING, LAN]),
            ),
            min_size=2,
            max_size=6,
            unique_by=lambda each: each.filter,
        )
    )
    def compare_one(policy: list[InForce]) -> None:
        compare(enforced, policy)

    compare_one()


def test_what_a_bridge_may_only_pass_on_counts_where_it_is_delivered(enforced: Enforced) -> None:
    """Each datagram to all counts once, whether or not the audit names this host."""
    policies = ("*=0:67:UDP",), ("*=*:67:UDP", "*=0:67:UDP"), ("*=0:67:UDP", "*=*::UDP")
    with machines():
        for texts, address in zip(policies, BRIDGED, strict=True):
            policy = [rule(AUDIT, text) for text in texts]
            enforced.put(as_blocks(policy))
            assert heard_from_first_machine(address)[1] == 0
            dropped = of_audits(policy, enforced.counted())
            enforced.put(policy)
            assert heard_from_first_machine(address) == (5, 5)
            assert of_audits(policy, enforced.counted()) == dropped
            assert dropped.total() == 5, (texts, address)
