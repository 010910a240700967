"""JSON by the quick way is the JSON of Python."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecctl.quick_json import dumps, loads

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_what_python_writes_is_read(value: Any, indent: int | None, ascii_only: bool) -> None:
    """With spaces and without, escaped and not."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert loads(f" {text}\n") == value


@given(VALUES)
def test_what_is_written_is_read_by_python(value: Any) -> None:
    """It is the same value."""
    assert json.loads(dumps(value)) == value


@pytest.mark.parametrize(
    "text", ["", " ", "{", "[1,", '{"a" 1}', "1 2", "nothing", '"\n"', "[" * 9]
)
def test_what_is_no_json_is_an_error(text: str) -> None:
    """The one that everybody catches."""
    with pytest.raises(ValueError, match=r"."):
        loads(text)


@given(st.text())
def test_any_text_is_read_as_by_python(text: str) -> None:
    """Or is an error for both."""
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            loads(text)
    else:
        assert repr(loads(text)) == repr(expected)
