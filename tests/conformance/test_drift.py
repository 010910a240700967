"""What others do to what is enforced: the kernel keeps them from it, or it is seen and undone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.conformance.stages import Disturbance, KernelStage, Stage, block, permit
from tests.netns.site import eventually

POLICY = (
    block("*=0:1434:UDP"),
    block("0=*:1434:UDP"),
    block("10.9.0.2=0::UDP"),
    permit("10.9.0.2=0:1436:UDP"),
)
DYNAMIC = (block("10.9.0.3=0", "four", "dynamic"), block("[fd09::3]=0", "six", "dynamic"))


@pytest.fixture
def disturbances(stage: Stage) -> Sequence[Disturbance]:
    """With a policy and dynamic rules in force: what others can try."""
    stage.put(*POLICY)
    for one in DYNAMIC:
        stage.add(one)
    # What an earlier test had done by somebody else is news until now.
    stage.backend.changed()
    stage.put(*POLICY)
    return stage.disturbances()


def test_nothing_that_was_applied_is_taken_for_drift(
    stage: Stage, disturbances: Sequence[Disturbance]
) -> None:
    """However often it is read back, and while dynamic rules come and go."""
    assert bool(disturbances) == isinstance(stage, KernelStage)
    for _ in range(3):
        stage.drop(DYNAMIC[0])
        assert stage.is_in_force()
        stage.add(DYNAMIC[0])
        assert stage.is_in_force()


def test_every_disturbance_is_kept_off_or_seen_and_undone(
    stage: Stage, disturbances: Sequence[Disturbance]
) -> None:
    """It is named, and the next apply puts everything right: policy and dynamic rules."""
    for one in disturbances:
        one.do()
        if one.takes:
            assert eventually(stage.backend.changed), one
            drift = stage.backend.observe().drift
            assert drift, one
            assert all(drift), one
            # What was seen is told until it is put right.
            assert stage.backend.observe().drift, one
            stage.put(*POLICY)
        assert stage.is_in_force(), one
        assert {origin for origin in stage.credited() if origin.volatile} == {
            rule.origin for rule in DYNAMIC
        }, one


def test_the_next_process_trusts_nothing_that_it_finds(
    stage: Stage, disturbances: Sequence[Disturbance]
) -> None:
    """Whatever was done while nobody looked, the least of it first, it puts right."""
    stage.backend.close()
    for one in reversed(disturbances):
        one.do()
    stage.backend = stage.make()
    stage.forget_dynamic()
    stage.put(*POLICY)
    assert stage.is_in_force()
    for rule in DYNAMIC:
        stage.add(rule)
    assert stage.is_in_force()
