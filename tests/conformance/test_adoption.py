"""What a process leaves in force when it ends, and the next one that takes it over."""

from __future__ import annotations

import pytest

from tests.conformance.stages import KernelStage, Stage, block, permit
from tests.conformance.wire import Datagram

POLICY = (block("*=0:1434:UDP"), block("0=*:1434:UDP"), permit("10.9.0.3=0:1434:UDP"))
OTHER = (block("*=0:1434-1435:UDP"), block("[fd09::3]=0"))


@pytest.fixture
def leftover(stage: Stage) -> KernelStage:
    """What a process has left in force, a dynamic rule too, before the next process has begun."""
    if not isinstance(stage, KernelStage):
        pytest.skip("nothing outlives a process in its memory")
    stage.put(*POLICY)
    stage.add(block("10.9.0.2=0:1436:UDP", "d", "dynamic"))
    stage.second_process()
    return stage


def test_only_rows_that_outlive_their_process_are_seen_by_another(stage: Stage) -> None:
    """The next process reads the digest of what is in force, or reads that there is nothing."""
    digest = stage.put(*POLICY).digest
    outlives = isinstance(stage, KernelStage)
    stage.second_process()
    assert stage.backend.observe().digest == (digest if outlives else None)


def test_what_is_left_stays_in_force(leftover: KernelStage) -> None:
    """The policy and dynamic rules hold while there is no process, and after the next begins."""
    assert leftover.disagreements() == []
    leftover.backend.adopt()
    assert leftover.disagreements() == []


def test_the_next_process_takes_over_without_a_gap(leftover: KernelStage) -> None:
    """No packet gets through while a state is adopted, or replaced by the same or another."""
    with leftover.wire.flood(Datagram(1434), Datagram(1434, outgoing=True)) as flood:
        leftover.backend.adopt()
        leftover.forget_dynamic()
        leftover.put(*POLICY)
        assert leftover.is_in_force()
        leftover.second_process()
        leftover.backend.adopt()
        leftover.put(*POLICY, *OTHER)
    assert flood.received == 0
    assert flood.sent > 20
    assert leftover.is_in_force()


def test_a_state_is_taken_over_without_being_adopted_first(leftover: KernelStage) -> None:
    """Applying takes it over; the dynamic rules ended with the process before."""
    leftover.forget_dynamic()
    leftover.put(*OTHER)
    assert leftover.is_in_force()
    assert leftover.backend.volatile_counts() == {}


def test_counts_are_taken_over_by_rule(leftover: KernelStage) -> None:
    """A rule that is in both policies goes on counting; one that is in the old one only is gone."""
    assert leftover.passes(Datagram(1434), Datagram(1434, peer=1)) == [False, True]
    leftover.forget_dynamic()
    kept = POLICY[0]
    leftover.put(kept, *OTHER[1:])
    assert leftover.credited() == {kept.origin: 1}
    leftover.passes(Datagram(1434))
    assert leftover.credited() == {kept.origin: 2}


def test_a_process_can_only_withdraw_what_another_left(leftover: KernelStage) -> None:
    """It need not have applied anything itself; afterwards nothing is found any more."""
    leftover.backend.remove()
    leftover.rules = ()
    leftover.forget_dynamic()
    assert leftover.opens()
    leftover.second_process()
    assert leftover.backend.observe().digest is None
