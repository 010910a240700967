"""Counts: every packet is credited once, to the rule that ``explain`` names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ipsecd.model.values import Action, InForce, Origin
from tests.conformance.stages import DATAGRAMS, Stage, audit, block, permit
from tests.conformance.wire import Datagram
from tests.counts import counts_of

POLICY = (
    block("*=0:1434:UDP", "port"),
    block("10.9.0.0/24=0::UDP", "prefix"),
    permit("10.9.0.3=0::UDP", "host"),
    block("10.9.0.3=0:1435-1436:UDP", "range"),
    permit("0=*:1434:UDP", "out"),
    block("0=[fd09::3]::UDP", "out to a host"),
    block("[fd09::2]=0:1436:UDP", "twin b"),
    block("[fd09::2]=0:1436:UDP", "twin a"),
    permit("[fd09::2]=0:1436:UDP", "twin that loses"),
)
DYNAMIC = (
    block("10.9.0.2=0:1436:UDP", "d", "dynamic"),
    permit("[fd09::3]=0::UDP", "e", "dynamic"),
    block("*=0:1435:UDP", "f", "dynamic"),
)


def named(stage: Stage, *datagrams: Datagram) -> Counter[Origin]:
    """How often ``explain`` names each rule for these datagrams."""
    decisions = [stage.expected(datagram) for datagram in datagrams]
    told = (each for decision in decisions for each in (decision.by, decision.audited))
    return Counter(each.origin for each in told if each)


def test_a_packet_is_credited_to_the_rule_that_explain_names(stage: Stage) -> None:
    """Other rules match it too: blocks, permits, and rules with the same filter."""
    stage.put(*POLICY)
    stage.passes(*DATAGRAMS)
    assert stage.credited() == named(stage, *DATAGRAMS)
    assert {origin.rule for origin in stage.credited()} >= {"host", "range", "twin a", "out"}


def test_of_nested_prefixes_the_narrowest_is_credited(stage: Stage) -> None:
    """The prefixes are of one rule or of several, in short lists and in long ones."""
    prefixes = ("10.0.0.0/8", "10.9.0.0/24", "10.9.0.2/31", "10.9.0.2", "[fd00::/8]", "[fd09::2]")
    others = [block(f"10.{n}.0.0/16=0::UDP", "list") for n in range(20, 60)]
    for more in ([], others):
        stage.put(*(block(f"{prefix}=0::UDP") for prefix in prefixes), *more)
        stage.passes(*DATAGRAMS)
        assert stage.credited() == named(stage, *DATAGRAMS)
        stage.put()


def test_what_blocks_overlap_in_is_credited_once(stage: Stage) -> None:
    """It is credited to a rule that ``explain`` lists: programs look up all prefixes in one step.

    So another rule, which ranks between the shortest and the longest, may be named first.
    """
    stage.put(
        block("10.9.0.2=0::UDP", "host"),
        block("10.9.0.0/24=0:1434:UDP", "port of a network"),
        block("10.9.0.0/24=0::UDP", "network"),
        block("*=0:1435:UDP", "port"),
        block("10.0.0.0/8=0:1435-1436:UDP", "range of a network"),
    )
    for datagram in DATAGRAMS:
        decision = stage.expected(datagram)
        before = stage.credited()
        stage.passes(datagram)
        more = stage.credited() - before
        assert more.total() == bool(decision.by)
        listed = {decision.by, *decision.beaten} - {None}
        assert more.keys() <= {candidate.origin for candidate in listed if candidate}


def test_so_it_is_with_dynamic_rules(stage: Stage) -> None:
    """Each dynamic rule is credited with its own packets, beside the rules of the policy."""
    stage.put(*POLICY)
    for rule in DYNAMIC:
        stage.add(rule)
    stage.passes(*DATAGRAMS)
    assert stage.credited() == named(stage, *DATAGRAMS)
    assert {rule.origin for rule in DYNAMIC} <= stage.credited().keys()


AUDITS = (
    audit("*+0::UDP", "all"),
    block("*=0:1434:UDP", "port"),
    audit("10.9.0.0/24=0::UDP", "prefix"),
    audit("10.9.0.2=0:1434-1435:UDP", "host"),
    permit("10.9.0.3=0::UDP", "permitted host"),
    audit("10.9.0.3=0:1436:UDP", "host and port"),
    audit("[fd09::2]=0:1434:UDP", "twin of a block"),
    block("[fd09::2]=0:1434:UDP", "block"),
    audit("[fd09::3]=0:1435:UDP", "twin of a permit"),
    permit("[fd09::3]=0:1435:UDP", "permit"),
    permit("0=10.9.0.2:1436:UDP", "out"),
    block("0=[fd09::/64]::UDP", "out to a network"),
    audit("0=[fd09::3]:1436:UDP", "out to a host"),
)
LATER = (
    audit("10.9.0.2=0:1436:UDP", "d", "dynamic"),
    audit("*=0:1434:UDP", "e", "dynamic"),
    block("*=0:1435:UDP", "f", "dynamic"),
)


def test_audits_count_what_they_would_block_and_decide_nothing(stage: Stage) -> None:
    """What is below them decides and counts as without them; of several the best counts."""
    stage.put(*AUDITS)
    assert stage.is_in_force()
    for rules in ((), *((rule,) for rule in LATER)):
        for rule in rules:
            stage.add(rule)
        before = stage.credited()
        assert stage.disagreements() == []
        assert stage.credited() - before == named(stage, *DATAGRAMS)
    audited = {o.rule for o in stage.credited()} & {
        r.origin.rule for r in (*AUDITS, *LATER) if r.action is Action.AUDIT
    }
    assert audited >= {
        "all",
        "host",
        "host and port",
        "twin of a permit",
        "out to a host",
        "d",
        "e",
    }
    # What is always beaten has no count, as it is not in force at all.
    assert "twin of a block" not in {origin.rule for origin in counts_of(stage.backend)}


def test_audits_count_exactly_what_they_drop_as_blocks(stage: Stage) -> None:
    """A policy whose blocks are audits drops nothing, and counts what it drops when they block."""
    for policy in (POLICY, tuple(rule for rule in AUDITS if rule.origin.rule != "twin of a block")):
        blocks = [
            replace(rule, action=Action.BLOCK if rule.action is Action.AUDIT else rule.action)
            for rule in policy
        ]
        stage.put(*blocks)
        dropped = stage.passes(*DATAGRAMS).count(False)
        of_blocks = {o: n for o, n in stage.credited().items() if o not in permits_of(policy)}
        assert sum(of_blocks.values()) == dropped > 3
        stage.put()
        stage.put(
            *(
                replace(rule, action=Action.AUDIT) if rule.action is Action.BLOCK else rule
                for rule in blocks
            )
        )
        assert all(stage.passes(*DATAGRAMS))
        of_audits = {o: n for o, n in stage.credited().items() if o not in permits_of(policy)}
        assert of_audits == of_blocks
        stage.put()


def permits_of(policy: Sequence[InForce]) -> frozenset[Origin]:
    return frozenset(rule.origin for rule in policy if rule.action is Action.PERMIT)


def test_every_rule_of_the_policy_has_a_count(stage: Stage) -> None:
    """A rule that matched nothing has a count of 0; one that others always beat has no count."""
    stage.put(*POLICY)
    wanted = {rule.origin.rule for rule in POLICY} - {"twin b", "twin that loses"}
    assert {origin.rule for origin in counts_of(stage.backend)} == wanted
    assert {count.packets for count in counts_of(stage.backend).values()} == {0}
    assert stage.backend.unparsable() == 0


def test_counts_are_carried_over_policy_changes_by_rule(stage: Stage) -> None:
    """A rule keeps its count whatever else changes, even if its own filters do."""
    stage.put(*POLICY)
    stage.passes(*DATAGRAMS)
    before = stage.credited()
    stage.put(*POLICY[:2], block("*=0:1400-1499:UDP", "more"), permit("10.9.0.3=0", "host"))
    kept = {"port", "prefix", "host"}
    assert stage.credited() == {o: n for o, n in before.items() if o.rule in kept}
    more = named(stage, *DATAGRAMS)
    stage.passes(*DATAGRAMS)
    wanted = Counter({o: n for o, n in before.items() if o.rule in kept}) + more
    assert stage.credited() == wanted


def test_a_rule_that_went_and_came_back_counts_from_nothing(stage: Stage) -> None:
    """This holds for a rule of the policy and for a dynamic one."""
    stage.put(*POLICY)
    stage.add(DYNAMIC[0])
    stage.passes(*DATAGRAMS)
    stage.put()
    stage.drop(DYNAMIC[0])
    stage.put(*POLICY)
    stage.add(DYNAMIC[0])
    assert stage.credited() == {}
    stage.passes(*DATAGRAMS)
    assert stage.credited() == named(stage, *DATAGRAMS)
