"""How a backend ends: it withdraws its rules, gives way to another, or leaves all in force."""

from __future__ import annotations

import pytest

from tests.conformance.rows import programs_alone
from tests.conformance.stages import KernelStage, Stage, block
from tests.conformance.wire import Datagram
from tests.counts import counts_of

POLICY = (block("*=0:1434:UDP"), block("0=*:1434:UDP"))
DYNAMIC = block("10.9.0.2=0", "d", "dynamic")


def test_nothing_is_left_of_what_is_removed(stage: Stage) -> None:
    """Packets pass, nothing is read back, and nobody finds anything later."""
    stage.put(*POLICY)
    stage.add(DYNAMIC)
    stage.backend.remove()
    stage.rules = ()
    stage.forget_dynamic()
    assert stage.backend.observe().digest is None
    assert stage.opens()
    assert counts_of(stage.backend) == {}
    stage.second_process()
    assert stage.backend.observe().digest is None


def test_to_remove_nothing_is_no_error(stage: Stage) -> None:
    """A backend may remove twice, and so may a process that never applied anything."""
    for _ in range(2):
        stage.backend.remove()
        stage.second_process()
    stage.backend.remove()


def test_it_can_enforce_again_after_it_was_removed(stage: Stage) -> None:
    """The counts begin at 0 again."""
    stage.put(*POLICY)
    stage.passes(Datagram(1434))
    stage.backend.remove()
    stage.put(*POLICY)
    assert stage.credited() == {}
    assert stage.is_in_force()


def test_it_gives_way_to_another_without_a_gap(stage: Stage) -> None:
    """The other enforces the same before the first stops; when it withdraws, all packets pass."""
    if not isinstance(stage, KernelStage):
        pytest.skip("nothing takes the place of what judges no real packets")
    stage.put(*POLICY)
    with stage.wire.flood(Datagram(1434), Datagram(1434, outgoing=True)) as flood:
        before, stage.backend = stage.backend, programs_alone()
        stage.put(*POLICY)
        before.give_way()
        before.close()
    assert flood.received == 0
    assert flood.sent > 20
    assert stage.is_in_force()
    stage.backend.remove()
    stage.backend.close()
    stage.rules = ()
    assert stage.opens()
    stage.backend = stage.make()
    assert stage.backend.observe().digest is None
