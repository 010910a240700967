"""What two sets of filters decide differently: every example is, and equal means equal."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipsecd.errors import LimitExceeded, Refused
from ipsecd.language.filters import parse_short
from ipsecd.model.addresses import Family, HostName, ListName, Network, Process
from ipsecd.model.decide import decide
from ipsecd.model.exemptions import ESSENTIALS, NO_DEFAULT_EXEMPT
from ipsecd.model.fields import BY_NAME
from ipsecd.model.kinds import Conditions, InterfaceType, LinkName
from ipsecd.model.lists import AddressList, Form, listed
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import Action, Endpoint, Filter, InForce, Origin
from ipsecd.proof import clauses, search
from ipsecd.proof.changes import Changes, Surroundings, changes
from tests.proof.boundaries import Boundaries
from tests.strategies import HOST, LUCK, in_force, lists, senders_in_force

BLOCK, PERMIT = Action.BLOCK, Action.PERMIT
HERE = Surroundings(HOST)
SENDERS = (
    Process("service", "web.service"),
    Process("cgroup", "/system.slice"),
    Process("cgroup", "/system.slice/a"),
)
some = settings(max_examples=300, deadline=None, suppress_health_check=[*HealthCheck])


def rule(text: str, action: Action = BLOCK, name: str = "r", **asked: object) -> InForce:
    return InForce(Origin("static", "P", name), parse_short(text), action, Conditions(**asked))  # type: ignore[arg-type]


def test_audits_decide_nothing() -> None:
    """One more is no change, and one that becomes a block is one."""
    audit, blocks = rule("*=0:22:TCP", Action.AUDIT), rule("*=0:22:TCP")
    assert not changes([], [audit], HERE)
    assert not changes([blocks, audit], [blocks], HERE)
    found = changes([audit], [blocks], HERE)
    assert (found.examples[0].before.action, found.examples[0].now.action) == (PERMIT, BLOCK)


def agree(
    before: Sequence[InForce],
    now: Sequence[InForce],
    luck: random.Random,
    surroundings: Surroundings = HERE,
    tries: int = 60,
) -> Changes:
    """What is proven, compared with what ``decide`` says of packets on all boundaries."""
    proven = changes(before, now, surroundings)
    host, exempt = surroundings.host, surroundings.exemptions
    pairs = {_pair(one.packet, one.before.by, one.now.by) for one in proven.examples}
    for one in proven.examples:
        actions = [decide(each, one.packet, host, exempt).action for each in (before, now)]
        assert actions == [one.before.action, one.now.action]
        assert actions[0] is not actions[1]
    drawn = Boundaries([*before, *now], host)
    for _ in range(tries):
        packet = drawn.packet(luck)
        first, second = (decide(each, packet, host, exempt) for each in (before, now))
        if first.action is not second.action:
            assert _pair(packet, first.by, second.by) in pairs, packet
    return proven


def _pair(packet: Packet, first: InForce | None, second: InForce | None) -> tuple[object, ...]:
    """The rules that decide; of what leaves, only blocks.

    A permit that a block equals has no row. ``decide`` names it for what leaves all the same,
    where a block that names no ``me`` is not looked at: such a packet was blocked as it arrived.
    """
    leaves = packet.point is Point.LEAVING
    by = tuple(
        one.origin if one and not (leaves and one.action is PERMIT) else None
        for one in (first, second)
    )
    return packet.point, packet.family, *by


@given(in_force(6), in_force(6), st.booleans(), LUCK)
@some
def test_generated_pairs(
    before: list[InForce], other: list[InForce], near: bool, luck: random.Random
) -> None:
    """Each pair of rules with a difference has an example, and no other pair has one."""
    now = [*before[:-1], *other[:1]] if near else other
    agree(before, now, luck)


@given(in_force(6, listing=True), in_force(2, listing=True), lists(), LUCK)
@some
def test_generated_pairs_with_lists(
    before: list[InForce],
    other: list[InForce],
    held: dict[str, AddressList],
    luck: random.Random,
) -> None:
    """Entries of lists decide by their own lengths."""
    agree(before, [*before[1:], *other], luck, Surroundings(replace(HOST, lists=held)))


@given(
    senders_in_force(SENDERS, st.just(Conditions())),
    senders_in_force(SENDERS, st.just(Conditions())),
)
@some
def test_generated_pairs_with_senders(before: list[InForce], now: list[InForce]) -> None:
    """A sender in a control group is in those above it."""
    agree(before, now, random.Random(1), tries=0)


@given(in_force(5), in_force(2), LUCK)
@some
def test_generated_pairs_with_exemptions(
    before: list[InForce], other: list[InForce], luck: random.Random
) -> None:
    """What is exempt is decided as before, whatever filters say."""
    exempt = (*ESSENTIALS, *NO_DEFAULT_EXEMPT[0])
    agree(before, [*before[1:], *other], luck, Surroundings(HOST, exempt))


@given(in_force(6), LUCK)
@some
def test_the_same_filters_in_another_order_are_equal(
    before: list[InForce], luck: random.Random
) -> None:
    """Order has no meaning, and what is proven equal is equal."""
    now = list(before)
    luck.shuffle(now)
    assert not changes(before, now, HERE)


@pytest.mark.parametrize("field", sorted(BY_NAME))
def test_a_field_that_is_not_known_is_refused(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never left out, as that would prove too much; and every field is known."""
    assert clauses.ENCODED.keys() == BY_NAME.keys()
    reduced = {name: encode for name, encode in clauses.ENCODED.items() if name != field}
    monkeypatch.setattr(clauses, "ENCODED", reduced)
    looking = {
        "message": rule("*=0::ICMP/3"),
        "source_ports": rule("*:7=0::UDP"),
        "interface_type": rule("udp/7", interface=InterfaceType.LAN),
        "interface_name": rule("udp/7", interface=LinkName("eth*")),
        "opening": rule("udp/7", opening=True),
        "process": InForce(
            Origin("static", "P", "r"), Filter(Endpoint(SENDERS[0]), Endpoint()), BLOCK
        ),
    }
    with pytest.raises(Refused, match=field):
        changes([], [looking.get(field, rule("192.0.2.1=0:7:UDP"))], HERE)


