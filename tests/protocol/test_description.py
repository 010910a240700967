"""Tests of the parser of varlink interface descriptions, and of those that are shipped."""

from __future__ import annotations

import pytest

from ipsecd import errors
from ipsecd.protocol.description import CONTROL, SERVICE, load_interface, parse_interface
from ipsecd.protocol.errors import PREFIX, AccessDenied, to_wire
from ipsecd.protocol.interface import (
    Array,
    Enumeration,
    Interface,
    Map,
    Method,
    Named,
    Nullable,
    Primitive,
    Struct,
)


def test_every_construct_is_read() -> None:
    """Types, methods, errors, comments, nested types and enumerations become values."""
    text = """# A comment.
    interface org.example.all   # another
    type Mode (on, off)
    type Item(name: string, tags: []?string)
    method Do(items: [string][]Item, mode: ?Mode, inner: (a: int, b: (x, y)))->()
    error Broken (why: string)
    """
    assert parse_interface(text) == Interface(
        "org.example.all",
        text,
        {
            "Mode": Enumeration(("on", "off")),
            "Item": Struct(
                {"name": Primitive("string"), "tags": Array(Nullable(Primitive("string")))}
            ),
        },
        {
            "Do": Method(
                Struct(
                    {
                        "items": Map(Array(Named("Item"))),
                        "mode": Nullable(Named("Mode")),
                        "inner": Struct({"a": Primitive("int"), "b": Enumeration(("x", "y"))}),
                    }
                ),
                Struct({}),
            )
        },
        {"Broken": Struct({"why": Primitive("string")})},
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: '' stands where 'interface'"),
        ("interface a.b\nmethod X( -> ()", "line 2: '->' stands where a name"),
        ("interface a.b\nmethod X() ()", "line 2: .* where '->'"),
        ("interface a.b\n\nmethod X(a: Missing) -> ()", "line 3: there is no type 'Missing'"),
        ("interface a.b\nmethod X(a: int, a: int) -> ()", "line 2: 'a' stands twice"),
        ("interface a.b\ntype X (a)\ntype X (b)", "line 3: type 'X' is defined twice"),
        ("interface a.b\nmethod X(a: ??int) -> ()", "nullable twice"),
        ("interface a.b\nmethod X(a, b) -> ()", "list of names"),
        ("interface a.b\nthing X ()", "'thing' is not type, method or error"),
        ("interface a.b\nmethod X(a: int", "where ','"),
        ("interface a.b;", "line 1: ';' is not expected"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, reason: str) -> None:
    """A description that does not parse is refused, and the line is named."""
    with pytest.raises(ValueError, match=reason):
        parse_interface(text)


@pytest.mark.parametrize("name", [CONTROL, SERVICE])
def test_shipped_descriptions_parse(name: str) -> None:
    """The interfaces of this package are what their file names say."""
    interface = load_interface(name)
    assert interface.name == name
    assert interface.methods


def test_every_error_of_the_tree_is_in_the_contract() -> None:
    """Each error class has its wire error, with the parameters that are sent."""
    control = load_interface(CONTROL)
    kinds: list[type[errors.IpsecdError]] = [errors.IpsecdError]
    kinds += errors.IpsecdError.__subclasses__()
    kinds += errors.Refused.__subclasses__()
    assert AccessDenied in kinds
    for kind in kinds:
        wire = to_wire(kind("message", "hint"))
        declared = control.errors[wire["error"].removeprefix(PREFIX)]
        assert list(declared.fields) == list(wire["parameters"])
    assert {kind.wire for kind in kinds} == set(control.errors)
