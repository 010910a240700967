"""Dynamic rules: they come and go one by one, and end by themselves."""

from __future__ import annotations

from functools import partial
from math import inf

import pytest

from ipsecd.model.values import InForce
from tests.conformance.refusals import error_of, following
from tests.conformance.stages import KernelStage, Stage, block, permit
from tests.conformance.wire import Datagram

POLICY = (block("*=0:1434:UDP"), permit("10.9.0.3=0:1434:UDP"))


def dynamic(text: str, name: str = "d") -> InForce:
    return block(text, name, "dynamic")


def test_what_is_added_counts_at_once_until_it_is_removed(stage: Stage) -> None:
    """This holds beside a policy and against it, for every kind of filter, IPv4 and IPv6."""
    stage.put(*POLICY)
    rules = [
        dynamic("*=0:1435:UDP", "port"),
        dynamic("10.9.0.2=0", "host"),
        dynamic("0=[fd09::3]", "host out"),
        dynamic("[fd09::/64]=0:1436:UDP", "prefix"),
        permit("10.9.0.3=0:1434:UDP", "permit", "dynamic"),
        permit("*=0:1434-1436:UDP", "range", "dynamic"),
    ]
    for rule in rules:
        stage.add(rule)
        assert stage.is_in_force()
    for rule in rules:
        stage.drop(rule)
        assert stage.is_in_force()
    assert stage.backend.volatile_counts() == {}


def test_rules_of_one_table_come_and_go_apart(stage: Stage) -> None:
    """No rule is taken for a change by others, and each has counts of its own."""
    stage.put(*POLICY)
    rules = [dynamic(f"*=0:{port}:UDP", f"port {port}") for port in (1435, 1436, 1437)]
    for rule in rules:
        stage.add(rule)
        assert stage.is_in_force()
    assert len(stage.backend.volatile_counts()) == 2 * len(rules)
    stage.drop(rules[1])
    assert stage.is_in_force()
    assert len(stage.backend.volatile_counts()) == 2 * (len(rules) - 1)


def test_none_outranks_what_the_settings_protect(stage: Stage) -> None:
    """However narrow it is, in both directions, and whichever of them comes first."""
    protected = permit("10.9.0.0/24+0:1434-1435:UDP", "protect", "configuration")
    narrow = [
        dynamic("10.9.0.2=0:1435:UDP", "in"),
        dynamic("0:1434=10.9.0.2:1436:UDP", "out"),
        dynamic("0+*", "everything"),
    ]
    for rule in narrow:
        stage.add(rule)
    stage.put(*POLICY, protected)
    assert stage.is_in_force()
    for rule in narrow:
        stage.drop(rule)
        stage.add(rule)
        assert stage.is_in_force()
    stage.put(*POLICY)
    assert stage.is_in_force()


def test_it_ends_when_its_time_is_over(stage: Stage) -> None:
    """No call is needed; rules with a later end, or with none, stay in force."""
    stage.put(*POLICY)
    stage.add(dynamic("10.9.0.2=0", "later"), stage.now() + 1000)
    stage.add(dynamic("0=*:1436:UDP", "never"))
    # A machine may be so busy that a short life is over before anybody can look.
    for life_s in (0.4, 5, 50):
        soon = stage.now() + life_s
        stage.add(dynamic("*=0:1435:UDP", "soon"), soon)
        stage.add(dynamic("[fd09::2]=0", "soon too"), soon)
        disagreements = stage.disagreements()
        if looked_in_time := stage.now() < soon:
            break
    assert looked_in_time
    assert disagreements == []
    stage.wait_until(soon)
    assert stage.is_in_force()
    assert stage.passes(Datagram(1435, peer=1)) == [True]
    # The daemon takes note a moment later.
    stage.drop(dynamic("*=0:1435:UDP", "soon"), dynamic("[fd09::2]=0", "soon too"))
    assert stage.is_in_force()


