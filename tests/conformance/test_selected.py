"""The hosts that selectors stand for come and go beside a policy, and only they are rebuilt."""

from __future__ import annotations

from tests.conformance.stages import DATAGRAMS, Stage, block, permit
from tests.conformance.test_counts import named

LISTED = (
    *(block(f"10.{n}.0.0/16=0::UDP", "list") for n in range(20, 60)),
    *(block(f"10.60.0.{n}=0::UDP", "list") for n in range(80)),
)
POLICY = (
    *LISTED,
    block("10.9.0.3=0::UDP", "m"),
    permit("10.9.0.0/24=0:1434:UDP", "network"),
    block("*=0:1435:UDP", "port"),
    block("[fd09::2]=0:1436:UDP", "m"),
)
SELECTED = (
    (block("10.9.0.2=0::UDP", "web"),),
    (block("10.9.0.3=0::UDP", "a"), permit("10.9.0.2=0:1435:UDP", "web")),
    (block("10.9.0.3=0::UDP", "z"), block("[fd09::2]=0:1436:UDP", "a")),
    (permit("10.9.0.3=0::UDP", "web"), block("10.9.0.0/28=0:1434:UDP", "front")),
    (),
    (block("[fd09::3]=0::UDP", "web"), block("10.9.0.2=0::UDP", "web")),
)


def test_what_selectors_stand_for_comes_and_goes(stage: Stage) -> None:
    """Every change shows in what packets meet and in what is read back; the policy stays."""
    for selected in (*SELECTED, *reversed(SELECTED)):
        stage.put(*POLICY, selected=selected)
        assert stage.is_in_force()


def test_it_is_credited_to_the_rule_that_explain_names(stage: Stage) -> None:
    """There is another rule that names the same host; either of the two may be first by name."""
    for selected in SELECTED:
        stage.put()
        stage.put(*POLICY, selected=selected)
        stage.passes(*DATAGRAMS)
        assert stage.credited() == named(stage, *DATAGRAMS)
        assert stage.credited()


def test_it_stands_beside_dynamic_rules(stage: Stage) -> None:
    """Which change in between, and of which a new form of match puts steps elsewhere."""
    stage.put(*POLICY, selected=SELECTED[0])
    stage.add(permit("10.9.0.2=0:1434:UDP", "d", "dynamic"))
    assert stage.is_in_force()
    stage.put(*POLICY, selected=SELECTED[3])
    assert stage.is_in_force()
    stage.drop(permit("10.9.0.2=0:1434:UDP", "d", "dynamic"))
    assert stage.is_in_force()
