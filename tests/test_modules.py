"""Modules are of a size that can be read, and say what they own."""

from __future__ import annotations

import ast

import pytest

from tests.import_graph import modules

LONGEST = 400
"""Lines: what fits into a head. A longer module owns two things, and is split by noun."""


@pytest.mark.parametrize("name", modules())
def test_a_module_is_short_and_says_what_it_is(name: str) -> None:
    """It opens with a sentence, and ends before the limit."""
    text = modules()[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    assert ast.get_docstring(ast.parse(text)), "it does not say what it owns"
