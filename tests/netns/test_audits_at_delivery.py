"""Audits count what the same policy as blocks drops, also where a packet is looked at again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ipsecd.backend.base import Backend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.values import Action, Conditions, InForce, InterfaceType, Origin
from tests.equality.wire import make
from tests.netns import site
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

EXEMPT = tuple(exemption.name for exemption in ESSENTIALS)
PERMIT, BLOCK, AUDIT = Action.PERMIT, Action.BLOCK, Action.AUDIT
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
PACKETS = tuple(product((HERE4, ANYWHERE4, HERE6, ANYWHERE6), (1434, 1435, 1436)))

Policy = Sequence[InForce]


class Enforced:
    """A backend with one policy after another, and what its rules count."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._volatile = Volatile()
        backend.apply(compile_filters([]), self._volatile)
        self._before: Counter[str] = Counter()
        self._dynamic: set[Origin] = set()

    def put(self, policy: Policy) -> None:
        """Put a policy in force, dynamic rules too."""
        self._change(self._volatile.change(remove=self._dynamic))
        self._dynamic = {each.origin for each in policy if each.origin.volatile}
        static = [each for each in policy if not each.origin.volatile]
        self._backend.apply(compile_filters(static, EXEMPT), self._volatile)
        added = rows_of([each for each in policy if each.origin.volatile])
        self._change(self._volatile.change(add=added))
        self._before = self._read()

    def counted(self) -> Counter[str]:
        """How many packets each rule has counted since the policy was put in force."""
        return self._read() - self._before

    def _change(self, delta: Delta) -> None:
        if delta:
            self._backend.change(delta, self._volatile)

    def _read(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for part in self._backend.readings(()).now.values():
            counts.update({origin.rule: count.packets for origin, count in part.items()})
        tables = {table.id: table for table in self._volatile.tables}
        for (table, key), count in self._backend.volatile_counts().items():
            counts[(tables[table].find(key) or Origin("", "", "")).rule] += count.packets
        return counts


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
        yield Enforced(made)


@pytest.fixture
def witness() -> Iterator[None]:
    run("nft", WITNESS)
    yield
    run("nft", "delete table inet witness")


def rule(action: Action, text: str, conditions: Conditions | None = None) -> InForce:
    """A rule of the policy with one filter, that has the filter's text as its name."""
    asked = conditions or Conditions()
    return InForce(Origin("static", "P", text), parse_filter(text), action, asked)


def dynamic(action: Action, text: str) -> InForce:
    """A dynamic rule."""
    return replace(rule(action, text), origin=Origin("dynamic", "", text))


def as_blocks(policy: Policy) -> list[InForce]:
    return [replace(each, action=BLOCK) if each.action is AUDIT else each for each in policy]


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


def of_audits(policy: Policy, counts: Counter[str]) -> Counter[str]:
    names = {each.origin.rule for each in policy if each.action is AUDIT}
    return Counter({name: number for name, number in counts.items() if name in names})


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
        results.append((of_audits(policy, enforced.counted()), arrived() - before))
    (dropped, passed), (audited, more) = results
    assert audited == dropped, policy
    if all(each.action is not BLOCK for each in policy):
        assert (more, passed + audited.total()) == (len(PACKETS), len(PACKETS)), policy
    return audited


ANYWHERE = f"*={ANYWHERE4}::UDP"
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
@pytest.mark.parametrize("name", POLICIES)
def test_what_only_the_second_look_knows_counts_there(enforced: Enforced, name: str) -> None:
    """A packet that the first look counted does not count again, nor does another's."""
    policy = [rule(*each) for each in POLICIES[name]]
    assert compare(enforced, policy)
    assert compare(enforced, [dynamic(*each) for each in POLICIES[name]])
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
                st.sampled_from(FILTERS),
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
