"""No consumer forgets a match field: what differs in one field differs everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipsecctl.expansion import blocks_of
from ipsecd.backend.nftables import keys, naming
from ipsecd.backend.nftables.cgroups import Group
from ipsecd.backend.nftables.looks import KernelTable
from ipsecd.backend.nftables.render import render
from ipsecd.backend.nftables.surroundings import Surroundings
from ipsecd.backend.xdp import abi
from ipsecd.backend.xdp.images import Image, place_tables
from ipsecd.backend.xdp.program import steps
from ipsecd.backend.xdp.shortcuts import shortcuts
from ipsecd.backend.xdp.slots import MEMBERS
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.stored import from_stored, to_stored
from ipsecd.language.filters import format_filter, parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.addresses import Process as Sender
from ipsecd.model.decide import decide
from ipsecd.model.fields import BY_NAME, FIELDS, Place
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.precedence import place as place_of
from ipsecd.model.precedence import rank
from ipsecd.model.quarantine import _intersection
from ipsecd.model.values import (
    ALWAYS,
    Action,
    Conditions,
    Endpoint,
    Filter,
    InForce,
    InterfaceType,
    LinkName,
    Origin,
)
from ipsecd.sources.dynamic import DynamicRule, DynamicRules

ME, PEER = 0x0A000001, 0x0A000002
HOST = Host(frozenset({(Family.IPV4, ME)}))
ARRIVES = Packet(Point.ARRIVING, Family.IPV4, PEER, ME, 17, 4000, 1434, interface="eth1")
SENT = Packet(
    Point.SENDING,
    Family.IPV4,
    ME,
    PEER,
    6,
    4000,
    443,
    processes=frozenset({Sender("service", "a.service")}),
)

PATH = Packet(Point.ARRIVING, Family.IPV4, PEER, ME, 1, icmp_type=3, icmp_code=4)

EXAMPLES: dict[str, tuple[str, str, str, Packet]] = {
    "source": ("10.0.0.2=*", "10.0.0.3=*", "*=*", ARRIVES),
    "destination": ("*=0", "*=10.0.0.9", "*=*", ARRIVES),
    "protocol": ("*=*::UDP", "*=*::TCP", "*=*", ARRIVES),
    "source_ports": ("*:4000=*::UDP", "*:4001=*::UDP", "*=*::UDP", ARRIVES),
    "destination_ports": ("*=*:1434:UDP", "*=*:1435:UDP", "*=*::UDP", ARRIVES),
    "message": ("*=*::ICMP/3/4", "*=*::ICMP/3/1", "*=*::ICMP", PATH),
    "interface_type": ("*=*", "*=*", "*=*", ARRIVES),
    "interface_name": ("*=*", "*=*", "*=*", ARRIVES),
    "process": ("service:a.service=*", "service:b.service=*", "0=*", SENT),
    "opening": ("*=*", "10.0.0.3=*", "*=*", ARRIVES),
}
"""For each field a filter that asks something of it, one that asks something else, one that asks
nothing and is no different otherwise, and a packet that the first and the third match."""

CONDITIONS = {
    "interface_type": (
        Conditions(InterfaceType.LAN),
        Conditions(InterfaceType.DIALUP),
        ALWAYS,
    ),
    "interface_name": (Conditions(LinkName("eth1")), Conditions(LinkName("wg*")), ALWAYS),
    "opening": (Conditions(opening=True), Conditions(opening=True), ALWAYS),
}
"""The conditions of the rules of these filters, for fields that are no part of a filter's text."""

names = pytest.mark.parametrize("name", EXAMPLES)
textual = pytest.mark.parametrize("name", [n for n in EXAMPLES if n not in CONDITIONS])
"""What the text of a filter says: conditions are the rule's."""
UNKNOWN_TO_PROGRAMS = ("process", "interface_name", "opening")
seen_by_programs = pytest.mark.parametrize(
    "name", [n for n in EXAMPLES if n not in UNKNOWN_TO_PROGRAMS]
)


def members(name: str, action: Action = Action.BLOCK) -> list[InForce]:
    """The three filters of a field, in force."""
    texts = EXAMPLES[name][:3]
    conditions = CONDITIONS.get(name, (ALWAYS, ALWAYS, ALWAYS))
    return [
        InForce(Origin("static", "P", f"r{n}"), parse_filter(text), action, condition)
        for n, (text, condition) in enumerate(zip(texts, conditions, strict=True))
    ]


def compiled(name: str) -> list[Classifier]:
    return [compile_filters([replace(member, origin=RULE)]) for member in members(name)]


RULE = Origin("static", "P", "R")


def test_there_is_an_example_of_every_field() -> None:
    """Whoever adds a field has to say what it is about, and every consumer is asked then."""
    assert list(EXAMPLES) == [field.name for field in FIELDS]


def test_every_field_has_its_place_in_every_layout() -> None:
    """What is in keys has a member in those of the programs, and what is in headers is tracked."""
    assert set(MEMBERS) == set(Place)
    assert set(MEMBERS.values()) == set(abi.KEY_MEMBERS)
    assert set(keys._TRACKED) == {field.place for field in FIELDS if field.location}


