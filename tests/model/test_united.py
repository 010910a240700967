"""Lists that are put together are the same, whether anew or only by what differs."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.language.filters import parse_filter
from ipsecd.model import united as united_module
from ipsecd.model.addresses import JOINED, Family, Network
from ipsecd.model.lists import AddressList, listed
from ipsecd.model.packing import changed, united
from ipsecd.model.united import joined, list_of
from ipsecd.model.values import Action, InForce, Origin
from tests.model.test_packing import FEW, SETS
from tests.strategies import ENTRIES

NAMES = ("a", "b", "c")
NAME = JOINED.join(NAMES)


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(SETS, SETS, SETS), st.lists(st.tuples(st.sampled_from(NAMES), FEW, FEW), max_size=6)
)
def test_what_differs_is_put_in_the_place_of_what_was(
    sets: tuple[set[Network], ...], changes: list[tuple[str, set[Network], set[Network]]]
) -> None:
    """After each change of a member, the whole has the entries and the digest of all members."""
    lists = {name: listed(nets) for name, nets in zip(NAMES, sets, strict=True)}
    whole = list_of(NAME, lists)
    for name, gone, come in changes:
        assert whole is not None
        assert whole.digest, "it is worked out once, and follows the changes"
        lists[name] = changed(lists[name], listed(gone), listed(come))
        whole = list_of(NAME, lists)
        expected = united(lists.values())
        assert whole is not None
        assert dict(whole.entries) == dict(expected.entries)
        assert whole.digest == expected.digest


def test_it_is_put_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same members are the same object, for as long as somebody has it."""
    lists = {name: listed(ENTRIES[n : n + 4]) for n, name in enumerate(NAMES)}
    whole = list_of(NAME, lists)
    monkeypatch.setattr(united_module, "_put_together", None)
    assert list_of(NAME, dict(lists)) is whole


def test_a_change_of_one_member_does_not_put_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what came and went is looked at, and what another member has stays."""
    addresses = [Network(Family.IPV4, n, 32) for n in range(8)]
    lists = {name: listed(addresses[n : n + 4]) for n, name in enumerate(NAMES)}
    whole = list_of(NAME, lists)
    assert whole is not None
    compared = whole.digest
    taken: list[int] = []

    def counting(members: Iterable[AddressList]) -> AddressList:
        result = united(members)
        taken.append(len(result))
        return result

    monkeypatch.setattr(united_module, "united", counting)
    lists["a"] = changed(lists["a"], listed(addresses[:2]), AddressList())
    new = list_of(NAME, lists)
    assert new is not None
    assert taken == [2, 0]
    assert len(new) == len(whole) - 1, "the second entry is in another list too"
    assert new.digest != compared
    assert new.layers.base is whole.layers.base


def test_filters_of_one_rule_that_differ_in_their_list_become_one() -> None:
    """Those of another rule, action, port or direction, and those with two lists, do not."""
    texts = ("@a=0", "@b=0", "@c=0:22:TCP", "0=@a", "@a=@b", "192.0.2.1=0")
    rule, other = Origin("static", "P", "r"), Origin("static", "P", "s")
    filters = [InForce(rule, parse_filter(text), Action.BLOCK) for text in texts]
    filters.append(InForce(other, parse_filter("@b=0"), Action.BLOCK))
    addresses = sorted(
        f"{end.address}{in_force.origin.rule}"
        for in_force in joined(filters)
        for end in (in_force.filter.source, in_force.filter.destination)
        if str(end.address).startswith("@")
    )
    assert addresses == ["@a+br", "@ar", "@ar", "@br", "@bs", "@cr"]
