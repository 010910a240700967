"""Preparation: what takes long is done beforehand, and decides nothing until it is applied."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ipsecd.backend.base import Observation
from ipsecd.compiler.classifier import Classifier
from tests.conformance.refusals import error_of, following
from tests.conformance.stages import Stage, block, compiled, permit
from tests.conformance.wire import Datagram

T = TypeVar("T")

OLD = (block("*=0:1434:UDP"),)
LONG = (
    *(block(f"10.9.{number // 250}.{number % 250 + 2}=0", "hosts") for number in range(2500)),
    permit("*=0:1435:UDP"),
)
"""So long that every backend prepares it, and in force for a peer of the wire."""
BAN = block("*=0:1436:UDP", store="dynamic")


def at_once(work: Callable[[], T]) -> T:
    return work()


def prepare(stage: Stage, between: Callable[[], object] = lambda: None) -> Classifier:
    """Prepare LONG, and do something else after every part of that."""
    classifier = compiled(LONG, ())

    def noted(work: Callable[[], T]) -> T:
        result = work()
        between()
        return result

    stage.backend.prepare(classifier, noted)
    return classifier


def test_what_is_prepared_is_not_in_force(stage: Stage) -> None:
    """Packets meet the old policy until the new one is applied, and then the new one."""
    stage.put(*OLD)
    prepare(stage, lambda: stage.backend.observe() == Observation(compiled(OLD, ()).digest))
    assert stage.is_in_force()
    stage.put(*LONG)
    assert stage.is_in_force()


def test_a_ban_between_two_parts_is_in_force_before_and_after_the_switch(stage: Stage) -> None:
    """Whenever it comes, it is there at once and stays."""
    stage.put(*OLD)

    def ban() -> None:
        stage.drop(BAN)
        stage.add(BAN)

    prepare(stage, ban)
    stage.add(BAN)
    assert stage.is_in_force()
    assert stage.passes(Datagram(1436)) == [False]
    stage.put(*LONG)
    assert stage.is_in_force()


def test_what_is_discarded_has_changed_nothing(stage: Stage) -> None:
    """The old policy is in force, and what was discarded can be applied all the same."""
    stage.put(*OLD)
    prepare(stage)
    stage.backend.discard()
    stage.backend.discard()
    assert stage.is_in_force()
    stage.put(*LONG)
    assert stage.is_in_force()


def test_another_policy_than_what_was_prepared_can_be_applied(stage: Stage) -> None:
    """It is in force as a whole, and so is what was prepared, after it."""
    stage.put(*OLD)
    prepare(stage)
    stage.put(permit("*=0:1435:UDP"), block("*=0"))
    assert stage.is_in_force()
    stage.put(*LONG)
    assert stage.is_in_force()


def test_hosts_that_are_selected_after_a_preparation_are_in_force(stage: Stage) -> None:
    """As when a container comes between the preparation and the switch."""
    stage.put(*OLD)
    prepare(stage)
    stage.put(*LONG, selected=[block("10.9.0.3=0:1435:UDP")])
    assert stage.is_in_force()


def test_a_preparation_that_is_refused_leaves_the_old_policy_in_force(stage: Stage) -> None:
    """Whichever call the kernel refuses; and the policy can be applied after that."""
    stage.put(*OLD)
    number = 0
    while True:
        with stage.refusing(number) as refusals:
            error = error_of(lambda: prepare(stage))
        assert refusals.refused or not error, error
        stage.backend.discard()
        assert stage.backend.observe() == Observation(compiled(OLD, ()).digest)
        if not refusals.refused:
            break
        number = following(number, error)
    assert stage.is_in_force()
    stage.put(*LONG)
    assert stage.is_in_force()
