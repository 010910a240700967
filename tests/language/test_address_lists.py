"""Address lists are read as people and feeds write them, and nothing else is taken for one."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.errors import InvalidInput, LimitExceeded
from ipsecd.language import address_lists
from ipsecd.language.address_lists import ReadList, read_addresses, read_list
from ipsecd.language.list_entries import format_list
from ipsecd.model.lists import AddressList, Form
from ipsecd.model.packing import Packing

FIREHOL = b"""#
# firehol_level1
# ipv4 hash:net ipset
#
0.0.0.0/8
1.10.16.0/20
192.0.2.9
"""
DROP = b"""; Spamhaus DROP List 2026/11/30 - (c) 2026 The Spamhaus Project SLU
; Last-Modified: Mon, 30 Nov 2026 00:00:00 GMT
1.10.16.0/20 ; SBL256894
2001:db8:1::/48 ; SBL1
"""
DROP_JSON = b"""{"cidr":"1.10.16.0/20","sblid":"SBL256894","rir":"apnic"}
{"cidr":"2001:db8:1::/48","sblid":"SBL1","rir":"ripencc"}
{"type":"metadata","timestamp":1764460800,"size":2,"records":2}
"""
IPSET = b"""create bans hash:net family inet hashsize 1024 maxelem 65536 comment bucketsize 12
add bans 192.0.2.7
add bans 198.51.100.0/24 timeout 300 comment "a nomatch # in words"
add bans 10.0.0.1-10.0.0.2
add bans 203.0.113.9 nomatch
add ports 192.0.2.1,tcp:80
"""
CSV = b"""# a feed, separated as these are
"first seen","dst_ip","port"
"2026-11-30","192.0.2.7","443"
"2026-11-30","2001:db8::7"
"2026-11-30"
"2026-11-30,"192.0.2.8","443"
"2026-11-30","192.0.2.9","443"
"""


def texts(addresses: AddressList) -> list[str]:
    return list(format_list(addresses))


def read(content: bytes, form: str = "") -> ReadList:
    """The list, which is the same in whatever blocks its text comes; and as it is passed on."""
    outcome = read_list(content, "feed", form)
    passed_on = Packing()
    sizes = []

    def take(entries: Mapping[Form, bytes], size: int) -> None:
        sizes.append(size)
        for entry_form, packed in entries.items():
            assert packed
            assert passed_on.put(entry_form, packed) == 0

    blocks = (content[n : n + 1] for n in range(len(content)))
    assert read_list(blocks, "feed", form, take) == outcome
    assert passed_on.packed() == outcome.addresses
    assert len(content) - 3 <= sum(sizes) <= len(content)
    return outcome


@pytest.mark.parametrize(
    ("line", "entries"),
    [
        ("192.0.2.7", ["192.0.2.7"]),
        ("  192.0.2.7\t", ["192.0.2.7"]),
        ("192.0.2.7 # a comment", ["192.0.2.7"]),
        ("192.0.2.7;a comment", ["192.0.2.7"]),
        ("192.0.2.7/32", ["192.0.2.7"]),
        ("192.0.2.0/24", ["192.0.2.0/24"]),
        ("192.0.2.0 / 24", ["192.0.2.0/24"]),
        ("192.0.2.0/255.255.255.0", ["192.0.2.0/24"]),
        ("2001:DB8::7", ["2001:db8::7"]),
        ("[2001:db8::7]", ["2001:db8::7"]),
        ("2001:db8::/32", ["2001:db8::/32"]),
        ("[2001:db8::]/32", ["2001:db8::/32"]),
        ("[2001:db8::/32]", ["2001:db8::/32"]),
        ("::ffff:192.0.2.7", ["192.0.2.7"]),
        ("::ffff:192.0.2.0/120", ["192.0.2.0/24"]),
        ("::ffff:0:0/96", ["0.0.0.0/0"]),
        ("::/0", ["::/0"]),
        ("0.0.0.0/0", ["0.0.0.0/0"]),
        ("192.0.2.1-192.0.2.4", ["192.0.2.1", "192.0.2.2/31", "192.0.2.4"]),
        ("192.0.2.7 - 192.0.2.7", ["192.0.2.7"]),
        ("0.0.0.0-255.255.255.255", ["0.0.0.0/0"]),
        ("2001:db8::-2001:db8::ffff", ["2001:db8::/112"]),
    ],
)
def test_an_entry_is_an_address_a_prefix_or_a_range(line: str, entries: list[str]) -> None:
    """It is packed as what it stands for, and printed in canonical form."""
    outcome = read(line.encode())
    assert texts(outcome.addresses) == entries
    assert (outcome.malformed, outcome.lines) == (0, 1)


@pytest.mark.parametrize(
    "line",
    [
        *("192.0.2", "192.0.2.256", "192.0.2.07", "192.0.2.1.5", "0x7f000001", "3221225985"),
        *(
            "192.0.2.7 192.0.2.8",
            "192.0.2.7,192.0.2.8",
            "192.0.2.7/33",
            "192.0.2.7/",
            "192.0.2.7/-1",
        ),
        *("192.0.2.0/255.0.255.0", "192.0.2.0/024x", "192.0.2.7/+24", "192.0.2.7/2 4"),
        *("2001:db8::/129", "2001:db8:::", "fe80::1%eth0", "[2001:db8::1", "[192.0.2.7]", "[]/0"),
        *("192.0.2.9-192.0.2.1", "192.0.2.1-2001:db8::1", "192.0.2.1-", "-192.0.2.1", "1-2"),
        *("host.example", "*", "0", "me", "192.0.2.*", "10.1.*.*", "192.0.2.7\0", "\0"),
        *("١٩٢.0.2.7", "192.0.2.7\x85", "192.0.2.7\rx", "@bans"),
    ],
)
def test_anything_else_is_malformed(line: str) -> None:
    """It is counted, is shown with its number, and adds nothing."""
    outcome = read(f"198.51.100.1\n\n{line}\n".encode())
    assert texts(outcome.addresses) == ["198.51.100.1"]
    assert outcome.malformed == 1
    assert outcome.shown[0].number == 3
    assert outcome.shown[0].text == line.strip(" \t")


def test_an_error_cannot_write_on_the_terminal() -> None:
    """A malformed line is quoted: what controls a terminal is escaped."""
    shown = read(b"192.0.2.7\n\x1b]0;owned\x07\xff\n").shown[0]
    assert "\\x1b" in str(shown)
    assert "\x1b" not in str(shown)


def test_bits_behind_the_length_are_cleared_and_counted() -> None:
    """A prefix with such bits is its network, in either IP version."""
    outcome = read(b"192.0.2.7/24\n2001:db8::1/64\n192.0.2.0/24\n10.0.0.1/255.0.0.0")
    assert texts(outcome.addresses) == ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/64"]
    assert (outcome.cleared, outcome.read, outcome.repeated) == (3, 4, 1)


@pytest.mark.parametrize(
    ("content", "form", "entries"),
    [
        (FIREHOL, "plain", ["0.0.0.0/8", "1.10.16.0/20", "192.0.2.9"]),
        (FIREHOL.replace(b"\n", b"\r\n"), "plain", ["0.0.0.0/8", "1.10.16.0/20", "192.0.2.9"]),
        (b"\xef\xbb\xbf" + DROP, "plain", ["1.10.16.0/20", "2001:db8:1::/48"]),
        (DROP_JSON, "json", ["1.10.16.0/20", "2001:db8:1::/48"]),
        (b"\r\n" + DROP_JSON.replace(b"\n", b"\r\n"), "json", ["1.10.16.0/20", "2001:db8:1::/48"]),
        (b"", "plain", []),
        (b"# nothing yet\n\n", "plain", []),
    ],
)
def test_forms_are_seen_by_the_first_line(content: bytes, form: str, entries: list[str]) -> None:
    """Comments, byte order marks and both ends of lines are no part of it."""
    outcome = read(content)
    assert (outcome.format, outcome.malformed) == (form, 0)
    assert texts(outcome.addresses) == entries


@pytest.mark.parametrize("content", [b"\n\xef\xbb\xbf192.0.2.1\n192.0.2.2\n", b"\n", b"\n1.1.1.1"])
def test_it_does_not_matter_where_the_blocks_of_a_text_end(content: bytes) -> None:
    """A mark counts where the text begins and nowhere else, even if lines before it are short."""
    blocks = [content[at : at + 1] for at in range(len(content))]
    try:
        whole = read_list([content], "<test>")
    except InvalidInput as error:
        with pytest.raises(InvalidInput, match=re.escape(error.message)):
            read_list(blocks, "<test>")
        return
    by_bytes = read_list(blocks, "<test>")
    assert texts(by_bytes.addresses) == texts(whole.addresses)
    assert by_bytes.malformed == whole.malformed


def test_what_ipset_saves_is_read() -> None:
    """Exceptions and entries with ports are malformed: they would mean something else."""
    outcome = read(IPSET)
    assert outcome.format == "ipset"
    assert texts(outcome.addresses) == [
        *("10.0.0.1", "10.0.0.2", "192.0.2.7", "198.51.100.0/24"),
    ]
    assert [line.number for line in outcome.shown] == [5, 6]


def test_a_column_is_read() -> None:
    """A quote that is not closed spoils its own line alone."""
    outcome = read(CSV, "csv:dst_ip")
    assert texts(outcome.addresses) == ["192.0.2.7", "192.0.2.9", "2001:db8::7"]
    assert [line.number for line in outcome.shown] == [5, 6]


@pytest.mark.parametrize(
    "content", [b"a;ip\n1;192.0.2.7\n", b"a\tip\n\t192.0.2.7\n", b"# when,ip\n1,192.0.2.7\n"]
)
def test_columns_are_separated_as_the_names_are(content: bytes) -> None:
    """By semicolons or tabs as well; the names may stand in a comment."""
    assert texts(read(content, "csv:ip").addresses) == ["192.0.2.7"]


def test_a_column_that_is_not_there_is_refused() -> None:
    """The columns that are there are named."""
    with pytest.raises(InvalidInput, match="no column 'ip'") as error:
        read_list(CSV, "feed", "csv:ip")
    assert "dst_ip" in error.value.hint


@pytest.mark.parametrize("form", ["xml", "csv:", "csv"])
def test_a_form_that_is_none_is_refused(form: str) -> None:
    """The error names the forms."""
    with pytest.raises(InvalidInput, match="no format") as error:
        read_list(FIREHOL, "feed", form)
    assert "ipset" in error.value.hint


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<html>Not found</html>\n",
        b"{\n",
        b"[" * 100_000,
        b'{"cidr":' + b"[" * 30_000 + b"\n",
        b'{"cidr": 7}\n{"cidr": "\\u2603\\ud800"}\n',
        b"\xff\xfe1\x009\x00",
        b"\x1f\x8b\x08\x00",
        b"192.0.2.7 198.51.100.9\n" * 3,
    ],
)
def test_what_holds_no_entry_is_refused(content: bytes) -> None:
    """A page of an error, or a file of another kind, is no list without entries."""
    with pytest.raises(InvalidInput) as error:
        read_list(content, "feed")
    assert error.value.message
    assert error.value.source == "feed"


def test_many_malformed_lines_are_counted_and_few_shown() -> None:
    """Their number is exact, and the first ten are kept, cut."""
    outcome = read_list(b"192.0.2.7\n" + b"x" * 1000 + b"\n" + b"y\n" * 99, "feed")
    assert outcome.malformed == 100
    assert len(outcome.shown) == 10
    assert max(len(line.text) for line in outcome.shown) == 200


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many bytes end early, as do too many entries, and a line without an end."""
    taken = 0

    def endless(block: bytes) -> Iterable[bytes]:
        nonlocal taken
        while True:
            taken += len(block)
            yield block

    monkeypatch.setattr(address_lists, "MAX_BYTES", 5_000_000)
    with pytest.raises(LimitExceeded, match="5,000,000 bytes"):
        read_list(endless(b"192.0.2.7\n" * 10_000), "feed")
    assert taken < 6_000_000
    with pytest.raises(InvalidInput, match="line 1 of 'feed' is longer"):
        read_list(endless(b"x"), "feed")
    monkeypatch.setattr(address_lists, "MAX_ENTRIES", 5)
    with pytest.raises(LimitExceeded, match="more than 5 entries"):
        read_list(b"192.0.2.7\n" * 6, "feed")
    with pytest.raises(LimitExceeded, match="more than 5 entries"):
        read_list(b"0.0.0.1-255.255.255.254", "feed")


