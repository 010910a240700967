"""What has no effect is found, and nothing else: without it, all is decided as before."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from ipsecd.language.documents import parse_policy
from ipsecd.model.decide import decide
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.values import Action, InForce, Store, filters_of
from ipsecd.proof import clauses, lint
from ipsecd.proof.changes import Surroundings, changes
from ipsecd.proof.lint import sentence
from tests.proof.boundaries import Boundaries
from tests.strategies import HOST, LUCK, in_force

HERE = Surroundings(HOST)


def sentences(*rules: str, surroundings: Surroundings = HERE) -> list[str]:
    text = "policy: P\nrules:\n" + "".join(f"- {{{rule}}}\n" for rule in rules)
    filters = filters_of(parse_policy(text), Store.STATIC)
    return [sentence(each, surroundings) for each in lint.lint(filters, surroundings)]


@given(in_force(7), LUCK)
@settings(max_examples=300, deadline=None, suppress_health_check=[*HealthCheck])
def test_claims_are_true(filters: list[InForce], luck: random.Random) -> None:
    """What never decides does so for no packet on any boundary, and can all be taken out."""
    # A rule has one filter here, so what is said of the rule is said of it. What the settings
    # protect is all of one rule otherwise.
    filters = [
        replace(one, origin=replace(one.origin, rule=f"r{number}"))
        for number, one in enumerate(filters)
    ]
    found = {each.of.origin: each for each in lint.lint(filters, HERE)}
    drawn = Boundaries(filters, HOST)
    for _ in range(60):
        packet = drawn.packet(luck)
        # What is blocked when it arrives does not leave, whatever permits it then.
        if packet.arrived is None or decide(filters, packet.arrived, HOST).action is Action.PERMIT:
            decision = decide(filters, packet, HOST)
            assert decision.by is None or decision.by.origin not in found
            assert decision.audited is None or decision.audited.origin not in found
    left = [one for one in filters if one.origin not in found]
    assert not changes(filters, left, replace(HERE, drop_unparsable=False))
    for each in found.values():
        if each.packet:
            assert each.by
            assert each.by.origin not in found
    # Whatever is left decides something.
    assert not [*lint.lint(left, HERE)]


def test_an_audit_is_idle_only_if_it_never_counts() -> None:
    """Below one of part of its packets it counts, but not below a block of the same."""
    wide, narrow = (
        "rule: wide, action: audit, filters: ['*=0']",
        "rule: b, action: %s, filters: [%s]",
    )
    assert sentences(wide, narrow % ("audit", "'*=0:80:TCP'")) == []
    assert sentences(wide, narrow % ("permit", "'*=0'")) == []
    (equal,) = sentences(wide, narrow % ("block", "'*=0'"))
    assert equal.startswith("rule 'wide' never counts: ")
    assert equal.endswith("is decided by block *=0 of rule 'b'")
    below = "rule: c, action: audit, filters: ['*:53=0:80:TCP']"
    covers = "rule: d, action: audit, filters: ['*=0:80:TCP', '*:53=0:80:TCP']"
    found = sentences(below, covers)
    assert [each for each in found if "'d' never counts" in each or "rule 'd'" in each]


def test_each_kind_is_said() -> None:
    """With the rule that decides in its place, and a packet."""
    block = "rule 'web' blocks exactly what it permits"
    packet = "tcp 198.51.100.7:40000 > me:22"
    assert sentences(
        "rule: web, action: block, filters: [tcp/80]",
        "rule: also web, action: permit, filters: [tcp/80, tcp/81]",
        "rule: loop, action: block, filters: ['0=0']",
        "rule: ssh, action: permit, filters: [tcp/22]",
        "rule: ssh again, action: permit, filters: [tcp/22]",
    ) == [
        f"filter permit *=0:80:TCP of rule 'also web' never decides: {block}",
        "rule 'loop' matches nothing here",
        f"rule 'ssh again' never decides: {packet} is decided by permit *=0:22:TCP of rule 'ssh'",
    ]


def test_what_is_exempt_is_never_decided() -> None:
    """A filter for what passes before any filter has no effect."""
    mtu = "rule: mtu, action: block, filters: ['*=0::ICMPv6/packet-too-big']"
    assert sentences(mtu) == []
    exempt = Surroundings(HOST, ESSENTIALS)
    packet = "icmp/packet-too-big 2001:db8::7 > me"
    words = f"rule 'mtu' never decides: {packet} passes before any filter"
    assert sentences(mtu, surroundings=exempt) == [words]


def test_a_wrong_encoding_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """If protocols were not looked at, a filter would be said to be beaten that is not."""
    document = (
        "policy: P\nrules:\n- {rule: a, action: block, filters: ['*=0:7:TCP', '*=0:7:UDP']}\n"
    )
    filters = filters_of(parse_policy(document), Store.STATIC)
    assert not lint.lint(filters, HERE)
    wrong = {**clauses.ENCODED, "protocol": lambda *_: iter(())}
    monkeypatch.setattr(clauses, "ENCODED", wrong)
    assert lint.lint(filters, HERE)


def test_many_filters_are_judged_by_rule() -> None:
    """A rule that never decides is found among them, in a moment."""
    many = ", ".join(f"198.51.{n >> 8}.{n & 255}=0:80:TCP" for n in range(lint.MAX_TOLD_APART))
    found = sentences(
        f"rule: many, action: block, filters: [{many}]",
        "rule: net, action: permit, filters: [198.51.0.0/19=0:80:TCP]",
        "rule: lost, action: permit, filters: [198.51.7.7=0:80:TCP]",
    )
    assert found == ["rule 'lost' never decides: rule 'many' blocks exactly what it permits"]
