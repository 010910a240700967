"""A policy and dynamic rules that change in one moment: a packet meets all of the old or new."""

from __future__ import annotations

import pytest

from ipsecd.model.values import InForce
from tests.conformance.refusals import error_of, following
from tests.conformance.stages import KernelStage, Stage, block, permit
from tests.conformance.wire import Datagram

Both = tuple[tuple[InForce, ...], tuple[InForce, ...]]
"""The rules of a policy, and dynamic ones."""


def dynamic(text: str, name: str = "d") -> InForce:
    return block(text, name, "dynamic")


KEPT = permit("10.9.0.4=0::UDP", "kept", "dynamic")
"""Of the form that a rule of the new ones has, so that packets look for it all the time."""
OLD: Both = (
    (permit("10.9.0.2=0:1436:UDP"),),
    (dynamic("10.9.0.0/24=0"), dynamic("[fd09::2]=0", "six"), KEPT),
)
NEW: Both = (
    (block("10.9.0.2=0:1435:UDP"),),
    (permit("10.9.0.2=0::UDP", "d", "dynamic"), dynamic("[fd09::/64]=0:1434:UDP", "six"), KEPT),
)
"""Both block port 1435. The dynamic rules of the second, with the policy of the first, do not."""


def put(stage: Stage, both: Both) -> None:
    rules, dynamic_rules = both
    stage.switch(rules, [rule.origin for rule in dynamic_rules], dynamic_rules)


def test_both_are_in_force_when_it_returns(stage: Stage) -> None:
    """Whatever comes, goes, or stays of the dynamic rules."""
    put(stage, OLD)
    assert stage.is_in_force()
    put(stage, NEW)
    assert stage.is_in_force()
    others = [dynamic("*=0:1434:UDP", "new"), dynamic("0=10.9.0.3", "out")]
    stage.switch(OLD[0], [OLD[1][0].origin], others)
    assert stage.is_in_force()
    stage.switch((), [rule.origin for rule in others], [])
    assert stage.is_in_force()
    stage.add(dynamic("*=0:1436:UDP", "later"))
    assert stage.is_in_force()


def test_what_stays_goes_on_counting(stage: Stage) -> None:
    """Also where another rule of its form comes or goes; what comes back begins at nothing."""
    first, second = dynamic("10.9.0.2=0", "first"), dynamic("10.9.0.3=0", "second")
    stage.put()
    stage.change([], [first, second])
    stage.passes(Datagram(1434), Datagram(1434, peer=1))
    assert stage.credited() == {first.origin: 1, second.origin: 1}
    stage.switch(OLD[0], [second.origin], [])
    assert stage.credited() == {first.origin: 1}
    stage.passes(Datagram(1434))
    assert stage.credited() == {first.origin: 2}
    stage.switch((), [], [second])
    assert stage.credited() == {first.origin: 2}


def test_no_packet_meets_a_mixture(stage: Stage) -> None:
    """What the old and the new block stays blocked, and what both permit passes."""
    if not isinstance(stage, KernelStage):
        pytest.skip("this backend judges no packet while it takes a state")
    put(stage, OLD)
    with (
        stage.wire.flood(Datagram(1435)) as blocked,
        stage.wire.flood(Datagram(1436)) as permitted,
    ):
        for _ in range(20):
            put(stage, NEW)
            put(stage, OLD)
    assert blocked.received == 0, f"{blocked.received} of {blocked.sent}"
    assert permitted.received == permitted.sent
    assert min(blocked.sent, permitted.sent) > 20


def test_what_is_refused_has_changed_nothing(stage: Stage) -> None:
    """Whichever call the kernel refuses, the old policy and the old rules are in force."""
    put(stage, OLD)
    number, refused = 0, 0
    while True:
        held = set(stage.backend.volatile_counts())
        with stage.refusing(number) as refusals:
            error = error_of(lambda: put(stage, NEW))
        assert refusals.refused or not error, error
        assert not error or set(stage.backend.volatile_counts()) == held
        assert stage.is_in_force()
        if not refusals.refused:
            break
        refused += 1
        number = following(number, error)
        put(stage, OLD)
    assert bool(refused) == isinstance(stage, KernelStage)
