"""Modules are of a size that can be read, and say what they own."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from tests.import_graph import modules

ROOT = Path(__file__).parents[1]
LONGEST = 400
"""Lines: what fits into a head. A longer module owns two things, and is split by noun."""


@pytest.mark.parametrize("name", modules())
def test_a_module_is_short_and_says_what_it_is(name: str) -> None:
    """It opens with a sentence, and ends before the limit."""
    text = modules()[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    assert ast.get_docstring(ast.parse(text)), "it does not say what it owns"


def test_every_package_is_installed() -> None:
    """A package that is not listed is missing on every host, and here nobody would notice."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    there = {
        ".".join(path.parent.relative_to(ROOT / root).parts)
        for root in ("daemon", "ctl", "integrations")
        for path in (ROOT / root).rglob("__init__.py")
    }
    # What writes completions and the manual is for whoever changes the table of verbs.
    assert listed == there - {"ipsecctl.generate"}
