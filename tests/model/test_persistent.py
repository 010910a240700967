"""A map that is changed by making another: it is as a dictionary is, and the former one stays."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.model.persistent import PersistentMap


@dataclass(frozen=True)
class Alike:
    """A key whose hash is that of many others."""

    number: int

    def __hash__(self) -> int:
        return self.number % 300


@given(st.lists(st.tuples(st.booleans(), st.integers(-40, 40)), max_size=200))
def test_it_is_as_a_dictionary_is(steps: list[tuple[bool, int]]) -> None:
    """After any additions, replacements and removals; absent keys may be removed."""
    ours: PersistentMap[int, int] = PersistentMap()
    theirs: dict[int, int] = {}
    for number, (adds, key) in enumerate(steps):
        former, content = ours, dict(theirs)
        if adds:
            ours = ours.with_item(key, number)
            theirs[key] = number
        else:
            ours = ours.without(key)
            theirs.pop(key, None)
        assert dict(former) == content
        assert len(former) == len(content)
    assert dict(ours) == theirs
    assert len(ours) == len(theirs) == len(list(ours))
    assert all(ours.get(key) == theirs.get(key) for key in range(-40, 41))


@given(st.lists(st.dictionaries(st.integers(-90, 90), st.integers(), max_size=90), max_size=8))
def test_many_items_at_once_are_as_one_by_one(steps: list[dict[int, int]]) -> None:
    """Whether they are new or replace others, and lie together or not."""
    ours: PersistentMap[Alike | int, int] = PersistentMap()
    theirs: dict[Alike | int, int] = {}
    for number, step in enumerate(steps):
        items = {Alike(key) if number % 2 else key: value for key, value in step.items()}
        former, content = ours, dict(theirs)
        ours = ours.with_items(items)
        theirs |= items
        assert dict(former) == content
        assert dict(ours) == theirs
        assert len(ours) == len(theirs)
        assert all(ours[key] == value for key, value in items.items())
    one_by_one: PersistentMap[Alike | int, int] = PersistentMap()
    for key, value in theirs.items():
        one_by_one = one_by_one.with_item(key, value)
    assert dict(one_by_one) == dict(ours)


def test_what_is_replaced_deep_in_the_tree_is_not_counted_again() -> None:
    """Where one of several items goes into a branch that is divided once more."""
    whole = PersistentMap[int, int]().with_items({32 * number: number for number in range(2000)})
    replaced = whole.with_items({32 * number: -1 for number in (7, 1999)} | {1: -1})
    assert len(replaced) == len(dict(replaced)) == 2001
    alone = whole.with_items({32 * 7: -1, 1: -1})
    assert len(alone) == len(dict(alone)) == 2001
    assert (alone[32 * 7], alone[1], whole[32 * 7]) == (-1, -1, 7)


@pytest.mark.parametrize("key", [int, str, Alike, lambda number: (number << 70, -number)])
def test_many_keys_are_found_and_removed(key: type[object]) -> None:
    """Also those whose hashes agree, which lie together."""
    numbers = list(range(3000))
    Random(1).shuffle(numbers)
    whole: PersistentMap[object, int] = PersistentMap()
    for number in numbers:
        whole = whole.with_item(key(number), number)  # type: ignore[call-arg]
    remaining = whole
    for number in numbers[:2000]:
        remaining = remaining.without(key(number))  # type: ignore[call-arg]
    assert sorted(whole.values()) == list(range(3000))
    assert sorted(remaining.values()) == sorted(numbers[2000:])
    assert key(numbers[0]) not in remaining  # type: ignore[call-arg]
    assert remaining[key(numbers[-1])] == numbers[-1]  # type: ignore[call-arg]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-400, 400)), max_size=300),
    st.lists(st.tuples(st.booleans(), st.integers(-400, 400)), max_size=60),
)
def test_what_differs_between_two_maps_is_each_key_with_another_value(
    first: list[tuple[bool, int]], then: list[tuple[bool, int]]
) -> None:
    """Whatever was divided, emptied or filled in between."""

    def changed(map_: PersistentMap[Alike, str], steps: list[tuple[bool, int]], word: str) -> Any:
        for adds, key in steps:
            map_ = map_.with_item(Alike(key), f"{word} {key}") if adds else map_.without(Alike(key))
        return map_

    before = changed(PersistentMap(), first, "first")
    after = changed(before, then, "then")
    keys = before.keys() | after.keys()
    expected = {
        key: (before.get(key), after.get(key))
        for key in keys
        if before.get(key) is not after.get(key)
    }
    differences = list(before.differences(after))
    assert {key: (was, is_) for key, was, is_ in differences} == expected
    assert len(differences) == len(expected)
