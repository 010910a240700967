"""Whole states: all that is applied is in force at once and is read back, or nothing of it."""

from __future__ import annotations

import pytest

from ipsecd.backend.base import Observation
from ipsecd.model.values import InForce
from tests.conformance.refusals import error_of, following
from tests.conformance.stages import EMPTY, KernelStage, Stage, audit, block, permit
from tests.conformance.wire import Datagram
from tests.counts import counts_of

POLICIES: dict[str, tuple[InForce, ...]] = {
    "a port": (block("*=0:1434:UDP"), block("0=*:1434:UDP")),
    "a host and a hole in it": (block("10.9.0.2=0"), permit("10.9.0.2=0:1435:UDP")),
    "a range": (block("*=0:1434-1435:UDP"), permit("*=0:1435:UDP")),
    "prefixes": (
        block("10.9.0.0/24=0"),
        permit("10.9.0.2/31=0::UDP"),
        block("10.9.0.3=0"),
        block("[fd09::/64]=0"),
        permit("[fd09::3]=0"),
    ),
    "mirrored": (block("0+[fd09::2]::UDP"), block("0+10.9.0.3:1436:UDP")),
    "all, but one port of one peer": (block("*+0"), permit("10.9.0.2+0:1436:UDP")),
    "all, but what the settings protect": (
        block("*+0"),
        block("10.9.0.2=0:1435:UDP"),
        permit("10.9.0.0/24+0:1435:UDP", "protect", "configuration"),
        permit("[fd09::3]+0:1436:UDP", "protect", "configuration"),
    ),
    "audits": (
        audit("*+0", "all"),
        block("*=0:1434:UDP", "port"),
        audit("10.9.0.2=0::UDP", "host"),
        permit("10.9.0.3=0", "permitted"),
    ),
    "ties": (block("*=0:1434:UDP", "a"), permit("*=0:1434:UDP", "b"), permit("*=0:1434:UDP", "c")),
}


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_applied_is_in_force(stage: Stage, name: str) -> None:
    """When apply returns, packets meet the new policy, and it is what is read back."""
    stage.put(*POLICIES[name])
    assert stage.is_in_force()


def test_each_policy_takes_the_place_of_the_one_before(stage: Stage) -> None:
    """The next policy leaves nothing of the one before, in whatever order they come."""
    for rules in (*POLICIES.values(), *reversed(POLICIES.values()), ()):
        stage.put(*rules)
        assert stage.is_in_force()


def test_the_same_policy_again_changes_nothing(stage: Stage) -> None:
    """The digest and the counts stay as they were."""
    first = stage.put(*POLICIES["a port"])
    stage.passes(Datagram(1434))
    counted = stage.credited()
    assert counted
    assert stage.put(*reversed(POLICIES["a port"])).digest == first.digest
    assert stage.credited() == counted
    assert stage.is_in_force()


def test_no_packet_meets_half_a_state(stage: Stage) -> None:
    """What two policies block never gets through between them; what both permit always does."""
    if not isinstance(stage, KernelStage):
        pytest.skip("this backend judges no packet while it takes a state")
    first = (block("*=0:1434-1435:UDP"), block("10.9.0.3=0"), permit("10.9.0.2=0:1436:UDP"))
    second = (block("*=0"), permit("10.9.0.2=0:1436:UDP"), permit("*=0:1435:UDP"))
    stage.put(*first)
    with (
        stage.wire.flood(Datagram(1434), Datagram(1434, peer=1)) as blocked,
        stage.wire.flood(Datagram(1436)) as permitted,
    ):
        for _ in range(5):
            stage.put(*second)
            stage.put(*first)
    assert blocked.received == 0
    assert permitted.received == permitted.sent
    assert min(blocked.sent, permitted.sent) > 20


def test_what_is_refused_has_changed_nothing(stage: Stage) -> None:
    """Whichever call the kernel refuses, if apply raises the whole old state is in force."""
    old, new = POLICIES["a port"], POLICIES["prefixes"]
    stage.put(*old)
    number, refused = 0, 0
    while True:
        with stage.refusing(number) as refusals:
            error = error_of(lambda: stage.put(*new))
        assert refusals.refused or not error, error
        assert stage.is_in_force()
        if not refusals.refused:
            break
        refused += 1
        number = following(number, error)
        stage.put(*old)
    assert stage.rules == new
    assert bool(refused) == isinstance(stage, KernelStage)


def test_a_first_state_is_whole_or_not_there(stage: Stage) -> None:
    """If nothing was in force before, a refusal leaves nothing in force, or all that was asked."""
    for number in (0, 20):
        stage.backend.remove()
        stage.rules = ()
        with stage.refusing(number) as refusals:
            error = error_of(lambda: stage.put(*POLICIES["a port"]))
        assert refusals.refused or not error, error
        assert not error or stage.backend.observe().digest is None
        assert stage.opens()
    stage.put(*POLICIES["a port"])
    assert stage.is_in_force()


def test_an_empty_policy_is_a_state_too(stage: Stage) -> None:
    """It is read back by its digest, and lets everything pass."""
    stage.put()
    assert stage.backend.observe() == Observation(EMPTY.digest)
    assert all(stage.passes(Datagram(1434), Datagram(1434, outgoing=True)))
    assert counts_of(stage.backend) == {}
    assert stage.backend.volatile_counts() == {}


def test_five_thousand_rules_take_the_place_of_as_many_others(stage: Stage) -> None:
    """Each is in force and counted for itself."""
    for low in (0, 128):
        others = [
            block(f"10.20.{low + number // 100}.{number % 100}=0", f"{number}")
            for number in range(4999)
        ]
        stage.put(block("10.9.0.2=0:1434:UDP", f"peer {low}"), *others)
        assert stage.is_in_force()
        assert counts_of(stage.backend).keys() == {rule.origin for rule in stage.rules}
        assert stage.credited() == {stage.rules[0].origin: 1}