def test_a_rank_cannot_leave_a_field_out() -> None:
    """The oracle and the compiler name every field to the one order of precedence."""
    for left_out in BY_NAME:
        narrow = {name: 0 for name in BY_NAME if name != left_out}
        with pytest.raises(KeyError):
            rank(narrow, protected=False, volatile=False, action=Action.BLOCK)
        with pytest.raises(KeyError):
            place_of(narrow)


@names
def test_the_oracle_and_the_compiler_judge_by_it(name: str) -> None:
    """What asks for it matches what has it, and outranks what does not ask."""
    packet = EXAMPLES[name][3]
    mine, another, none = members(name)
    permit = replace(mine, action=Action.PERMIT)
    for filters, wanted in (
        ([mine], Action.BLOCK),
        ([another], Action.PERMIT),
        ([permit, none], Action.PERMIT),
        ([none], Action.BLOCK),
    ):
        assert decide(filters, packet, HOST).action is wanted
        assert compile_filters(filters).lookup(packet, HOST).action is wanted


@names
def test_it_is_written_and_stored(name: str) -> None:
    """Texts, digests and stored forms of what differs in it differ, and give it back."""
    if name not in CONDITIONS:
        filters = [member.filter for member in members(name)]
        texts = [format_filter(flt) for flt in filters]
        assert len(set(texts)) == 3
        assert [parse_filter(text) for text in texts] == filters
    classifiers = compiled(name)
    assert len({classifier.digest for classifier in classifiers}) == 3
    assert [from_stored(to_stored(c)) for c in classifiers] == classifiers


def rules_of(classifier: Classifier) -> str:
    """The rules in the kernel's tables, whatever the names of its sets, and what the sets hold."""
    tables = [KernelTable(table.id, "set") for table in classifier.tables]
    groups = {f"service:{name}.service": Group(2, n) for n, name in enumerate("ab", 70)}
    ruleset = render(tables, (), drop_unparsable=True, surroundings=Surroundings(groups))
    held = [(naming.key_types(table.id), table.keys) for table in classifier.tables]
    return repr((ruleset.chains, held))


@names
def test_nftables_looks_at_it(name: str) -> None:
    """Sets and rules for what differs in it differ, and the names of sets that differ in shape."""
    classifiers = compiled(name)
    assert len({rules_of(classifier) for classifier in classifiers}) == 3
    sets = [naming.set_name(classifier.tables[0].id, 1) for classifier in classifiers]
    assert sets[0] != sets[2]


@seen_by_programs
def test_the_programs_look_at_it(name: str) -> None:
    """Steps and entries for what differs in it differ; who sends a packet they are never asked."""
    forms = set()
    for classifier in compiled(name):
        image = Image(0)
        group = classifier.tables[:1]
        place_tables(image, group, {RULE: 0})
        forms.add((*steps(group, image, {RULE: 0}, alone=True), *image.chunks))
    assert len(forms) == 3


@names
def test_a_port_alone_decides_only_what_asks_nothing_else(name: str) -> None:
    """A block of a port that asks for one field more has no shortcut."""
    base, *_ = compile_filters([InForce(RULE, parse_filter("*=0:80:UDP"), Action.BLOCK)]).tables
    asking = compiled(name)[0].tables[0].id
    table = replace(base, id=base.id.reshaped(**{name: asking.looks[name]}))
    plain = table.id == base.id or name in {"destination", "destination_ports"}
    words = shortcuts(Classifier((table,)), (), {RULE: 0}, frozenset(Point))
    dropping = {word & 3 for word in memoryview(words).cast("I")} - {
        abi.SHORTCUT_NONE,
        abi.SHORTCUT_PASS,
    }
    assert bool(dropping) == plain, table.id


@textual
def test_dynamic_rules_are_told_apart_by_it(name: str) -> None:
    """A rule is found by its own filter, and by no other."""
    rules = DynamicRules()
    for n, member in enumerate(members(name)):
        rules = rules.with_rule(DynamicRule(f"r{n}", (member.filter,), Action.BLOCK))
    for n, text in enumerate(EXAMPLES[name][:3]):
        assert [each.rule.name for each in rules.select(text)] == [f"r{n}"]


@pytest.mark.parametrize("name", [n for n in EXAMPLES if n != "process"])
def test_quarantine_keeps_it(name: str) -> None:
    """What a filter has in common with everything is that filter."""
    for member in members(name):
        for pair in (
            (member.filter, Filter(Endpoint(), Endpoint())),
            (Filter(Endpoint(), Endpoint()), member.filter),
        ):
            assert _intersection(*pair) == member.filter


@textual
def test_netdiag_tells_it(name: str) -> None:
    """Blocks of the old report that differ in it have other identities."""
    words = {
        tuple(block.words for block in blocks_of(text, ["10.0.0.1"])) for text in EXAMPLES[name][:3]
    }
    assert len(words) == 3
