"""Fuzz target: any text is a filter that prints and reads back, or ``InvalidInput``."""

from __future__ import annotations

from ipsecd.errors import InvalidInput
from ipsecd.language.filters import (
    format_filter,
    join_arguments,
    parse_filter,
    parse_short,
    parse_spec,
)
from tests.fuzz.running import fuzz

SEEDS = (
    b"*=0:1434:UDP",
    b" [ 0+* ] ",
    b"(0:80+*::TCP)",
    b"192.168.1.5+192.168.1.0/255.255.255.0",
    b"10.1.*.*=0:80,443,1000-1999:tcp",
    b"[[2001:db8::1]/64:7=[::]/0:9:SCTP]",
    b"*=0::ICMP/3/4",
    b"icmp/echo-request",
    b"0+*::58/128 / 0",
    b"example.com=cafe:*:99",
    b"udp/1434",
    b"tcp/80,443",
    b"2001:db8::/32",
    b"*0=: 80: TCP",
    b"[::ffff:1.2.3.4]=0",
    b"=:/[](),-*0",
    b"\xff\xfe\x00",
)


def fuzz_one(data: bytes) -> None:
    """Read `data` in every way in which a filter is read."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (parse_filter, parse_short):
        try:
            parsed = parse(text)
        except InvalidInput as error:
            check(error, text)
        else:
            assert parse_filter(format_filter(parsed)) == parsed
    try:
        parse_spec(text)
    except InvalidInput as error:
        check(error, text)
    try:
        join_arguments(text.split())
    except InvalidInput as error:
        check(error, error.source)


def check(error: InvalidInput, text: str) -> None:
    """An error is about the text, and points into it."""
    assert error.source == text
    assert 0 <= error.position <= len(text)
    assert error.message


if __name__ == "__main__":
    fuzz(fuzz_one)
