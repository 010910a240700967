"""Which rules a packet meets first: what nothing can happen to passes at once."""

from __future__ import annotations

from functools import cache

import pytest

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.chains import DELIVERED_TYPES
from ipsecd.backend.nftables.lists import forms_of, new_set
from ipsecd.backend.nftables.looks import Ruleset, kernel_table
from ipsecd.backend.nftables.messages import ACCEPT, DROP, GOTO, JUMP
from ipsecd.backend.nftables.naming import HOOKS
from ipsecd.backend.nftables.render import render
from ipsecd.backend.nftables.surroundings import Surroundings
from ipsecd.backend.nftables.told import Told
from ipsecd.compiler.policy import compile_filters
from ipsecd.language.filters import parse_filter
from ipsecd.model.counted_lists import with_counting
from ipsecd.model.values import ALWAYS, Action, Conditions, InForce, InterfaceType, Origin
from tests.engine.test_lists import entries

OPENING = Conditions(opening=True)
BLOCK = ("*=0", Action.BLOCK, OPENING)


def rendered(*rules: tuple[str, Action, Conditions]) -> Ruleset:
    policy = compile_filters(
        InForce(Origin("static", "P", f"r{n}"), parse_filter(text), action, conditions)
        for n, (text, action, conditions) in enumerate(rules)
    )
    tables = [
        kernel_table(table.id, f"set{n}", table.origins) for n, table in enumerate(policy.tables)
    ]
    surroundings = Surroundings(translated=True)
    return render(tables, (), drop_unparsable=True, surroundings=surroundings)


def first(ruleset: Ruleset, name: str) -> str:
    """What the first rule of a chain says of itself."""
    return ruleset.chains[name][0][1]


def test_connections_pass_at_once_where_no_table_is_for_them() -> None:
    """On delivery that holds for permits of all packets too, since they count nothing there."""
    all_opening = rendered(BLOCK, ("*=0:22:TCP", Action.PERMIT, OPENING))
    assert first(all_opening, "arriving_tracked") == "of a connection"
    assert first(all_opening, "delivered") == "of a connection"
    counted = rendered(BLOCK, ("*=0:22:TCP", Action.PERMIT, ALWAYS))
    assert first(counted, "arriving_tracked") != "of a connection"
    assert first(counted, "delivered") == "of a connection"
    blocked = rendered(BLOCK, ("*=0:22:TCP", Action.BLOCK, ALWAYS))
    assert first(blocked, "arriving_tracked") != "of a connection"
    assert first(blocked, "delivered") != "of a connection"


def test_what_can_be_read_passes_at_once_where_there_are_no_tables() -> None:
    """Nothing is dropped there but what cannot be read."""
    assert first(rendered(BLOCK), "sending") == "readable"
    assert first(rendered(BLOCK, ("0=*:25:TCP", Action.BLOCK, ALWAYS)), "sending") != "readable"


def test_what_is_in_none_of_few_tables_passes_before_all_else() -> None:
    """Wherever it is looked at; more look-ups than four would be taken once more without a gain."""
    texts = ("*=0:22:TCP", *(f"*=0:{first}-{first + 5}:UDP" for first in range(10, 50, 10)))
    few, many = (
        rendered(*((text, Action.BLOCK, ALWAYS) for text in some)) for some in (texts[:4], texts)
    )
    assert first(few, "arriving") == first(few, "delivered") == "in no table"
    assert "in no table" not in {first(many, "arriving"), first(many, "delivered")}
    assert "in no table" not in {text for _, text in rendered(BLOCK).chains["arriving_tracked"]}


def test_what_the_only_table_blocks_is_dropped_unless_a_link_must_be_asked() -> None:
    def dropped(*rules: tuple[str, Action, Conditions]) -> bool:
        chain = rendered(*rules).chains["arriving"]
        return any(parts.endswith(ex.verdict(DROP)) for parts, _ in chain)

    alone = ("*=0:22:TCP", Action.BLOCK, ALWAYS)
    assert dropped(alone)
    assert not dropped(alone, ("*:5=0:22:TCP", Action.PERMIT, ALWAYS))
    assert not dropped(("*=0:22:TCP", Action.BLOCK, Conditions(InterfaceType.LAN)))
    assert not dropped(("*=0:22-23:TCP", Action.BLOCK, ALWAYS))


def test_a_table_that_looks_at_no_field_is_not_looked_up() -> None:
    """It holds every packet that comes so far."""
    rules = rendered(BLOCK).chains["arriving_tracked_ip4_me"]
    assert rules
    assert not any(b"lookup\0" in parts for parts, _ in rules)


def rendered_with_all(*rules: tuple[str, Action, Conditions]) -> Ruleset:
    """The same where somebody is told of audits, and entries of lists count."""
    lists = {"a": with_counting(entries("10.0.0.1", "10.1.0.0/16"), counts=True)}
    policy = compile_filters(
        (
            InForce(Origin("static", "P", f"r{n}"), parse_filter(text), action, conditions)
            for n, (text, action, conditions) in enumerate(rules)
        ),
        lists=lists,
    )
    tables = [
        kernel_table(table.id, f"set{n}", table.origins) for n, table in enumerate(policy.tables)
    ]
    sets = {
        form: new_set(form, 1, lists["a"], n)
        for n, form in enumerate(forms_of((table.id for table in policy.tables), lists))
    }
    surroundings = Surroundings(translated=True)
    return render(
        tables, (), drop_unparsable=True, surroundings=surroundings, lists=sets, told=Told(5, 100)
    )


