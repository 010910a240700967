"""Expectations as text: round trips, spellings, refusals with their line, differences."""

from __future__ import annotations

from dataclasses import replace

import jsonschema
import pytest
import yaml
from hypothesis import given, settings

from ipsecd.errors import InvalidInput, Refused
from ipsecd.language.differences import diff_policies
from ipsecd.language.documents import format_policy, parse_policy, policy_schema
from ipsecd.language.expectations import (
    format_expectation,
    must_be_met,
    parse_expectation,
    unmet_warnings,
)
from ipsecd.model.addresses import Family
from ipsecd.model.expectations import MAX_EXPECTATIONS, SOME_HOST, Expectation
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import Action, InterfaceType
from tests.strategies import expectations

DOCUMENT = """\
policy: Web
rules:
  - rule: No shell
    action: block
    filters:
      - "*=0:22:TCP"
expect:
  - "block tcp 203.0.113.7:4000 > me:22"
  - "permit tcp 203.0.113.7:4000 > me:443"
"""
HEAD = "policy: P\nrules: []\nexpect:\n"


@settings(max_examples=500, deadline=None)
@given(expectations())
def test_what_is_printed_reads_back(expectation: Expectation) -> None:
    """As the same expectation, of the same packet."""
    again = parse_expectation(format_expectation(expectation))
    assert again == expectation
    assert again.packet == expectation.packet


def test_a_document_holds_them_after_the_rules() -> None:
    """In canonical form a document is printed as it was read, and the schema knows it."""
    assert format_policy(parse_policy(DOCUMENT)) == DOCUMENT
    jsonschema.validate(yaml.safe_load(DOCUMENT), policy_schema())


def test_an_expectation_is_a_verdict_and_a_packet() -> None:
    """``me`` is an address that stands for that of any host."""
    mine = dict(SOME_HOST.addresses)[Family.IPV4]
    found = parse_expectation("Block  udp 203.0.113.7:4000 >me:1434 in ppp0")
    assert found.action is Action.BLOCK
    assert found.text == "udp 203.0.113.7:4000 > me:1434 in ppp0"
    assert found.packet == Packet(
        Point.ARRIVING,
        Family.IPV4,
        0xCB007107,
        mine,
        17,
        4000,
        1434,
        InterfaceType.DIALUP,
        interface="ppp0",
    )
    assert parse_expectation("permit icmp me > 2001:db8::1").packet.point is Point.SENDING


BAD = [
    ('  - "drop tcp 192.0.2.1:4 > me:22"\n', 4, "does not begin with", "block or permit"),
    ('  - "block"\n', 4, "not a packet", "PROTOCOL SOURCE"),
    ('  - "block tcp 192.0.2.1:4 > me"\n', 4, "leaves the destination's port out", "give it"),
    ('  - "block tcp peer.example:4 > me:22"\n', 4, "'peer.example' is not an IP", "an address"),
    ('  - "block tcp container:web:4 > me:22"\n', 4, "container:web has another", "an address"),
    ('  - "block tcp 192.0.2.1:4 > container:web:80"\n', 4, "container:web has", "an address"),
    ('  - "block icmp 192.0.2.1 > 2001:db8::1"\n', 4, "one IP version to the other", "two"),
    ('  - "block icmp 192.0.2.1 > me by service:a.service"\n', 4, "this packet arrives", "me"),
    ("  - {}\n", 4, "has no 'packet'", ""),
    (
        '  - "block icmp 192.0.2.1 > me"\n  - "permit icmp 192.0.2.1  > me"\n',
        5,
        "'icmp 192.0.2.1 > me' is expected to be blocked and to be permitted",
        "keep one",
    ),
    (
        "".join(f'  - "block tcp 192.0.2.1:{n} > me:22"\n' for n in range(MAX_EXPECTATIONS + 9)),
        4 + MAX_EXPECTATIONS,
        "more than 1,000 expectations",
        "say most",
    ),
]


@pytest.mark.parametrize(("items", "line", "what", "hint"), BAD)
def test_what_is_no_expectation_is_refused_with_its_line(
    items: str, line: int, what: str, hint: str
) -> None:
    """By file, line and reason, with a remedy."""
    with pytest.raises(InvalidInput) as caught:
        parse_policy(HEAD + items, "p.yaml")
    assert (caught.value.source, caught.value.line) == ("p.yaml", line)
    assert what in caught.value.message
    assert hint in caught.value.hint


def test_a_position_is_that_in_the_whole_text() -> None:
    """The mark of an error stands below what is wrong."""
    with pytest.raises(InvalidInput) as caught:
        parse_expectation("block  tcp peer:4 > me:22")
    assert caught.value.position == len("block  tcp ")


def test_an_expectation_can_be_of_every_source_port() -> None:
    """And of the packets of a connection; both stay in the text as they were written."""
    found = parse_expectation("block TCP 203.0.113.7 > me:22 established")
    assert found.text == "tcp 203.0.113.7 > me:22 established"
    assert found.any_source_port
    assert not found.packet.opening
    assert not parse_expectation("block tcp 203.0.113.7:4 > me:22 opening").any_source_port


