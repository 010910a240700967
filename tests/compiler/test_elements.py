"""What is laid out by hand is what pyroute2 would make of it, many elements as each by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink import nftsocket

from ipsecd.backend.nftables import messages
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


@pytest.mark.parametrize("chain", ["state_0", "a" * 127])
def test_chains_are_laid_out_as_pyroute2_does(chain: str) -> None:
    """With the table and the name, and what a base chain has beside them."""
    names = [("NFTA_CHAIN_TABLE", "ipsecd"), ("NFTA_CHAIN_NAME", chain)]
    hook = [("NFTA_HOOK_HOOKNUM", 0), ("NFTA_HOOK_PRIORITY", -301)]
    base = [("NFTA_CHAIN_HOOK", {"attrs": hook}), ("NFTA_CHAIN_POLICY", 1)]
    plain = messages._encode(nftsocket.nft_chain_msg(), names)
    assert messages.new_chain("ipsecd", chain).attributes == plain
    assert messages.delete_chain("ipsecd", chain).attributes == plain
    assert messages.new_chain("ipsecd", chain, "prerouting", -301).attributes == messages._encode(
        nftsocket.nft_chain_msg(), [*names, *base, ("NFTA_CHAIN_TYPE", "filter")]
    )
