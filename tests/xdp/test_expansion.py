"""Lists written out for programs: what becomes of tables, and what is too much for them."""

from __future__ import annotations

import pytest

from ipsecd.backend.xdp import expansion
from ipsecd.backend.xdp.expansion import Expansions, with_lists_written_out
from ipsecd.backend.xdp.program import drops, unknown_to_programs
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.listed import with_entries
from ipsecd.compiler.policy import compile_filters
from ipsecd.language.filters import parse_filter
from ipsecd.model.counted_lists import with_counting
from ipsecd.model.values import Action, InForce, Origin
from tests.engine.test_lists import entries

LISTS = {"a": entries("10.0.0.1", "10.0.0.2", "10.1.0.0/16"), "b": entries("10.9.0.1")}


def compiled(*texts: str) -> Classifier:
    rules = [InForce(Origin("static", "P", t), parse_filter(t), Action.BLOCK) for t in texts]
    return compile_filters(rules, lists=LISTS)


def test_what_looks_for_one_address_is_not_written_out() -> None:
    """Programs look into the ranges of the list, and drop what they find."""
    for text in ("@a=0", "*=@a:80:TCP", "@a=*"):
        policy = compiled(text)
        written = with_lists_written_out(policy)
        assert written.tables == policy.tables
        assert written.lists == policy.lists
        assert all(map(drops, written.tables))


def test_the_keys_of_a_table_are_the_list_as_it_is() -> None:
    """Where the table looks at nothing but the address."""
    for table in compiled("@a=0").tables:
        written = with_entries(table, LISTS)
        assert written
        assert any(written.keys is packed for packed in LISTS["a"].entries.values())


def test_a_list_and_what_is_written_out_of_it_say_the_same() -> None:
    """The tables are those of a policy that has the entries in its filters."""
    for text in ("10.9.0.1=@a:80:TCP", "@a=@b", "@a:53=10.9.0.1::UDP"):
        literal = [
            text.replace("@a", address).replace("@b", "10.9.0.1")
            for address in ("10.0.0.1", "10.0.0.2", "10.1.0.0/16")
        ]
        written = {table.id: table.keys for table in with_lists_written_out(compiled(text)).tables}
        assert written == {table.id: table.keys for table in compiled(*literal).tables}


def test_what_would_be_too_much_is_left_to_nftables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs do not drop what such a table matches, and alone they would refuse it by name."""
    monkeypatch.setattr(expansion, "MOST_KEYS", 1)
    written = with_lists_written_out(compiled("@a=10.9.0.7", "@b=10.9.0.7"))
    left = [table for table in written.tables if table.id.listed]
    assert len(left) == 1
    assert not drops(left[0])
    assert "@a" in unknown_to_programs(written.tables)


@pytest.mark.parametrize("text", ["@a=0", "@a=0:1434:UDP", "@a=@b", "10.9.0.7=@a"])
def test_what_counts_entries_is_left_to_others(text: str) -> None:
    """Programs have no counters for them; where nobody else judges, they drop all the same."""
    known = {name: with_counting(each, counts=name == "a") for name, each in LISTS.items()}
    filters = [InForce(Origin("static", "P", "r"), parse_filter(text), Action.BLOCK)]
    policy = compile_filters(filters, lists=known)
    made = Expansions(alone=False).of(policy)
    assert made.digest == policy.digest
    assert made.tables
    assert not any(map(drops, made.tables))
    alone = Expansions(alone=True).of(policy)
    assert alone.tables
    assert all(map(drops, alone.tables))


def test_it_is_made_once_for_a_digest() -> None:
    """That of what is in force stays while the next one is made."""
    expansions = Expansions(alone=False)
    first, second = compiled("@a=@b"), compiled("@b=@a")
    made = expansions.of(first)
    assert made.digest == first.digest
    expansions.of(second)
    assert expansions.of(compiled("@a=@b")) is made
    for text in ("10.0.0.1=0", "@a=0"):
        as_it_is = compiled(text)
        assert expansions.of(as_it_is) is as_it_is