def test_the_ports_from_which_it_is_not_met_are_told() -> None:
    """A permit by the source port opens everything to whoever sends from it."""
    text = (
        "policy: P\nrules:\n- {rule: In, action: block, filters: ['*=0']}\n"
        "- {rule: Web, action: permit, filters: ['*:FROM=0::TCP']}\n"
        "expect:\n- block tcp 203.0.113.7 > me:23\n"
    )
    for ports, said in (("443", "permitted from port 443 by"), ("1-5", "from ports 1-5 by")):
        with pytest.raises(Refused, match=said):
            must_be_met(parse_policy(text.replace("FROM", ports)))
    with pytest.raises(Refused, match="it is permitted by"):
        must_be_met(parse_policy(text.replace(":FROM", "")))


def test_the_same_twice_is_once() -> None:
    """As it is with filters."""
    line = '  - "block icmp 192.0.2.1 > me"\n'
    assert len(parse_policy(HEAD + line + line).expect) == 1


def test_policies_are_valid_whoever_makes_them() -> None:
    """What contradicts itself cannot exist."""
    expectation = parse_expectation("block icmp 192.0.2.1 > me")
    policy = parse_policy(HEAD + "  []\n")
    with pytest.raises(InvalidInput, match="blocked and to be permitted"):
        replace(policy, expect=(expectation, replace(expectation, action=Action.PERMIT)))
    with pytest.raises(InvalidInput, match="printable"):
        replace(expectation, text="icmp 192.0.2.1 > me\n")


def test_a_difference_has_the_expectations_that_come_and_go() -> None:
    """Each on a line; their order is none."""
    policy = parse_policy(DOCUMENT)
    other = replace(policy, expect=policy.expect[:1])
    assert diff_policies(policy, other) == ("- expect: permit tcp 203.0.113.7:4000 > me:443",)
    assert diff_policies(other, policy) == ("+ expect: permit tcp 203.0.113.7:4000 > me:443",)
    assert diff_policies(policy, replace(policy, expect=policy.expect[::-1])) == ()


def test_a_refusal_says_which_filter_decided_and_what_to_do() -> None:
    """Every line that fails, up to ten, and how many more there are."""
    policy = parse_policy(DOCUMENT)
    must_be_met(policy)
    assert unmet_warnings(policy) == []
    lines = [
        *("permit tcp 203.0.113.7:4000 > me:22", "block icmp 203.0.113.7 > me"),
        *(f"permit tcp 203.0.113.7:{n} > me:22" for n in range(1, 14)),
    ]
    wrong = replace(policy, expect=tuple(map(parse_expectation, lines)))
    with pytest.raises(Refused) as caught:
        must_be_met(wrong)
    first, *rest = caught.value.message.split("\n")
    assert first == "policy 'Web' does not meet 15 of its 15 expectations:"
    assert rest[0] == (
        '"permit tcp 203.0.113.7:4000 > me:22": '
        "it is blocked by block \"*=0:22:TCP\" of rule 'No shell'"
    )
    assert rest[1] == '"block icmp 203.0.113.7 > me": it is permitted, no filter matches it'
    assert (len(rest), rest[-1]) == (11, "and 5 more")
    assert "ipsecctl check" in caught.value.hint
    warnings = unmet_warnings(wrong)
    assert "cannot be assigned until it does" in warnings[0]
    assert (len(warnings), warnings[-1]) == (10, "and 7 more")


WITH_REASON = """\
policy: P
rules:
  - rule: ssh
    action: block
    filters:
      - "*=0:22:TCP"
expect:
  - packet: "tcp 198.51.100.7:40000 > me:22"
    verdict: permit
    reason: "The administrators' way in"
  - "block tcp 198.51.100.8:40000 > me:22"
"""


def test_a_reason_stands_beside_verdict_and_packet() -> None:
    """It is kept, told where the expectation is not met, and part of what differs."""
    policy = parse_policy(WITH_REASON)
    assert format_policy(policy) == WITH_REASON
    jsonschema.validate(yaml.safe_load(WITH_REASON), policy_schema())
    with pytest.raises(Refused, match=r"\(The administrators' way in\): it is blocked"):
        must_be_met(policy)
    other = parse_policy(WITH_REASON.replace("way in", "door"))
    assert diff_policies(policy, other) == (
        "- expect: permit tcp 198.51.100.7:40000 > me:22 (The administrators' way in)",
        "+ expect: permit tcp 198.51.100.7:40000 > me:22 (The administrators' door)",
    )
    contrary = WITH_REASON.replace("198.51.100.8", "198.51.100.7")
    with pytest.raises(InvalidInput, match="to be blocked and to be permitted"):
        parse_policy(contrary)


SLIPS = [
    ("    verdict: permit\n", "", "has no 'verdict'"),
    ("verdict: permit", "verdict: maybe", "is not block or permit"),
    ('> me:22"\n    v', 'me:22"\n    v', "is not a packet"),
    ("The admin", "x" * 257, "cannot be the reason"),
    ("reason", "because", "the key 'because' is not known"),
]


@pytest.mark.parametrize(("old", "new", "words"), SLIPS)
def test_what_is_wrong_beside_a_reason_is_told_with_its_line(
    old: str, new: str, words: str
) -> None:
    """As for a line."""
    with pytest.raises(InvalidInput, match=words) as raised:
        parse_policy(WITH_REASON.replace(old, new, 1))
    assert 8 <= raised.value.line <= 10
