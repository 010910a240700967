"""Tests of errors on the wire: there and back, and from daemons of another version."""

from __future__ import annotations

import pytest

from ipsecd.errors import (
    BackendFailed,
    Cut,
    InvalidInput,
    IpsecdError,
    LimitExceeded,
    NotFound,
    Refused,
    StoreFailed,
    WouldCut,
)
from ipsecd.protocol.errors import AccessDenied, from_wire, invalid_parameter, to_wire


@pytest.mark.parametrize(
    "kind",
    [IpsecdError, NotFound, Refused, LimitExceeded, StoreFailed, BackendFailed, AccessDenied],
)
def test_errors_come_back_as_they_were(kind: type[IpsecdError]) -> None:
    """Kind, message and hint survive the wire."""
    wire = to_wire(kind("no rule 'x'", "list them"))
    back = from_wire(wire["error"], wire["parameters"])
    assert type(back) is kind
    assert (back.message, back.hint) == ("no rule 'x'", "list them")


def test_bad_input_keeps_its_place() -> None:
    """Source, line and position survive the wire."""
    error = InvalidInput("bad", "good", source="p.yaml", line=3, position=7)
    wire = to_wire(error)
    assert wire["error"] == "io.ipsecd.control.InvalidInput"
    back = from_wire(wire["error"], wire["parameters"])
    assert isinstance(back, InvalidInput)
    assert str(back) == str(error)
    assert (back.source, back.line, back.position) == ("p.yaml", 3, 7)


@pytest.mark.parametrize(("line", "position"), [(3, -1), (0, 7), (0, -1)])
def test_long_sources_are_not_sent_back(line: int, position: int) -> None:
    """Whatever place an error names, or none, of a long text or name a part is sent."""
    wire = to_wire(InvalidInput("bad", source="a" * 1_000_000, line=line, position=position))
    assert 80 <= len(wire["parameters"]["source"]) < 300


def test_varlinks_own_errors_have_its_names() -> None:
    """A parameter that does not fit is told by varlink's own error."""
    assert to_wire(invalid_parameter("ttl_s", "is not a number")) == {
        "error": "org.varlink.service.InvalidParameter",
        "parameters": {"parameter": "ttl_s"},
    }


def test_an_unknown_error_says_what_it_is() -> None:
    """An error of another version is shown with its name and parameters."""
    error = from_wire("org.varlink.service.MethodNotFound", {"method": "io.ipsecd.control.New"})
    assert "MethodNotFound" in error.message
    assert "io.ipsecd.control.New" in error.message
    assert "versions" in error.hint


def test_what_would_be_cut_survives() -> None:
    """Every connection with its filter; what a stranger sends there does no harm."""
    error = WouldCut.of([Cut("a", "b", "c", "d", "e", "f"), Cut("g", "h")], "hint")
    wire = to_wire(error)
    back = from_wire(wire["error"], wire["parameters"])
    assert isinstance(back, WouldCut)
    assert back.message == error.message
    assert [cut.fields() for cut in back.cuts] == [cut.fields() for cut in error.cuts]
    assert "and 1 other connection" in back.message
    wrong = from_wire(wire["error"], {"message": "m", "cuts": [1, {"connection": 5}]})
    assert isinstance(wrong, WouldCut)
    assert [cut.fields() for cut in wrong.cuts] == [Cut("5", "").fields()]