def row_of(ruleset: Ruleset, name: str) -> int:
    """How many chains follow each other from one on, at the most."""
    ends = {ex.verdict(how, each): each for each in ruleset.chains for how in (GOTO, JUMP)}
    sizes = {len(end) for end in ends}

    @cache
    def row(name: str) -> int:
        last = {parts[-size:] for parts, _ in ruleset.chains[name] for size in sizes}
        return 1 + max((row(ends[end]) for end in last & ends.keys()), default=0)

    return row(name)


def test_audits_alone_have_headers_checked_and_nothing_dropped() -> None:
    """Ports of a later fragment are not there to be read, whatever a match leads to."""
    blocks, audits = (
        rendered(("*=0:22:TCP", action, ALWAYS)) for action in (Action.BLOCK, Action.AUDIT)
    )
    arriving = [name for name in blocks.chains if name.startswith("arriving")]
    assert arriving == [name for name in audits.chains if name.startswith("arriving")]
    assert "arriving_ip4_fragment" in arriving
    counted = (b"".join(parts for parts, _ in rules) for rules in audits.chains.values())
    assert not any(b"unparsable\0" in parts for parts in counted)
    drop = ex.verdict(DROP)
    assert any(drop in parts for rules in blocks.chains.values() for parts, _ in rules)
    assert not any(drop in parts for rules in audits.chains.values() for parts, _ in rules)


def test_what_an_audit_counted_may_pass_where_it_is_delivered() -> None:
    """Of what is looked at again, packets that the first look knew pass at once, without blocks."""
    foreseen = ex.address_type(ex.FIB_DADDR) + ex.within(*DELIVERED_TYPES)
    name = "delivered_ip4_checked"
    audits = rendered(("*=0:22:TCP", Action.AUDIT, ALWAYS))
    assert foreseen + ex.verdict(ACCEPT) in [parts for parts, _ in audits.chains[name]]
    both = rendered(("*=0:22:TCP", Action.AUDIT, ALWAYS), ("*=0", Action.BLOCK, ALWAYS))
    onward = ex.verdict(GOTO, f"{name}_uncounted_audited_0")
    assert foreseen + onward in [parts for parts, _ in both.chains[name]]
    others = rendered(("*=10.0.0.1", Action.AUDIT, ALWAYS))
    assert others.chains["delivered"] == []


@pytest.mark.parametrize("number", [1, 7, 30])
def test_audits_that_tell_and_lists_that_count_fit_into_the_kernel(number: int) -> None:
    """Both lengthen the way from a chain to the next, on each way that packets take."""
    actions = (Action.AUDIT, Action.PERMIT, Action.BLOCK)
    for link in (Conditions(), Conditions(InterfaceType.LAN)):
        arriving = [
            (f"@a=0:{100 * n + 1}-{100 * n + 2 + n}:TCP", actions[n % 3], link)
            for n in range(3 * number)
        ]
        leaving = [
            (text.replace("@a=0", "0=@a"), action, asked) for text, action, asked in arriving
        ]
        ruleset = rendered_with_all(*arriving, *leaving, ("*=0:1:UDP", Action.AUDIT, ALWAYS))
        assert {"counting_1", "told_passing"} <= ruleset.chains.keys()
        ways = {name: row_of(ruleset, name) for name in HOOKS}
        assert max(ways.values()) <= 16, ways


def test_many_audits_among_others_fit_into_the_kernel() -> None:
    """It takes 16 chains in a row, and the rules behind audits stand twice, or some more often."""
    actions = (Action.AUDIT, Action.PERMIT, Action.BLOCK)
    for number in (1, 2, 7, 60):
        ports = [f"{100 * n + 1}-{100 * n + 2 + n}:TCP" for n in range(3 * number)]
        ruleset = rendered(*((f"*=0:{p}", actions[n % 3], ALWAYS) for n, p in enumerate(ports)))
        assert row_of(ruleset, "arriving") <= 14
        assert row_of(ruleset, "delivered") <= 14
        lookups = sum(
            b"set" in parts
            for name, chain in ruleset.chains.items()
            if name.startswith("arriving_ip4_me")
            for parts, _ in chain
        )
        # With the audits, without them, and behind each audit to the end of a sixth of the others.
        assert lookups <= 3 * number + 2 * number + number * (number / 3 + 1)
        leaving = [(f"0=*:{port}", actions[n % 3], ALWAYS) for n, port in enumerate(ports)]
        ruleset = rendered(*leaving, ("*=0:1:UDP", Action.AUDIT, ALWAYS))
        assert "leaving_ip4_me_to_me" in ruleset.chains
        assert row_of(ruleset, "leaving") <= 14
