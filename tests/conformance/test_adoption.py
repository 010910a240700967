"""What a process leaves in force when it ends, and the next one that takes it over."""

from __future__ import annotations

import pytest

from tests.conformance.stages import KernelStage, Stage, block, permit
from tests.conformance.wire import Datagram

POLICY = (block("*=0:1434:UDP"), block("0=*:1434:UDP"), permit("10.9.0.3=0:1434:UDP"))
OTHER = (block("*=0:1434-1435:UDP"), block("[fd09::3]=0"))


@pytest.fixture
def left(stage: Stage) -> KernelStage:
    """What a process has left, with a dynamic rule, and the one after it has not begun."""
    if not isinstance(stage, KernelStage):
        pytest.skip("nothing outlives a process in its memory")
    stage.put(*POLICY)
    stage.add(block("10.9.0.2=0:1436:UDP", "d", "dynamic"))
    stage.second_process()
    return stage


def test_only_rows_that_outlive_their_process_are_seen_by_another(stage: Stage) -> None:
    """The next process finds what is in force by its digest, or nothing and knows it."""
    digest = stage.put(*POLICY).digest
    outlives = isinstance(stage, KernelStage)
    stage.second_process()
    assert stage.backend.observe().digest == (digest if outlives else None)


def test_what_is_left_stays_in_force(left: KernelStage) -> None:
    """The policy and dynamic rules, while there is no process at all and after the next begins."""
    assert left.disagreements() == []
    left.backend.adopt()
    assert left.disagreements() == []


def test_the_next_process_takes_over_without_a_gap(left: KernelStage) -> None:
    """Adopted, and then replaced by the same policy or another: no packet gets through between."""
    with left.wire.flood(Datagram(1434), Datagram(1434, outgoing=True)) as flood:
        left.backend.adopt()
        left.forget_dynamic()
        left.put(*POLICY)
        assert left.is_in_force()
        left.second_process()
        left.backend.adopt()
        left.put(*POLICY, *OTHER)
    assert flood.received == 0
    assert flood.sent > 20
    assert left.is_in_force()


def test_a_state_is_taken_over_without_being_adopted_first(left: KernelStage) -> None:
    """Applying is enough; dynamic rules of the process before have ended with it."""
    left.forget_dynamic()
    left.put(*OTHER)
    assert left.is_in_force()
    assert left.backend.volatile_counts() == {}


def test_counts_are_taken_over_by_rule(left: KernelStage) -> None:
    """A rule that is in both policies goes on counting; one that is not is not told of."""
    assert left.passes(Datagram(1434), Datagram(1434, peer=1)) == [False, True]
    left.forget_dynamic()
    kept = POLICY[0]
    left.put(kept, *OTHER[1:])
    assert left.credited() == {kept.origin: 1}
    left.passes(Datagram(1434))
    assert left.credited() == {kept.origin: 2}


def test_a_process_can_only_withdraw_what_another_left(left: KernelStage) -> None:
    """Without having applied anything of its own; nothing of it is found after that."""
    left.backend.remove()
    left.rules = ()
    left.forget_dynamic()
    assert left.opens()
    left.second_process()
    assert left.backend.observe().digest is None
