"""Packed lists are made, united and compared as sets of networks would be."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.model import lists, packing
from ipsecd.model.addresses import Family, Network
from ipsecd.model.lists import AddressList, Form, listed
from ipsecd.model.packing import Packing, changed, shared, united, without

SMALL_PIECE = 4


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PIECE", SMALL_PIECE)
    monkeypatch.setattr(lists, "_COMPARED", 2)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    family = draw(st.sampled_from(Family))
    length = draw(st.sampled_from((0, 8, 24, 31, family.bits)))
    address = draw(st.integers(0, 63)) << draw(st.sampled_from((0, 8, family.bits - 6)))
    dropped = family.bits - length
    return Network(family, address >> dropped << dropped, length)


SETS = st.sets(networks(), max_size=60)
FEW = st.sets(networks(), max_size=12)


def as_set(addresses: AddressList) -> set[Network]:
    """The entries, which also have to be packed as a list has them."""
    entries = list(addresses.networks())
    assert addresses == listed(entries)
    assert len(entries) == len(addresses)
    return set(entries)


@given(st.lists(SETS, max_size=6))
def test_what_is_put_in_comes_out_once(chunks: list[set[Network]]) -> None:
    """In whatever chunks and however often entries are put in, the list has each once."""
    made = Packing()
    for chunk in chunks:
        for network in chunk:
            form = Form(network.family, network.length)
            assert made.put(form, form.packed(network.address) * 2) == 0
    assert as_set(made.packed()) == set().union(*chunks)
    assert made.count == 2 * sum(map(len, chunks))


@given(st.lists(st.integers(0, 2**32 - 1), max_size=40), st.integers(0, 32))
def test_bits_behind_the_prefix_are_cleared_and_counted(addresses: list[int], length: int) -> None:
    """Each entry becomes its network, and those that were not are counted."""
    form = Form(Family.IPV4, length)
    made = Packing()
    wrong = made.put(form, b"".join(number.to_bytes(4, "big") for number in addresses))
    assert wrong == sum(form.packed(n) != n.to_bytes(4, "big") for n in addresses)
    dropped = 32 - length
    expected = {Network(Family.IPV4, n >> dropped << dropped, length) for n in addresses}
    assert as_set(made.packed()) == expected


@given(SETS, SETS, SETS)
def test_lists_are_united(first: set[Network], second: set[Network], third: set[Network]) -> None:
    """All entries of all lists are in it, each once."""
    assert as_set(united(map(listed, (first, second, third)))) == first | second | third


@given(SETS, SETS)
def test_lists_are_taken_from_each_other(first: set[Network], second: set[Network]) -> None:
    """What is left has all entries but those of the other list, and shared ones are the rest."""
    assert as_set(without(listed(first), listed(second))) == first - second
    assert as_set(shared(listed(first), listed(second))) == first & second


@given(SETS, SETS)
def test_a_change_is_what_differs(first: set[Network], second: set[Network]) -> None:
    """It has what goes and what comes, and nothing else."""
    old, new = listed(first), listed(second)
    change = old.change_to(new)
    assert as_set(AddressList(change.removed)) == first - second
    assert as_set(AddressList(change.added)) == second - first


def test_where_there_was_nothing_all_entries_come_as_they_are() -> None:
    """No entry is an object by itself, nor where there was one entry."""
    packed = b"".join(number.to_bytes(4, "big") for number in range(5000))
    assert lists.difference(b"", packed, 4)[1] is packed
    with patch.object(lists, "split", wraps=lists.split) as split:
        assert lists.difference(packed[:4], packed, 4) == (b"", packed[4:])
    assert sum(len(call.args[0]) for call in split.call_args_list) <= 16


def test_many_runs_of_one_entry_end() -> None:
    """More runs than a piece has entries are put together all the same."""
    form = Form(Family.IPV4, 32)
    entries = [number.to_bytes(4, "big") for number in (*range(3 * SMALL_PIECE), 0)]
    assert len(united(AddressList({form: entry}) for entry in entries)) == 3 * SMALL_PIECE


@settings(max_examples=60)
@given(FEW, st.lists(st.tuples(FEW, FEW), max_size=4), st.integers(0, 8), st.booleans())
def test_changes_of_few_entries_lead_to_what_is_wanted(
    first: set[Network], changes: list[tuple[set[Network], set[Network]]], few: int, asked: bool
) -> None:
    """Whatever is beside the packed entries, a list is what it would be if it were made at once.

    The list before stays as it was, its digest too, whether or not somebody asked for that.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (lists, packing):
            patch.setattr(module, "FEW", few)
        steps = [(first, listed(first))]
        for gone, come in changes:
            wanted, old = steps[-1]
            if asked:
                assert old.digest
            steps.append(((wanted - gone) | come, changed(old, listed(gone), listed(come))))
            change = old.change_to(steps[-1][1])
            assert as_set(AddressList(change.removed)) == wanted - steps[-1][0]
            assert as_set(AddressList(change.added)) == steps[-1][0] - wanted
        for before, old in steps:
            for after, new in steps:
                change = old.change_to(new)
                assert as_set(AddressList(change.removed)) == before - after
                assert as_set(AddressList(change.added)) == after - before
        for wanted, addresses in steps:
            of_now = listed(wanted)
            assert addresses.digest == of_now.digest
            assert len(addresses) == len(wanted)
            assert set(addresses.entries) == set(of_now.entries)
            for network in first | wanted:
                assert (network in addresses) == (network in wanted)
                assert list(addresses.sharing(network)) == list(of_now.sharing(network))
            assert as_set(addresses) == wanted


@given(SETS, SETS)
def test_lists_that_differ_have_other_digests(first: set[Network], second: set[Network]) -> None:
    """Also where all entries are in one block, or only their lengths differ."""
    assert (listed(first).digest == listed(second).digest) == (first == second)


def test_a_change_of_few_entries_copies_none_of_the_others() -> None:
    """The entries that were packed are the same object, in as many changes as there may be few."""
    form = Form(Family.IPV4, 32)
    present = AddressList({form: b"".join(n.to_bytes(4, "big") for n in range(0, 50_000, 2))})
    digest = present.digest
    for number in range(1, 2 * lists.FEW, 2):
        new = changed(present, AddressList(), listed([Network(Family.IPV4, number, 32)]))
        assert new.layers.base[form] is present.layers.base[form]
        assert "_sums" in new.__dict__
        assert new.digest != digest
        present = new
    assert len(present) == 25_000 + lists.FEW
