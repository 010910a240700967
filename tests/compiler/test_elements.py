"""Many set elements are laid out at once as each is by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipsecd.backend.nftables.elements import _LIST_BYTES, element, packed_elements
from ipsecd.model.lists import split


@given(st.integers(1, 40), st.data())
def test_keys_of_any_width_are_laid_out(width: int, data: st.DataObject) -> None:
    """Each with the padding that attributes have."""
    keys = data.draw(st.binary(max_size=9 * width))
    keys = keys[: len(keys) // width * width]
    expected = b"".join(map(element, split(keys, width)))
    assert b"".join(packed_elements(keys, width)) == expected


def test_no_list_is_longer_than_an_attribute_can_be() -> None:
    """They are all there, in several lists."""
    keys = b"".join(number.to_bytes(4, "big") for number in range(20_000))
    lists = list(packed_elements(keys, 4))
    assert len(lists) > 1
    assert max(map(len, lists)) <= _LIST_BYTES
    assert b"".join(lists) == b"".join(map(element, split(keys, 4)))