def test_its_end_can_be_moved(stage: Stage) -> None:
    """It can be later, never, or earlier again; the last one that was set counts."""
    stage.put(*POLICY)
    rule = dynamic("10.9.0.2=0")
    start = stage.now()
    for deadline in (start + 100, start + 0.2, inf, start + 0.5):
        stage.add(rule, deadline)
        assert stage.is_in_force()
    stage.wait_until(start + 0.5)
    assert stage.passes(Datagram(1435)) == [True]
    assert stage.is_in_force()


def test_a_rule_takes_the_place_of_the_one_of_its_name(stage: Stage) -> None:
    """The new rule may have the same entries, some of them, or others."""
    stage.put(*POLICY)
    for text in ("10.9.0.2=0", "10.9.0.0/24=0", "10.9.0.0/24=0::UDP", "*=0:1434:UDP", "*+0"):
        stage.add(dynamic(text))
        assert stage.is_in_force()
    stage.add(permit("10.9.0.2=0:1434:UDP", "d", "dynamic"))
    assert stage.is_in_force()


def test_no_packet_gets_through_while_a_rule_is_replaced(stage: Stage) -> None:
    """What both the old rule and the new one block stays blocked in between."""
    if not isinstance(stage, KernelStage):
        pytest.skip("this backend judges no packet while it takes a state")
    stage.put()
    stage.add(dynamic("10.9.0.2=0"))
    with stage.wire.flood(Datagram(1435)) as flood:
        for text in ("10.9.0.0/24=0", "*=0:1435:UDP", "10.9.0.2=0::UDP", "10.9.0.2=0") * 5:
            stage.add(dynamic(text))
    assert flood.received == 0
    assert flood.sent > 20


def test_an_entry_that_rules_share_stays_until_the_last_goes(stage: Stage) -> None:
    """It also stays until the latest of their ends."""
    stage.put()
    first, second = dynamic("10.9.0.2=0", "first"), dynamic("10.9.0.2=0", "second")
    end = stage.now() + 0.3
    stage.add(first, end)
    stage.add(second)
    stage.drop(first)
    assert stage.is_in_force()
    stage.add(first, end)
    stage.wait_until(end)
    assert stage.is_in_force()
    stage.drop(second, first)
    assert stage.is_in_force()


def test_a_policy_change_does_not_touch_them(stage: Stage) -> None:
    """They stay in force, keep their ends, and go on counting."""
    stage.put(*POLICY)
    end = stage.now() + 0.5
    lasting, ending = dynamic("10.9.0.2=0", "lasting"), dynamic("[fd09::2]=0", "ending")
    stage.add(lasting)
    stage.add(ending, end)
    stage.passes(Datagram(1435))
    before = stage.credited()
    assert before[lasting.origin] == 1
    for rules in ((), POLICY, (permit("*=0:1435:UDP"),)):
        stage.put(*rules)
        assert stage.credited()[lasting.origin] == 1
    assert stage.is_in_force()
    stage.wait_until(end)
    assert stage.is_in_force()


def test_what_is_refused_has_changed_nothing(stage: Stage) -> None:
    """Whichever call the kernel refuses, a rule of several entries is there whole or not at all."""
    stage.put(*POLICY)
    old = [dynamic("10.9.0.2=0"), dynamic("[fd09::2]=0")]
    new = [dynamic("10.9.0.2=0"), dynamic("*=0:1435-1436:UDP"), dynamic("0=*:1434:UDP")]
    stage.change([], old)
    for before, after in ((old, new), (new, old)):
        assert bool(refused_calls(stage, before, after)) == isinstance(stage, KernelStage)


def refused_calls(stage: Stage, before: list[InForce], after: list[InForce]) -> int:
    """How many calls there were to refuse, one in each try, while rules replaced others."""
    number, refused = 0, 0
    while True:
        held = set(stage.backend.volatile_counts())
        with stage.refusing(number) as refusals:
            error = error_of(partial(stage.change, [before[0].origin], after))
        assert refusals.refused or not error, error
        assert not error or set(stage.backend.volatile_counts()) == held
        assert stage.is_in_force()
        if not refusals.refused:
            return refused
        refused += 1
        number = following(number, error)
        stage.change([before[0].origin], before)
