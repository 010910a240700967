"""Benchmarks load rules, so none does anything in the network of whoever starts or imports it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ANYWHERE = {"page", "proofs", "structure"}
"""Those that only calculate, or write."""
STARTED = re.findall(r"-m bench\.(\w+)", (ROOT / "Makefile").read_text("ascii"))


def test_the_makefile_starts_benchmarks() -> None:
    assert len(set(STARTED)) > 20
    assert set(STARTED) >= ANYWHERE


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "bench").glob("*.py")))
def test_an_import_measures_nothing(name: str) -> None:
    tree = ast.parse((ROOT / "bench" / f"{name}.py").read_text("utf-8"))
    statements = [each.value for each in tree.body if isinstance(each, ast.Expr)]
    assert not [each for each in statements if isinstance(each, ast.Call)]


@pytest.mark.parametrize("name", sorted(set(STARTED) - ANYWHERE))
def test_it_begins_by_looking_where_it_is(name: str) -> None:
    tree = ast.parse((ROOT / "bench" / f"{name}.py").read_text("utf-8"))
    (main,) = [
        each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == "main"
    ]
    statements = main.body[1:] if ast.get_docstring(main) else main.body
    assert ast.unparse(statements[0]) == "must_be_isolated()"
