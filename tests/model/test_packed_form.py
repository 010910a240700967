"""The form in which lists are kept and sent: one for each list, and nothing else is read."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.model.addresses import Family, Network
from ipsecd.model.lists import AddressList, listed
from ipsecd.model.packed_form import pack, unpack, unpack_strictly
from tests.engine.test_lists import entries

HEADER = struct.Struct(">BBQ")


def network(family: Family, address: int, length: int) -> Network:
    dropped = family.bits - length
    return Network(family, (address & (1 << family.bits) - 1) >> dropped << dropped, length)


NETWORKS = st.one_of(
    st.builds(network, st.just(Family.IPV4), st.integers(0, 1 << 32), st.integers(0, 32)),
    st.builds(network, st.just(Family.IPV6), st.integers(0, 1 << 128), st.integers(0, 128)),
)


@given(st.lists(NETWORKS, max_size=40))
def test_a_list_comes_back_as_it_was(networks: list[Network]) -> None:
    """Whatever it holds, by both readers, and equal lists have equal bytes."""
    addresses = listed(networks)
    content = pack(addresses)
    assert unpack(content) == unpack_strictly(content) == addresses
    assert pack(listed(reversed(networks))) == content


def test_entries_that_were_added_apart_are_packed_too() -> None:
    """The difference that a list has beside its packed entries is part of it."""
    more = entries("203.0.113.7").changed_in_few(
        AddressList(), entries("8.8.8.8", "[2001:db8::]/32")
    )
    assert unpack_strictly(pack(more)) == entries("203.0.113.7", "8.8.8.8", "[2001:db8::]/32")


def form(version: int, length: int, *packed: bytes) -> bytes:
    return HEADER.pack(version, length, len(packed)) + b"".join(packed)


LOW, HIGH = b"\x08\x08\x08\x08", b"\x09\x00\x00\x00"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x04", "ends in the middle"),
        (form(4, 32, LOW)[:-1], "not what their number says"),
        (form(4, 32, LOW) + b"\x04\x20", "ends in the middle"),
        (form(4, 32), "not what their number says"),
        (form(4, 33, LOW), "not what their number says"),
        (form(5, 32, LOW), "5 is not a valid Family"),
        (HEADER.pack(4, 32, 1 << 63) + LOW, "not what their number says"),
        (form(4, 32, HIGH, LOW), "not in order"),
        (form(4, 32, LOW, LOW), "not in order"),
        (
            form(
                4,
                32,
                *[(n * 2 + 1).to_bytes(4, "big") for n in range(1 << 14)],
                LOW[:3] + b"\x00",
                LOW[:3] + b"\x00",
            ),
            "not in order",
        ),
        (form(4, 32, LOW) + form(4, 24, HIGH), "not in order"),
        (form(4, 32, LOW) + form(4, 32, HIGH), "not in order"),
        (form(4, 24, LOW), "bits set behind"),
        (form(4, 9, b"\x09\x40\x00\x00"), "bits set behind"),
        (form(4, 0, b"\x00\x00\x00\x01"), "bits set behind"),
    ],
)
def test_what_is_no_list_is_refused(content: bytes, why: str) -> None:
    """Who signed it may be mistaken, and no entry that is not there may be looked for."""
    with pytest.raises(ValueError, match=why):
        unpack_strictly(content)
