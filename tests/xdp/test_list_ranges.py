"""The ranges of lists that are edited in place say what the list says, whatever it was before."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator

import pytest

from ipsecd.backend.xdp import abi, list_ranges, range_edits
from ipsecd.backend.xdp.list_ranges import Edit, ListKey, ListRanges, list_lines
from ipsecd.backend.xdp.range_edits import edited
from ipsecd.model.addresses import Family, Network
from ipsecd.model.lists import AddressList, listed

SHORTEST = {Family.IPV4: 12, Family.IPV6: 46}
BASE = {Family.IPV4: 10 << 24, Family.IPV6: 0x2001 << 112}
FIRST = 3
"""The line of an image from which on the ranges lie."""


class Image:
    """The memory of an image that holds the ranges of one list, as programs look into it."""

    def __init__(self, key: ListKey, members: AddressList) -> None:
        lines = list_lines(key, members)
        assert lines
        self.memory = bytearray(FIRST * abi.LINE) + lines.lines
        self.ranges: ListRanges = list_ranges.list_ranges(key, members, lines, 0, FIRST)

    def edit(self, key: ListKey, members: AddressList) -> Edit | None:
        edit = edited(self.ranges, key, members, self.memory)
        if edit:
            for at, data in edit.writes:
                assert FIRST * abi.LINE <= at <= len(self.memory) - len(data)
                self.memory[at : at + len(data)] = data
            edit.note()
        return edit

    def holds(self, address: int) -> bool:
        """Whether the programs find an address, by the same steps as find_range4 and 6."""
        lines, family = self.ranges.lines, self.ranges.key.family
        upper = address >> (0 if family is Family.IPV4 else 64)
        bucket = upper - lines.origin >> lines.shift
        if upper < lines.origin or bucket >= lines.buckets:
            return False
        (word,) = struct.unpack_from("=I", self.memory, FIRST * abi.LINE + 4 * bucket)
        if word & 31 == abi.NO_RANGES:
            return False
        number, width = word >> 5, 1 << (word & 31)
        while width := width >> 1:
            following = number + width
            if following < lines.count and self._range(following)[0] <= address:
                number = following
        first, last = self._range(number)
        return first <= address <= last

    def _range(self, number: int) -> tuple[int, int]:
        at = (FIRST + self.ranges.lines.entries) * abi.LINE
        if self.ranges.key.family is Family.IPV4:
            first, last = struct.unpack_from("=II", self.memory, at + 8 * number)
            return first, last
        a, b, c, d = struct.unpack_from("=QQQQ", self.memory, at + 32 * number)
        return a << 64 | b, c << 64 | d


def near(luck: random.Random, family: Family, count: int) -> Iterator[Network]:
    """Entries of which many lie in each other, some at either end of a range of addresses."""
    bits = family.bits
    for _ in range(count):
        length = luck.choice((*range(SHORTEST[family], bits + 1, 5), bits, bits, bits))
        address = BASE[family] | luck.getrandbits(bits - SHORTEST[family])
        if luck.randrange(3):
            address &= ~((1 << bits - SHORTEST[family]) - 1 & ~0x3FF)
        yield Network(family, address >> bits - length << bits - length, length)


def key_of(family: Family, members: AddressList) -> ListKey:
    return ListKey("l", family, members.lengths(family))


def edges(networks: Iterable[Network]) -> Iterator[int]:
    """The first and last addresses, and their neighbours."""
    for network in networks:
        bits = network.family.bits
        last = network.address | (1 << bits - network.length) - 1
        for edge in (network.address, last):
            yield from (n for n in (edge - 1, edge, edge + 1) if 0 <= n < 1 << bits)


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("seed", range(6))
def test_they_say_what_the_list_says(family: Family, seed: int) -> None:
    """At every edge of what was, came and went, over many changes and with other lengths."""
    luck = random.Random(seed)
    present = set(near(luck, family, luck.choice((3, 40, 400))))
    members = listed(present)
    image = Image(key_of(family, members), members)
    in_place = 0
    for _ in range(60):
        gone = set(luck.sample(sorted(present, key=repr), min(len(present) - 1, luck.randrange(6))))
        came = set(near(luck, family, luck.randrange(6)))
        present = (present - gone) | came
        members = listed(present)
        key = key_of(family, members)
        if image.edit(key, members):
            in_place += 1
        else:
            image = Image(key, members)
        forms = key.forms
        for address in set(edges((*present, *gone))):
            wanted = any(members.holds(form, address) for form in forms)
            assert image.holds(address) is wanted, (hex(address), gone, came)
    assert in_place > 30


@pytest.mark.parametrize("family", Family)
def test_an_edit_of_one_entry_writes_the_same_in_a_long_list(family: Family) -> None:
    """A window of ranges and a word, and a word alone for what goes."""
    luck = random.Random(1)
    for count in (1_000, 30_000):
        step = (1 << family.bits - 3) // count
        hosts = [Network(family, BASE[family] + n * step, family.bits) for n in range(count)]
        members = listed(hosts)
        key = key_of(family, members)
        image = Image(key, members)
        new = Network(family, BASE[family] + luck.randrange(count) * step + 7, family.bits)
        edit = image.edit(key, listed([*hosts, new]))
        assert edit
        assert len(edit.writes) == 2
        assert sum(len(data) for _, data in edit.writes) <= 2 * 32 + 4
        edit = image.edit(key, listed(hosts))
        assert edit
        assert len(edit.writes) <= 2


def test_what_an_entry_is_covered_by_stays() -> None:
    """It comes and goes without a write, and when the wider one goes it is there."""
    family = Family.IPV4
    wide, narrow = Network(family, 10 << 24, 20), Network(family, (10 << 24) + 5, 32)
    other = Network(family, (10 << 24) + (1 << 20), 32)
    key = ListKey("l", family, (32, 20))
    image = Image(key, listed([wide, other]))
    for members in (listed([wide, narrow, other]), listed([wide, other])):
        edit = image.edit(key, members)
        assert edit
        assert not edit.writes
    image.edit(key, listed([wide, narrow, other]))
    assert image.edit(key, listed([narrow, other]))
    assert [image.holds((10 << 24) + n) for n in (4, 5, 6)] == [False, True, False]


def test_room_is_used_again() -> None:
    """However often the same few entries come and go, the list need not be laid out anew."""
    family = Family.IPV4
    hosts = [Network(family, (10 << 24) + 256 * n, 32) for n in range(100)]
    key = ListKey("l", family, (32,))
    image = Image(key, listed(hosts))
    for turn in range(3 * list_ranges.LEAST_ROOM):
        new = Network(family, (10 << 24) + 256 * (turn % 50) + 1 + turn % 3, 32)
        assert image.edit(key, listed([*hosts, new]))


@pytest.mark.parametrize("address", [9 << 24, 11 << 24])
def test_what_the_index_does_not_reach_is_laid_out_anew(address: int) -> None:
    """Of a short list; a long one that reaches over a quarter of all addresses has all in it."""
    family = Family.IPV4
    few = [Network(family, (10 << 24) + n, 32) for n in range(9)]
    key = ListKey("l", family, (32,))
    more = listed([*few, Network(family, address, 32)])
    image = Image(key, listed(few))
    assert image.edit(key, more) is None
    assert image.edit(key, listed(few[1:]))
    assert Image(key, more).edit(key, listed(few))
    far = [Network(family, n << 28, 32) for n in range(1, 14)]
    assert Image(key, listed(far)).edit(key, listed([*far, Network(family, 255 << 24, 32)]))


def test_too_much_at_a_time_is_laid_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of entries, of what they reach into, and of what fits beside the others."""
    family = Family.IPV4
    hosts = [Network(family, (10 << 24) + 16 * n, 32) for n in range(2000)]
    key, wider = ListKey("l", family, (32,)), ListKey("l", family, (32, 18))
    image = Image(key, listed(hosts))
    monkeypatch.setattr(range_edits, "IN_PLACE", 100)
    assert image.edit(key, listed(hosts[101:])) is None
    assert image.edit(key, listed(hosts[100:]))
    image = Image(key, listed(hosts))
    assert image.edit(wider, listed([*hosts, Network(family, 10 << 24, 18)])) is None
    monkeypatch.setattr(list_ranges, "LEAST_ROOM", 4)
    short = hosts[:4]
    image = Image(key, listed(short))
    more = [Network(family, (10 << 24) + n, 32) for n in range(20)]
    assert image.edit(key, listed([*short, *more])) is None
    assert all(image.holds(host.address) for host in short)


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("crowd", [2, 3, 5, 6, 9])
def test_a_crowd_in_the_last_bucket_is_found(family: Family, crowd: int) -> None:
    """The window of ranges there reaches further than the ranges do, and room is behind them."""
    bits, far = family.bits, 1 << (family.bits - 12)
    hosts = [Network(family, BASE[family] + n * far, bits) for n in range(9)]
    hosts += [Network(family, BASE[family] + 9 * far + 2 * n, bits) for n in range(crowd)]
    image = Image(ListKey("l", family, (bits,)), listed(hosts))
    for address in edges(hosts):
        assert image.holds(address) is any(host.address == address for host in hosts)
