"""Lines that are read at once hold what each of them holds by itself."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecd.errors import InvalidInput
from ipsecd.language import address_lists
from ipsecd.language.address_lists import ReadList, read_list
from ipsecd.language.list_entries import entries_in
from ipsecd.language.plain_lines import entries_of_plain

PLAIN = (
    *("192.0.2.7", "0.0.0.0", "255.255.255.255", "192.0.2.7/24", "10.0.0.0/8", "10.0.0.0/32"),
    *("0.0.0.0/0", "2001:db8::7", "2001:DB8::7/128", "::/0", "::1/3", "::1.2.3.4"),
    "",
)
ODD = (
    *("192.0.2.7/", "192.0.2.7/33", "192.0.2.7/024", "192.0.2.7/+4", "192.0.2.7/ 4", "/24", "/"),
    *("24/192.0.2.7/24", "192.0.2.7/24/", "192.0.2.7/24/24", "192.0.2.7/24/192.0.2.9/24"),
    *("192.0.2", "192.0.2.07", "192.0.2.7 ", "192.0.2.1-192.0.2.9", "10.0.0.0/255.0.0.0", "24"),
    *("::ffff:192.0.2.7", "::ffff:192.0.2.7/120", "::ffff:0:0/90", "fe80::ffff:1", "::1/::1"),
    *("192.0.2.7/::", "::/129", "[::1]", "::1%lo", "x", "\t", "\xff", "\uff1192.0.2.7"),
    *("192.0.2.7\0", "192.0.2.7/24\0", "192.0.2.7\r", "192.0.2.7\x0b/24"),
)


def by_themselves(lines: list[str]) -> list[tuple[int, int, bytes]]:
    entries = [entry for line in lines if line for entry in entries_in(line)]
    return sorted((form.family, form.length, packed) for form, packed in entries)


@given(st.lists(st.sampled_from(PLAIN)))
def test_plain_lines_are_read_at_once(lines: list[str]) -> None:
    """Addresses and prefixes of both IP versions, and nothing in between."""
    at_once = entries_of_plain(lines)
    assert at_once is not None
    entries = [(f.family, f.length, packed) for f, each in at_once.items() for packed in each]
    assert sorted(entries) == by_themselves(lines)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("others", [[], ["192.0.2.7"], ["192.0.2.0/24"], ["::1", "::/3"]])
def test_any_other_line_leaves_all_to_others(odd: str, others: list[str]) -> None:
    """One is enough, also among lines that have what it lacks."""
    assert entries_of_plain([*others, odd]) is None
    assert entries_of_plain([odd, *others]) is None


def outcome(content: bytes) -> ReadList | str:
    try:
        return read_list(content, "feed")
    except InvalidInput as error:
        return str(error)


@given(st.lists(st.sampled_from((*PLAIN, *ODD)) | st.text("0123456789./:fF", max_size=20)))
def test_it_makes_no_difference_what_reads_a_list(lines: list[str]) -> None:
    """What is read, cleared and malformed is the same if each line is looked at by itself."""
    content = "\n".join(lines).encode()
    read = outcome(content)
    with patch.object(address_lists, "entries_of_plain", return_value=None):
        assert outcome(content) == read
