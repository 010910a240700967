"""Fuzz target: any bytes are a list of filters, each that of its line alone, or an error."""

from __future__ import annotations

import re

from ipsecd.errors import InvalidInput
from ipsecd.language.filter_lists import parse_filter_list
from ipsecd.language.filters import format_filter, parse_filter, parse_short
from tests.fuzz.running import fuzz

SEEDS = (
    b"# bans\n203.0.113.7 ; why\n\nudp/9 # x\n2001:db8::/32\n",
    b"\xef\xbb\xbf203.0.113.0/24\r\n*=0:1434:UDP\r\n",
    b"0+10.0.0.0/255.0.0.0::TCP\n[2001:db8::1]:7=0\n@drop=0\n",
    b"10.0.0.1\r10.0.0.2\n",
    b"10.0.0.1\x0b10.0.0.2\xe2\x80\xa810.0.0.3\n",
    b"0.0.0.0/0 10.0.0.1\n#;#;\n;\n",
    b"\xff\xfe1\x000\x00",
    b"",
)


def fuzz_one(data: bytes) -> None:
    """Read `data` as the input of ``block -`` and ``block @FILE``."""
    try:
        filters = list(parse_filter_list(data, "fuzz"))
    except InvalidInput as error:
        check(error, data)
        return
    lines = [re.split("[#;]", line)[0] for line in data.decode("utf-8-sig").split("\n")]
    assert filters == [parse_short(line.strip()) for line in lines if line.strip()]
    assert [parse_filter(format_filter(member)) for member in filters] == filters


def check(error: InvalidInput, data: bytes) -> None:
    """An error names the list and a line in it."""
    assert error.source == "fuzz"
    assert 1 <= error.line <= data.count(b"\n") + 1
    assert error.message


if __name__ == "__main__":
    fuzz(fuzz_one)
