"""Tests of calls checked against an interface: types, names, and what is filled in."""

from __future__ import annotations

from typing import Any

import pytest

from ipsecd.protocol.description import parse_interface
from ipsecd.protocol.errors import VarlinkError

SAMPLE = parse_interface(
    """
    interface org.example.sample
    type Point (x: int, y: ?int)
    type Colour (red, green)
    method Everything(
      flag: bool, count: int, ratio: float, text: string, any: object,
      maybe: ?string, list: []Point, map: [string]Colour, inline: (a: bool), choice: (one, two)
    ) -> ()
    method Nothing() -> (point: Point)
    """
)
GOOD: dict[str, Any] = {
    "flag": True,
    "count": 1,
    "ratio": 0.5,
    "text": "t",
    "any": [1, {"x": None}],
    "maybe": "m",
    "list": [{"x": 1, "y": 2}],
    "map": {"sky": "green"},
    "inline": {"a": False},
    "choice": "two",
}


def test_good_parameters_come_back_as_they_are() -> None:
    """What fits is accepted, whichever type it is."""
    assert SAMPLE.check_call("Everything", GOOD) == GOOD


def test_what_may_be_left_out_is_filled_in() -> None:
    """A nullable parameter that is absent is None, in structs inside lists too."""
    parameters = {**GOOD, "list": [{"x": 1}]}
    del parameters["maybe"]
    checked = SAMPLE.check_call("Everything", parameters)
    assert checked["maybe"] is None
    assert checked["list"] == [{"x": 1, "y": None}]


def test_an_integer_is_a_number() -> None:
    """JSON writes 600.0 as 600 as often as not, so a float may come as an integer."""
    ratio = SAMPLE.check_call("Everything", {**GOOD, "ratio": 600})["ratio"]
    assert isinstance(ratio, float)
    assert ratio == 600.0


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"flag": 1}, "flag"),
        ({"flag": None}, "flag"),
        ({"count": True}, "count"),
        ({"count": 1.0}, "count"),
        ({"count": 1 << 63}, "count"),
        ({"count": "1"}, "count"),
        ({"ratio": False}, "ratio"),
        ({"ratio": 1 << 70}, "ratio"),
        ({"ratio": "1"}, "ratio"),
        ({"text": 1}, "text"),
        ({"text": None}, "text"),
        ({"maybe": 1}, "maybe"),
        ({"list": {}}, "list"),
        ({"list": "x"}, "list"),
        ({"list": [{"x": 1}, {"x": "1"}]}, "list[1].x"),
        ({"list": [{"y": 1}]}, "list[0].x"),
        ({"list": [{"x": 1, "z": 1}]}, "list[0].z"),
        ({"list": [None]}, "list[0]"),
        ({"map": []}, "map"),
        ({"map": {"sky": "blue"}}, "map.sky"),
        ({"map": {"sky": ["green"]}}, "map.sky"),
        ({"inline": {}}, "inline.a"),
        ({"choice": "three"}, "choice"),
        ({"other": 1}, "other"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], parameter: str) -> None:
    """A parameter of another type, a missing one and an unknown one are named by their path."""
    with pytest.raises(VarlinkError) as caught:
        SAMPLE.check_call("Everything", {**GOOD, **change})
    assert caught.value.name == "InvalidParameter"
    assert caught.value.parameters == {"parameter": parameter}


@pytest.mark.parametrize("missing", sorted(set(GOOD) - {"maybe"}))
def test_what_is_missing_is_named(missing: str) -> None:
    """Every parameter that is not nullable has to be there."""
    parameters = {key: value for key, value in GOOD.items() if key != missing}
    with pytest.raises(VarlinkError) as caught:
        SAMPLE.check_call("Everything", parameters)
    assert caught.value.parameters == {"parameter": missing}


def test_an_unknown_method_is_named_in_full() -> None:
    """A method that the interface does not have is refused under its full name."""
    with pytest.raises(VarlinkError) as caught:
        SAMPLE.check_call("Missing", {})
    assert caught.value.name == "MethodNotFound"
    assert caught.value.parameters == {"method": "org.example.sample.Missing"}


def test_replies_are_checked_alike() -> None:
    """What a method gives back has its declared types."""
    assert SAMPLE.check_reply("Nothing", {"point": {"x": 1}}) == {"point": {"x": 1, "y": None}}
    with pytest.raises(VarlinkError):
        SAMPLE.check_reply("Nothing", {})
