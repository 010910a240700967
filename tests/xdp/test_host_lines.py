"""The addresses of this host as lines: whatever comes and goes, a look-up finds what is there."""

from __future__ import annotations

import struct
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.backend.xdp import abi
from ipsecd.backend.xdp.host_lines import HostLines
from ipsecd.errors import LimitExceeded
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Host

ADDRESSES = st.one_of(
    st.tuples(st.just(Family.IPV4), st.integers(0, 40) | st.integers(0, (1 << 32) - 1)),
    st.tuples(st.just(Family.IPV6), st.integers(0, 40) | st.integers(0, (1 << 128) - 1)),
)
SETS = st.frozensets(ADDRESSES, max_size=12)
HOSTS = st.lists(st.builds(Host, SETS, SETS), min_size=1, max_size=6)


def held(lines: bytes) -> Host:
    """What the lines hold, wherever it lies, each address once."""
    assert len(lines) == len(Family) * abi.HOST_LINES * abi.LINE
    own, shared = [], []
    for number in range(len(Family) * abi.HOST_LINES):
        family = Family.IPV4 if number < abi.HOST_LINES else Family.IPV6
        codec, size = (abi.HOST4, 4) if family is Family.IPV4 else (abi.HOST6, 16)
        data, kinds, used = codec.unpack_from(lines, number * abi.LINE)
        for place in range(used & ~abi.HASH_CONTINUES):
            address = family, int.from_bytes(data[place * size : (place + 1) * size], "big")
            own += [address] * bool(kinds[place] & abi.LOCAL_OWN)
            shared += [address] * bool(kinds[place] & abi.LOCAL_BROADCAST)
    host = Host(frozenset(own), frozenset(shared))
    assert len(own) + len(shared) == len(host.addresses) + len(host.broadcasts)
    return host


@given(HOSTS)
def test_lines_hold_the_last_host(hosts: list[Host]) -> None:
    """Nothing of the hosts before it is left."""
    lines = HostLines()
    for host in hosts:
        content = lines.of(host)
    assert held(content) == host


def place(family: Family, address: int) -> int:
    """The line in which a look-up for an address begins (bpf/classify.h)."""
    data = address.to_bytes(family.bits // 8, "big")
    if family is Family.IPV4:
        word = int.from_bytes(data, sys.byteorder) * 0x9E3779B1 & 0xFFFFFFFF
        return word >> (32 - abi.HOST_LINE_BITS)
    return abi.hash_words((*struct.unpack("=2Q", data), 0)) & (abi.HOST_LINES - 1)


def is_found(lines: bytes, family: Family, address: int) -> bool:
    """Whether a look-up, which ends at a line that does not continue, finds an address."""
    codec = abi.HOST4 if family is Family.IPV4 else abi.HOST6
    size, begin = family.bits // 8, 0 if family is Family.IPV4 else abi.HOST_LINES
    for probe in range(abi.HOST_PROBES):
        at = begin + (place(family, address) + probe) % abi.HOST_LINES
        data, _, used = codec.unpack_from(lines, at * abi.LINE)
        there = data[: (used & ~abi.HASH_CONTINUES) * size]
        if address.to_bytes(size, "big") in (
            there[n : n + size] for n in range(0, len(there), size)
        ):
            return True
        if not used & abi.HASH_CONTINUES:
            break
    return False


def alike(count: int) -> Host:
    """A host whose IPv6 addresses all have their place in a few lines next to each other."""
    found: list[int] = []
    number = 0
    while len(found) < count:
        if place(Family.IPV6, number) < 2:
            found.append(number)
        number += 1
    return Host(frozenset((Family.IPV6, address) for address in found))


def test_what_finds_no_room_is_refused_and_forgotten() -> None:
    """Of three addresses a line and eight lines, those that begin in two lines fill nine."""
    lines = HostLines()
    many = alike(30)
    with pytest.raises(LimitExceeded, match="more IPv6 addresses"):
        lines.of(many)
    few = Host(frozenset(sorted(many.addresses)[:20]))
    assert held(lines.of(few)) == few
    with pytest.raises(LimitExceeded):
        lines.of(many)
    assert held(lines.of(few)) == few


def test_what_lies_further_on_is_found_when_there_is_room_before_it_again() -> None:
    """A line that was full goes on saying that there is more."""
    lines = HostLines()
    addresses = sorted(alike(20).addresses)
    for first in range(len(addresses)):
        content = lines.of(Host(frozenset(addresses[first:])))
        assert all(is_found(content, *address) for address in addresses[first:])
        assert not any(is_found(content, *address) for address in addresses[:first])


def test_one_address_among_a_hundred_thousand_costs_little() -> None:
    """What changes is changed, and the rest left alone."""
    many = frozenset((Family.IPV4, 0x0A000000 + number) for number in range(100_000))
    lines = HostLines()
    lines.of(Host(many))
    took = []
    for number in range(5):
        begun = time.thread_time()
        content = lines.of(Host(many | {(Family.IPV4, number)}))
        took.append(time.thread_time() - begun)
    assert min(took) < 0.1, took
    assert held(content) == Host(many | {(Family.IPV4, 4)})
