"""Lists of addresses, packed: what covers an address, and what turns a list into another."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.model import lists
from ipsecd.model.addresses import Family, Network
from ipsecd.model.lists import AddressList, Form, difference, listed, split
from tests.engine.test_lists import entries
from tests.strategies import ENTRIES, wide_networks


@given(st.lists(wide_networks()))
def test_a_list_has_each_entry_once(networks: list[Network]) -> None:
    """In any order, and overlapping ones stay themselves."""
    members = listed(networks)
    assert len(members) == len(set(networks))
    assert set(members.networks()) == set(networks)
    assert all(network in members for network in networks)
    assert members.digest == listed(reversed(networks)).digest


@given(st.lists(st.sampled_from(ENTRIES)), st.sampled_from(ENTRIES))
def test_an_address_is_covered_by_the_entries_that_it_is_in(
    networks: list[Network], of: Network
) -> None:
    """All of them are named by their lengths, the longest first."""
    covering = list(listed(networks).covering(of.family, of.address))
    wanted = {n.length for n in networks if n.family is of.family and of.address in n}
    assert covering == sorted(wanted, reverse=True)
    for length in range(of.family.bits + 1):
        assert listed(networks).holds(Form(of.family, length), of.address) == (length in wanted)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(ENTRIES)), st.lists(st.sampled_from(ENTRIES)))
def test_a_change_turns_a_list_into_another(old: list[Network], new: list[Network]) -> None:
    """It has what goes and what comes, and nothing that stays."""
    change = listed(old).change_to(listed(new))
    assert set(AddressList(change.removed).networks()) == set(old) - set(new)
    assert set(AddressList(change.added).networks()) == set(new) - set(old)


@settings(max_examples=500)
@given(
    st.sampled_from([4, 16]),
    st.sets(st.integers(0, 400)),
    st.sets(st.integers(0, 400), max_size=5),
    st.booleans(),
)
def test_long_lists_that_differ_in_few_entries(
    width: int, numbers: set[int], others: set[int], alike: bool
) -> None:
    """The difference is that of the sets, however it is found."""

    def packed(of: set[int]) -> bytes:
        return b"".join(number.to_bytes(width, "big") for number in sorted(of))

    wanted = numbers ^ others if alike else others
    outcome = difference(packed(numbers), packed(wanted), width)
    assert outcome == (packed(numbers - wanted), packed(wanted - numbers))


def test_the_difference_of_long_lists_is_found_in_small_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long either is: nothing else runs while many entries are made or sorted at once."""
    steps: list[int] = []

    def noted(packed: bytes, width: int) -> list[bytes]:
        steps.append(len(packed) // width)
        return split(packed, width)

    monkeypatch.setattr(lists, "split", noted)
    few, many, others = (
        b"".join(number.to_bytes(4, "big") for number in numbers)
        for numbers in ([5_000], range(0, 20_000, 2), range(0, 30_000, 3))
    )
    for old, new in ((few, many), (many, few), (many, others)):
        difference(old, new, 4)
    assert max(steps) <= 64


def test_lengths_are_those_of_one_ip_version() -> None:
    """The longest first."""
    members = entries("10.0.0.0/8", "10.0.0.1", "[2001:db8::]/32")
    assert members.lengths(Family.IPV4) == (32, 8)
    assert members.lengths(Family.IPV6) == (32,)