@pytest.mark.parametrize("field", ["destination_ports", "protocol", "source", "opening"])
def test_a_wrong_encoding_is_caught(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a field were not looked at, an example would not be decided as it is said to be."""
    before = [rule("192.0.2.1=0:7:UDP", PERMIT, "a"), rule("*=0", BLOCK, "b")]
    now = [rule("192.0.2.0/24=0:7-9:UDP", PERMIT, "a"), rule("*=0", BLOCK, "b")]
    if field == "opening":
        before = [rule("tcp/22", BLOCK, "a", opening=True)]
        now = [*before, rule("tcp/22", BLOCK, "b")]
    assert agree(before, now, random.Random(1), tries=3000)
    wrong = {**clauses.ENCODED, field: lambda *_: iter(())}
    monkeypatch.setattr(clauses, "ENCODED", wrong)
    luck = random.Random(1)
    with pytest.raises(AssertionError):
        agree(before, now, luck, tries=3000)


def test_a_rule_that_is_outranked_everywhere_changes_nothing() -> None:
    """A permit of what a narrower rule permits already is no difference."""
    before = [rule("tcp/22", PERMIT, "ssh"), rule("*=0", BLOCK, "all")]
    assert not changes(before, [*before, rule("198.51.100.7=0:22:TCP", PERMIT, "admin")], HERE)
    assert changes(before, [*before, rule("198.51.100.7=0:23:TCP", PERMIT, "admin")], HERE)


def test_a_million_entries_of_a_list_are_no_obstacle() -> None:
    """A permit of one address that a list blocks, and one that it leaves out."""
    form = Form(Family.IPV4, 32)
    packed = b"".join(
        (value << 1).to_bytes(4, "big") for value in range(1 << 29, (1 << 29) + 2**19)
    )
    host = replace(HOST, lists={"many": AddressList({form: packed})})
    many = InForce(
        Origin("static", "P", "many"), Filter(Endpoint(ListName("many")), Endpoint()), BLOCK
    )
    listed_one, other = (
        InForce(
            Origin("static", "P", "one"),
            Filter(Endpoint(Network(Family.IPV4, value, 32)), Endpoint(), 6),
            PERMIT,
        )
        for value in ((1 << 30) + 8, (1 << 30) + 9)
    )
    proven = changes([many], [many, listed_one], Surroundings(host))
    assert {one.packet.source for one in proven.examples} == {(1 << 30) + 8}
    assert not changes([many], [many, other], Surroundings(host))
    whole = changes([], [many], Surroundings(host))
    assert {one.packet.point for one in whole.examples} == {Point.ARRIVING, Point.SENDING}


def test_an_example_beside_a_list_is_an_address_kept_for_examples() -> None:
    """And not the lowest address that is in no list, which nobody has."""
    drop = rule("@drop=0", name="drop")
    host = replace(HOST, lists={"drop": listed([Network(Family.IPV4, 0x01000002, 32)])})
    proven = changes([drop], [drop, rule("*=0:79:TCP")], Surroundings(host))
    sources = {one.packet.source for one in proven.examples if one.packet.family is Family.IPV4}
    assert sources == {0xC6336407}


def test_entries_that_adjoin_leave_no_gap() -> None:
    """A network whose addresses are all in a list is decided as before, until one is missing."""
    network = rule("198.51.100.0/29=0", BLOCK, "net")
    members = [Network(Family.IPV4, 0xC6336400 + n, 32) for n in range(8)]
    of_list = InForce(
        Origin("static", "P", "l"), Filter(Endpoint(ListName("l")), Endpoint()), BLOCK
    )
    for held, equal in ((members, True), (members[:3] + members[4:], False)):
        host = replace(HOST, lists={"l": listed(held)})
        assert bool(changes([of_list, network], [of_list], Surroundings(host))) is not equal


def test_what_leaves_is_looked_at_by_both_its_links() -> None:
    """A permit goes by the link that a packet arrived by, and a block from me by the other."""
    block = rule("0=*", BLOCK, "b", interface=LinkName("eth1"))
    permit = rule("198.51.100.7=*", PERMIT, "p", interface=LinkName("eth0"))
    proven = changes([block], [block, permit], HERE)
    assert [one.packet.point for one in proven.examples] == [Point.LEAVING]
    (packet,) = (one.packet for one in proven.examples)
    assert packet.interface == "eth1"
    assert packet.arrived
    assert packet.arrived.interface == "eth0"


def test_what_cannot_be_parsed_changes_with_the_first_block() -> None:
    """It is dropped while anything is blocked; where it always passes, nothing changes."""
    nothing = rule("198.51.100.7=198.51.100.8:7:UDP", BLOCK)
    assert changes([], [nothing], HERE).unparsable == (PERMIT, BLOCK)
    assert changes([nothing], [], HERE).unparsable == (BLOCK, PERMIT)
    passing = replace(HERE, drop_unparsable=False)
    assert changes([], [nothing], passing).unparsable is None


def test_a_name_that_was_not_looked_up_is_refused() -> None:
    """Nothing can be proven about addresses that are not known."""
    name = Filter(Endpoint(HostName("example.com")), Endpoint())
    with pytest.raises(Refused, match=r"example\.com"):
        changes([], [InForce(Origin("static", "P", "r"), name, BLOCK)], HERE)


def test_what_would_take_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and never taken for equal."""
    monkeypatch.setattr(search.Budget.__init__, "__defaults__", (10,))
    many = [rule(f"198.51.100.{n}=0:{n}:UDP", BLOCK, f"r{n}") for n in range(1, 30)]
    with pytest.raises(LimitExceeded, match="too many ways"):
        changes(many, [*many, rule("*=0", BLOCK, "all")], HERE)


def test_more_pairs_of_rules_than_are_told_apart_are_counted() -> None:
    """The first have an example each."""
    many = [rule(f"198.51.100.7=0:{n}:UDP", BLOCK, f"r{n}") for n in range(1, 251)]
    host = Surroundings(Host(frozenset({(Family.IPV4, 0x0A000001)})))
    proven = changes([], many, host)
    assert (len(proven.examples), proven.more) == (200, 50)


def test_filters_of_one_rule_are_told_apart_while_they_are_few() -> None:
    """Whoever adds two filters to a rule sees what each of them does."""
    for filters, examples in ((2, 2), (501, 1)):
        several = [rule(f"198.51.100.7=0:{n}:UDP") for n in range(1, filters + 1)]
        proven = changes([], several, HERE)
        assert len(proven.examples) == examples


def test_more_services_than_can_be_told_apart_are_refused() -> None:
    """Each is a dimension, and a search goes one step deeper for each."""
    many = [
        InForce(
            Origin("static", "P", f"r{n}"),
            Filter(Endpoint(Process("service", f"s{n}.service")), Endpoint()),
            BLOCK,
        )
        for n in range(101)
    ]
    with pytest.raises(LimitExceeded, match="101 services"):
        changes([], many, HERE)
    assert changes([], many[:20], HERE)