def test_large_blocks_are_taken_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of lines go on from piece to piece."""
    monkeypatch.setattr(address_lists, "BLOCK", 30)
    outcome = read(b"192.0.2.7\n" * 20 + b"x\n" + b"192.0.2.8\n" * 20)
    assert [line.number for line in outcome.shown] == [21]
    assert (outcome.lines, outcome.read) == (41, 40)


@given(st.integers(4, 6).filter(lambda n: n != 5), st.data())
def test_a_range_is_covered_exactly(version: int, data: st.DataObject) -> None:
    """Its prefixes are those that another library makes of it."""
    bits = 32 if version == 4 else 128
    low = data.draw(st.one_of(st.integers(0, 300), st.integers(2**bits - 300, 2**bits - 1)))
    high = data.draw(
        st.one_of(st.integers(low, min(low + 300, 2**bits - 1)), st.integers(low, 2**bits - 1))
    )
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    # Written in full: the other library prints some addresses as IPv4 in IPv6.
    first, last = make(low), make(high)
    expected = {
        (int(net.network_address), net.prefixlen)
        for net in ipaddress.summarize_address_range(first, last)
    }
    packed = read(f"{first.exploded}-{last.exploded}".encode()).addresses
    assert {(n.address, n.length) for n in packed.networks() if int(n.family) == version} == {
        entry for entry in expected if not _is_mapped(version, *entry)
    }


def _is_mapped(version: int, address: int, length: int) -> bool:
    return version == 6 and length >= 96 and address >> 32 == 0xFFFF


@given(
    st.lists(st.tuples(st.sampled_from((4, 6)), st.integers(0, 2**128 - 1), st.integers(0, 128)))
)
def test_what_is_printed_reads_back(entries: list[tuple[int, int, int]]) -> None:
    """It is in order, and the same list."""
    lines = []
    for version, address, length in entries:
        if version == 4:
            lines.append(f"{ipaddress.IPv4Address(address >> 96)}/{min(length, 32)}")
        else:
            lines.append(f"{ipaddress.IPv6Address(address)}/{length}")
    packed = read("\n".join(lines).encode()).addresses
    printed = texts(packed)
    assert read("\n".join(printed).encode()).addresses == packed
    order = [ipaddress.ip_network(text) for text in printed]
    assert order == sorted(order, key=lambda n: (n.version, n.network_address, n.prefixlen))


def test_what_is_typed_has_to_be_right() -> None:
    """Each text is one entry, and bits behind its length are refused, as in filters."""
    assert texts(read_addresses(["192.0.2.7", " [2001:db8::]/32 ", "10.0.0.0-10.0.0.1"])) == [
        *("10.0.0.0/31", "192.0.2.7", "2001:db8::/32"),
    ]
    with pytest.raises(InvalidInput, match="bits set beyond its mask"):
        read_addresses(["192.0.2.7/24"])
    with pytest.raises(InvalidInput, match="is a name"):
        read_addresses(["192.0.2.7", "host.example"])
