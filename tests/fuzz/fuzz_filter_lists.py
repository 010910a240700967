"""Fuzz target: any bytes are a list of filters that print and read back, or an error about them."""

from __future__ import annotations

from ipsecd.errors import InvalidInput
from ipsecd.language.filter_lists import parse_filter_list
from ipsecd.language.filters import format_filter, parse_filter
from tests.fuzz.running import fuzz

SEEDS = (
    b"# bans\r\n203.0.113.7\r\n\r\n2001:db8::/32 # a network\n*=0:1434:UDP\n",
    b"\xef\xbb\xbfudp/1434\n22/tcp\n@drop=0:22:TCP\n0=@drop\n",
    b'"worm.example=0"\ncontainer:web=0\nlabel:a=b=0\n',
    b"10.0.0.0/255.0.0.0+0:1-1024:TCP\n[fd09::1]:53=*::UDP",
    b"\x00\xff\x1b[31m\n\xe2\x80\xa8\n",
    b"",
)


def fuzz_one(data: bytes) -> None:
    """Read `data`; each filter that comes of it has a text that reads back."""
    try:
        filters = [*parse_filter_list(data, "fuzz")]
    except InvalidInput as error:
        check(error)
        return
    assert len(filters) <= data.count(b"\n") + 1
    for each in filters:
        assert parse_filter(format_filter(each)) == each


def check(error: InvalidInput) -> None:
    """An error names the list, and controls no terminal."""
    assert error.source == "fuzz"
    assert error.message.isprintable()


if __name__ == "__main__":
    fuzz(fuzz_one)
