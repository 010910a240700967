"""Fuzz target: any bytes are a list that prints and reads back, or an error about them."""

from __future__ import annotations

from unittest.mock import patch

from ipsecd.errors import InvalidInput
from ipsecd.language import address_lists
from ipsecd.language.address_lists import MOST_SHOWN, read_addresses, read_list
from ipsecd.language.list_entries import format_list
from tests.fuzz.running import fuzz

SEEDS = (
    b"# a list\r\n192.0.2.7\r\n198.51.100.0/24 ; SBL1\r\n2001:db8::/32 # net\r\n",
    b"\xef\xbb\xbf192.0.2.1-192.0.2.9\n::ffff:1.2.3.4/120\n[2001:db8::1/64]\n0.0.0.0/0.0.0.0\n",
    b'{"cidr":"1.10.16.0/20","sblid":"SBL1"}\n{"type":"metadata"}\n{"cidr":["\\ud800"]}\n',
    b'create s hash:net\nadd s 192.0.2.7 comment "x" nomatch\nadd s 10.0.0.0/8 timeout 3\n',
    b'# when,ip\n"1","192.0.2.7"\n2,"2001:db8::7\n3\n',
    b"a;ip\tb\n;::1\n",
    b"#\n# level1\n# Maintainer : x\n#\n0.0.0.0/8\n1.10.16.0/20\n192.0.2.7\n",
    b"192.0.2.7\n192.0.2.9\n192.0.2.7/24\n2001:db8::7\n2001:db8::/32\n24/192.0.2.7/24\n",
    b"\xff\xfe\x1f\x8b\x00PK",
    b"",
)


def fuzz_one(data: bytes) -> None:
    """Read `data` in every form, whole and byte by byte."""
    for form in ("", "plain", "json", "ipset", "csv:ip"):
        try:
            outcome = read_list(data, "fuzz", form)
        except InvalidInput as error:
            check(error)
            continue
        assert outcome == read_list((data[n : n + 1] for n in range(len(data))), "fuzz", form)
        with patch.object(address_lists, "entries_of_plain", return_value=None):
            assert outcome == read_list(data, "fuzz", form)
        assert outcome.repeated >= 0
        assert len(outcome.shown) == min(outcome.malformed, MOST_SHOWN)
        assert all(str(line).isprintable() for line in outcome.shown)
        printed = list(format_list(outcome.addresses))
        assert read_addresses(printed) == outcome.addresses


def check(error: InvalidInput) -> None:
    """An error names the list, and controls no terminal."""
    assert error.source == "fuzz"
    assert error.message.isprintable()


if __name__ == "__main__":
    fuzz(fuzz_one)
