"""Tests of the envelope of calls."""

from __future__ import annotations

from typing import Any

import pytest

from ipsecd.protocol.frames import ProtocolError
from ipsecd.protocol.messages import Call, call_of


def test_a_call_is_split_at_its_last_dot() -> None:
    """The interface is what stands before the method's name."""
    call = call_of({"method": "io.ipsecd.control.Status"})
    assert call == Call("io.ipsecd.control.Status")
    assert (call.interface, call.name) == ("io.ipsecd.control", "Status")


def test_flags_and_parameters_are_taken() -> None:
    """All that varlink knows of a call is read; null is what is absent."""
    message = {"method": "a.B", "parameters": {"x": 1}, "oneway": True, "more": None}
    assert call_of(message) == Call("a.B", {"x": 1}, oneway=True)
    assert call_of({"method": "a.B", "parameters": None}) == Call("a.B")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"method": 1},
        {"method": None},
        {"method": "a.B", "parameters": []},
        {"method": "a.B", "parameters": "x"},
        {"method": "a.B", "oneway": 1},
        {"method": "a.B", "more": "yes"},
        {"method": "a.B", "upgrade": []},
        {"error": "a.B"},
    ],
)
def test_what_is_no_call_breaks_the_protocol(message: dict[str, Any]) -> None:
    """An object without a method, or with parts of other types, is no call."""
    with pytest.raises(ProtocolError):
        call_of(message)
