"""Reads which module of the product imports which, without running any of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "ipsecd": ROOT / "daemon/ipsecd",
    "ipsecd_domain": ROOT / "daemon/ipsecd_domain",
    "ipsecd_metrics": ROOT / "daemon/ipsecd_metrics",
    "ipsecctl": ROOT / "ctl/ipsecctl",
    "ipsecd_bans": ROOT / "integrations/ipsecd_bans",
}

Graph = Mapping[str, frozenset[str]]
"""Names of modules, each with the modules that it imports."""


def modules() -> dict[str, Path]:
    """Every module of the product by its name; a package is its ``__init__``."""
    paths = {}
    for package, directory in PACKAGES.items():
        for path in directory.rglob("*.py"):
            words = (package, *path.relative_to(directory).with_suffix("").parts)
            paths[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    return paths


def imports() -> Graph:
    """The graph of all modules; imports inside of functions count like others."""
    paths = modules()
    return {
        name: frozenset(_imported(ast.parse(path.read_text(encoding="utf-8")), paths)) - {name}
        for name, path in paths.items()
    }


def parts(graph: Graph) -> dict[str, frozenset[str]]:
    """The graph of parts: packages directly inside ``ipsecd``, and the modules beside them."""
    by_part: dict[str, set[str]] = {}
    for name, used in graph.items():
        part = part_of(name)
        by_part.setdefault(part, set()).update(part_of(module) for module in used)
    return {part: frozenset(used - {part}) for part, used in by_part.items()}


def part_of(module: str) -> str:
    """The part of a module: ``model`` for ``ipsecd.model.decide``, all of ``ipsecd_domain``."""
    package, _, inner = module.partition(".")
    return inner.partition(".")[0] or package if package == "ipsecd" else package


def circle(graph: Graph) -> list[str]:
    """Modules that import one another in a circle; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def _imported(tree: ast.Module, paths: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in paths or node.module in paths:
                    yield whole if whole in paths else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in paths)
