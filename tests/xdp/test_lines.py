"""Ranges cover what prefixes cover, and each address has the rule of the narrowest."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ipsecd.backend.xdp.lines import disjoint, prefix
from ipsecd.model.addresses import Family


@st.composite
def near_prefixes(draw: st.DrawFn, family: Family) -> dict[tuple[int, int], int]:
    """Prefixes close enough to lie in each other, at either end of the addresses or within."""
    bits = family.bits
    base = draw(st.sampled_from([0, 10 << (bits - 8), (1 << bits) - 64]))
    lengths = st.sampled_from([0, 1, 8, *range(bits - 6, bits + 1)])
    prefixes = {}
    for length, offset, rule in draw(
        st.lists(st.tuples(lengths, st.integers(0, 63), st.integers(1, 3)), min_size=1, max_size=12)
    ):
        dropped = bits - length
        prefixes[(base + offset) >> dropped << dropped, length] = rule
    return prefixes


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(Family))
def test_ranges_say_what_prefixes_say(data: st.DataObject, family: Family) -> None:
    """For every boundary and its neighbours; and they are sorted, disjoint and not empty."""
    prefixes = data.draw(near_prefixes(family))
    spans = {key: (1 << (family.bits - key[1])) - 1 for key in prefixes}
    firsts, lasts, rules = disjoint(family, [prefix(*key, rule) for key, rule in prefixes.items()])
    ends = [end for pair in zip(firsts, lasts, strict=True) for end in pair]
    assert ends == sorted(ends)
    assert all(last < first for last, first in zip(lasts, firsts[1:], strict=False))
    assert len(rules) == len(firsts)
    edges = {edge for at, length in prefixes for edge in (at, at + spans[at, length])}
    for address in sorted({edge + step for edge in edges for step in (-1, 0, 1)}):
        holding = [key for key in prefixes if key[0] <= address <= key[0] + spans[key]]
        wanted = prefixes[max(holding, key=lambda key: key[1])] if holding else None
        rules_there = [
            rule
            for first, last, rule in zip(firsts, lasts, rules, strict=True)
            if first <= address <= last
        ]
        assert rules_there == ([] if wanted is None else [wanted])
