"""Tests of what is printed: one place writes, and nothing that drives a terminal gets through."""

from __future__ import annotations

import ast
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ipsecctl
import ipsecd
import ipsecd_domain
from ipsecd import output
from ipsecd.quoting import MAX_QUOTED, cut, excerpt, quote, quote_path, shorten, visible

MODULES = sorted(
    path
    for part in (ipsecctl, ipsecd, ipsecd_domain)
    for path in Path(part.__file__ or "").parent.rglob("*.py")
)
DRIVES_A_TERMINAL = (
    *(chr(n) for n in range(0x20)),
    "\x7f",
    *(chr(n) for n in range(0x80, 0xA0)),
    *"\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff",
    "\ud800",
    "\udc9b",
    "\udfff",
    "\U000e0041",
)


def writers(tree: ast.Module) -> Iterator[int]:
    """The lines of a module that write, or could write, to standard output or error themselves."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id="print") | ast.Attribute(value=ast.Name(id="builtins"), attr="print"):
                yield node.lineno
            case ast.Attribute(
                value=ast.Name(id="sys"), attr="stdout" | "stderr" | "__stdout__" | "__stderr__"
            ):
                yield node.lineno
            case ast.ImportFrom(module="sys", names=names) if {"stdout", "stderr"} & {
                name.name for name in names
            }:
                yield node.lineno
            case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr="write"), args=args) if (
                args and isinstance(args[0], ast.Constant)
            ):
                yield node.lineno


@pytest.mark.parametrize(
    "text",
    [
        "print(1)",
        "import sys; sys.stdout.write('x')",
        "import sys; print('x', file=sys.stderr)",
        "from sys import stderr",
        "import os; os.write(1, b'x')",
        "say = print",
    ],
)
def test_a_writer_is_seen(text: str) -> None:
    """The test below finds every way of writing that anybody would use."""
    assert list(writers(ast.parse(text)))


def test_one_module_writes() -> None:
    """Nothing but ``ipsecd.output`` writes to standard output or standard error."""
    assert len(MODULES) > 50
    places = {
        f"{path.name}:{line}"
        for path in MODULES
        for line in writers(ast.parse(path.read_text(encoding="utf-8")))
        if path != Path(output.__file__)
    }
    assert places == set()


@pytest.mark.parametrize("sign", DRIVES_A_TERMINAL, ids=lambda sign: f"{ord(sign):04x}")
def test_what_drives_a_terminal_is_escaped(sign: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters, separators, writing directions and half surrogates, on both streams."""
    output.begin()
    output.say(f"a{sign}b")
    output.complain(f"a{sign}b")
    out, err = capsys.readouterr()
    escape = f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"
    assert out == err == f"a{escape}b\n"


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=())), max_size=3))
def test_a_line_is_a_line(lines: list[str]) -> None:
    """Whatever is said, it is as many printable lines as were meant."""
    stream, sys.stdout = sys.stdout, io.StringIO()
    try:
        output.begin()
        output.say(*lines)
        said = sys.stdout.getvalue()
    finally:
        sys.stdout = stream
    assert said.count("\n") == len(lines)
    assert said.replace("\n", "").isprintable()


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_json_is_ascii_and_the_same_value(text: str) -> None:
    """JSON holds no raw control character, DEL among them, and reads back as it was."""
    stream, sys.stdout = sys.stdout, io.StringIO()
    try:
        output.begin()
        output.say_json({"key": [text]})
        said = sys.stdout.getvalue()
    finally:
        sys.stdout = stream
    assert said.isascii()
    assert said.replace("\n", "").isprintable()
    assert json.loads(said) == {"key": [text]}


def test_a_colour_cannot_be_forged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The colours of a terminal are ours; those that somebody wrote are shown as escapes."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    output.begin()
    output.say(output.paint("red\x1b[0m\x1b[32m", 31))
    assert capsys.readouterr().out == "\x1b[31mred\\u001b[0m\\u001b[32m\x1b[0m\n"


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=()), max_size=2000), st.integers(0, 2000))
def test_what_is_quoted_is_short(text: str, position: int) -> None:
    """A quotation is a line of bounded length, and an excerpt shows the place it is about."""
    for shown in (quote(text), quote_path(text), shorten(text), visible(text)):
        assert shown.isprintable()
    assert len(quote(text)) < 10 * MAX_QUOTED + 40
    assert len(cut(text, 256)) <= 257
    position = min(position, len(text))
    part, at = excerpt(text, position)
    assert len(part) <= MAX_QUOTED
    assert 0 <= at <= len(part)
    if 0 < at < len(part) - 1 and position < len(text):
        assert part[at] == text[position]


def test_a_long_quotation_says_how_long_it_was() -> None:
    """What is cut ends in an ellipsis, and the length follows."""
    assert quote("a" * 80) == repr("a" * 80)
    assert quote("a" * 14_000_000) == f"'{'a' * 80}…' (14,000,000 characters)"
