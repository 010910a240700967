"""Lists come, change and go: what packets meet is what decide says, at every moment."""

from __future__ import annotations

from functools import partial

import pytest

from ipsecd.errors import Refused
from ipsecd.model.values import InForce
from tests.conformance.refusals import error_of, following
from tests.conformance.rows import Row
from tests.conformance.stages import KernelStage, Stage, block, permit
from tests.conformance.wire import Datagram
from tests.engine.test_lists import entries

POLICY = (
    block("@bans=0::UDP"),
    block("0=@bans:1436:UDP"),
    permit("10.9.0.2/31=0:1434:UDP"),
    permit("[fd09::2]=0::UDP"),
)
HOST, NET, ALL = "10.9.0.2", "10.9.0.0/24", "0.0.0.0/0"
FAR = "10.9.0.250"
LISTS = (
    (HOST,),
    (HOST, NET),
    (NET,),
    (ALL, HOST, "10.9.0.3"),
    (ALL, NET, "[fd09::/64]"),
    ("[fd09::3]", "[::]/0"),
    (),
    (NET, "[fd09::/64]", "[fd09::2]"),
    (HOST, FAR),
    ("10.9.0.3", FAR),
    (FAR,),
    (NET, FAR),
    (FAR, HOST),
    (FAR, "[fd09::2]", "[fd09::f]"),
    (FAR, "[fd09::3]", "[fd09::f]"),
)
"""What a list has, one after the other: entries that overlap come and go, and all of them.

Some change by a few entries of the same length, beside others that stay.
"""


def test_entries_come_and_go(stage: Stage) -> None:
    """One of two that overlap is removed, and the other stays as it was."""
    for texts in (*LISTS, *reversed(LISTS)):
        stage.put(*POLICY, lists={"bans": entries(*texts)})
        assert stage.is_in_force(), texts


def test_lists_of_both_actions_change_together(stage: Stage) -> None:
    """An address moves from those that are blocked to those that are permitted, and back."""
    rules = (block("@bad=0::UDP"), permit("@good=0::UDP"), block("*=0::UDP"))
    for bad, good in (((HOST,), ()), ((NET,), (HOST,)), ((HOST,), (NET,)), ((), (ALL, HOST))):
        stage.put(*rules, lists={"bad": entries(*bad), "good": entries(*good)})
        assert stage.is_in_force(), (bad, good)


def test_a_list_that_does_not_exist_matches_nothing(stage: Stage) -> None:
    """Until it comes, and when it has gone."""
    for lists in ({}, {"bans": entries(ALL)}, {}):
        stage.put(*POLICY, lists=lists)
        assert stage.is_in_force()


def test_what_stays_blocked_never_gets_through(stage: Stage) -> None:
    """While its address is in one entry, in another, or in both, as the list changes."""
    if not isinstance(stage, KernelStage):
        pytest.skip("this backend judges no packet while it takes a state")
    permitted_beside = (block("@bans=0::UDP"), permit("10.9.0.3=0:1436:UDP"))
    stage.put(*permitted_beside, lists={"bans": entries(HOST)})
    with (
        stage.wire.flood(Datagram(1434)) as blocked,
        stage.wire.flood(Datagram(1436, peer=1)) as permitted,
    ):
        for _ in range(5):
            for texts in ((NET,), (HOST,), (HOST, NET, "10.9.0.128/25"), (ALL,), (HOST,)):
                stage.put(*permitted_beside, lists={"bans": entries(*texts)})
    assert blocked.received == 0
    assert permitted.received == permitted.sent
    assert min(blocked.sent, permitted.sent) > 20
    assert stage.is_in_force()


def test_what_lies_between_entries_that_change_is_judged_as_ever(stage: Stage) -> None:
    """One address that is always listed, and its neighbour that never is, as others come and go."""
    if not isinstance(stage, KernelStage):
        pytest.skip("this backend judges no packet while it takes a state")
    rule = block("@bans=0::UDP")
    always = (HOST, "10.9.0.200", "10.9.0.250")
    near = [f"10.9.0.{n}" for n in (4, 5, 6, 9, 12, 13)]
    stage.put(rule, lists={"bans": entries(*always)})
    with (
        stage.wire.flood(Datagram(1434)) as blocked,
        stage.wire.flood(Datagram(1434, peer=1)) as permitted,
    ):
        for number in range(40):
            others = [text for bit, text in enumerate(near) if number >> bit & 1]
            stage.put(rule, lists={"bans": entries(*always, *others)})
    assert blocked.received == 0
    assert permitted.received == permitted.sent
    assert min(blocked.sent, permitted.sent) > 20
    assert stage.is_in_force()


def test_what_is_refused_has_changed_nothing(stage: Stage) -> None:
    """Whichever call the kernel refuses, the entries of before are in force, or the new ones."""
    before = {"bans": entries(HOST, "10.9.0.128/25")}
    after = {"bans": entries("10.9.0.3", "10.9.0.0/25", "[fd09::3]")}
    for same_lengths in (False, True):
        new = {"bans": entries("10.9.0.3", "10.9.0.0/25")} if same_lengths else after
        stage.put(*POLICY, lists=before)
        number = 0
        while True:
            with stage.refusing(number) as refusals:
                error = error_of(partial(stage.put, *POLICY, lists=new))
            assert refusals.refused or not error, error
            assert stage.is_in_force(), number
            if not refusals.refused:
                break
            number = following(number, error)
            stage.put(*POLICY, lists=before)
        assert stage.lists == new


def test_the_next_process_takes_lists_over(stage: Stage) -> None:
    """What they block stays blocked meanwhile; what has changed since is in force then."""
    if not isinstance(stage, KernelStage):
        pytest.skip("nothing outlives a process in its memory")
    stage.put(*POLICY, lists={"bans": entries(HOST)})
    stage.put(block("@bans=0::UDP"), lists={"bans": entries(HOST)})
    with stage.wire.flood(Datagram(1434)) as flood:
        stage.second_process()
        stage.backend.adopt()
        assert stage.disagreements() == []
        stage.put(block("@bans=0::UDP"), lists={"bans": entries(NET)})
        assert stage.is_in_force()
    assert flood.received == 0
    assert flood.sent > 20


def test_dynamic_rules_name_lists(stage: Stage, row: Row) -> None:
    """Beside a policy that names the same list, and alone; programs alone refuse them by name."""
    rule: InForce = block("@bans=0:1435:UDP", "d", "dynamic")
    for policy in (POLICY, ()):
        stage.put(*policy, lists={"bans": entries(NET)})
        if row.record == "programs":
            with pytest.raises(Refused, match="@bans"):
                stage.add(rule)
            continue
        stage.add(rule)
        stage.put(*policy, lists={"bans": entries(NET)})
        assert stage.is_in_force()
        stage.put(*policy, lists={"bans": entries("10.9.1.0/24")})
        assert stage.is_in_force()
        stage.drop(rule)
        stage.put(*policy)
        assert stage.is_in_force()


def test_matches_count_for_the_rule(stage: Stage) -> None:
    """However the entries of its list change."""
    rule = block("@bans=0:1434:UDP")
    for times, texts in enumerate(((HOST,), (HOST, "10.9.0.4"), (NET,)), 1):
        stage.put(rule, lists={"bans": entries(*texts)})
        stage.passes(Datagram(1434))
        assert stage.credited() == {rule.origin: times}
