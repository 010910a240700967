"""Imports point one way."""

from __future__ import annotations

import ast
from pathlib import Path

import ipsecd

ROOT = Path(ipsecd.__file__).parent
MAY_USE = {
    "model": {"model", "errors", "quoting"},
    "language": {"language", "garbage", "model", "errors", "quoting"},
    "protocol": {"protocol", "model", "errors", "quoting"},
    "compiler": {"compiler", "model", "errors", "quoting"},
    "backend": {"backend", "compiler", "host", "netlink", "model", "output", "errors", "quoting"},
    "stores": {"stores", "compiler", "language", "model", "errors", "quoting"},
    "control": {
        *("control", "engine", "absences", "backend", "config", "host", "stores", "language"),
        *("model", "errors", "quoting"),
    },
    "engine": {
        *("engine", "backend", "stores", "compiler", "language", "model", "errors", "quoting"),
        *("config", "garbage", "journal", "kept", "lastgood"),
    },
}


def imported(path: Path) -> set[str]:
    """The parts of ipsecd that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            words = node.module.split(".")
            if words[0] == "ipsecd" and len(words) > 1:
                found.add(words[1])
    return found


def test_layers_import_only_what_lies_below_them() -> None:
    """No layer, from the model to the methods of the interface, knows anything above it."""
    for layer, allowed in MAY_USE.items():
        for path in (ROOT / layer).rglob("*.py"):
            assert imported(path) <= allowed, path
