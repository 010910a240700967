"""What others do to the enforced rules is prevented by the kernel, or it is seen and undone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.conformance.stages import Disturbance, KernelStage, Stage, block, permit
from tests.engine.test_lists import entries
from tests.netns.site import eventually

POLICY = (
    block("*=0:1434:UDP"),
    block("0=*:1434:UDP"),
    block("10.9.0.2=0::UDP"),
    block("@bans=0:1435:UDP"),
    permit("10.9.0.2=0:1436:UDP"),
)
DYNAMIC = (block("10.9.0.3=0", "four", "dynamic"), block("[fd09::3]=0", "six", "dynamic"))


@pytest.fixture
def disturbances(stage: Stage) -> Sequence[Disturbance]:
    """Put a policy and dynamic rules in force; the changes that others can try."""
    stage.put(*POLICY, lists={"bans": entries("10.9.0.3", "10.9.0.0/28")})
    for rule in DYNAMIC:
        stage.add(rule)
    # What an earlier test had done by somebody else is news until now.
    stage.backend.changed()
    stage.put(*POLICY)
    return stage.disturbances()


def test_nothing_that_was_applied_is_taken_for_drift(
    stage: Stage, disturbances: Sequence[Disturbance]
) -> None:
    """There is no drift however often it is read back, and while dynamic rules come and go."""
    assert bool(disturbances) == isinstance(stage, KernelStage)
    for _ in range(3):
        stage.drop(DYNAMIC[0])
        assert stage.is_in_force()
        stage.add(DYNAMIC[0])
        assert stage.is_in_force()


def test_every_disturbance_is_kept_off_or_seen_and_undone(
    stage: Stage, disturbances: Sequence[Disturbance]
) -> None:
    """Drift is named, and the next apply restores both the policy and the dynamic rules."""
    for disturbance in disturbances:
        disturbance.do()
        if disturbance.takes:
            assert eventually(stage.backend.changed), disturbance
            drift = stage.backend.observe().drift
            assert drift, disturbance
            assert all(drift), disturbance
            # What was seen is told until it is put right.
            assert stage.backend.observe().drift, disturbance
            stage.put(*POLICY)
        assert stage.is_in_force(), disturbance
        assert {origin for origin in stage.credited() if origin.volatile} == {
            rule.origin for rule in DYNAMIC
        }, disturbance


def test_the_next_process_trusts_nothing_that_it_finds(
    stage: Stage, disturbances: Sequence[Disturbance]
) -> None:
    """It undoes whatever was done while no process looked, beginning with the smallest change."""
    stage.backend.close()
    for disturbance in reversed(disturbances):
        disturbance.do()
    stage.backend = stage.make()
    stage.forget_dynamic()
    stage.put(*POLICY)
    assert stage.is_in_force()
    for rule in DYNAMIC:
        stage.add(rule)
    assert stage.is_in_force()
