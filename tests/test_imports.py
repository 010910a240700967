"""Imports point one way, and say so here: whoever needs a new one decides about the layers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.import_graph import circle, imports, part_of, parts

EVERYWHERE = {"errors", "ipsecd", "quoting"}
"""What is below all layers; ``ipsecd`` itself is the version."""

MAY_USE = {
    "quoting": set(),
    "errors": set(),
    "garbage": set(),
    "output": set(),
    "protocol": set(),
    "arguments": {"output", "protocol"},
    "log": {"output"},
    "progress": set(),
    "model": set(),
    "language": {"garbage", "model"},
    "compiler": {"model"},
    "proof": {"compiler", "language", "model"},
    "host": {"language", "log", "model"},
    "backend": {"compiler", "host", "model", "output", "progress"},
    "config": {"backend", "language", "model", "protocol"},
    "sources": {"compiler", "config", "language", "log", "model"},
    "engine": {
        *("backend", "compiler", "config", "garbage", "host", "language", "log", "model"),
        *("progress", "sources"),
    },
    "control": {
        *("backend", "config", "engine", "garbage", "host", "language", "log", "model"),
        *("progress", "proof", "sources"),
    },
    "service": {
        *("backend", "config", "control", "engine", "host", "language", "log", "model"),
        *("progress", "protocol"),
    },
    "__main__": {
        *("arguments", "backend", "config", "control", "engine", "log", "output", "service"),
        "sources",
    },
    "ipsecd_domain": {"arguments", "host", "language", "log", "model", "output", "protocol"},
    "ipsecd_metrics": {"arguments", "output", "protocol"},
    "ipsecctl": {"ipsecd_domain", "language", "model", "output", "proof", "protocol"},
    "ipsecd_bans": {"ipsecctl", "language", "output"},
}
"""The layers from below to above; each with those that it uses."""

GRAPH = imports()


@pytest.mark.parametrize("part", parts(GRAPH))
def test_a_layer_uses_what_it_is_said_to_use(part: str) -> None:
    """It uses no more and no less: what is not used any more must be taken off the list."""
    assert parts(GRAPH)[part] - EVERYWHERE == (MAY_USE[part] if part != "ipsecd" else set())


def test_the_layers_are_in_order() -> None:
    """Each uses only what stands above it in the list."""
    order = list(MAY_USE)
    for part, used in MAY_USE.items():
        assert all(order.index(below) < order.index(part) for below in used), part


def test_there_are_no_circles() -> None:
    """Neither modules nor layers import each other in circles, inside of functions either."""
    assert not circle(GRAPH)
    assert not circle(parts(GRAPH))


def test_a_circle_would_be_seen() -> None:
    """The search finds a circle that is there."""
    assert circle({"a": frozenset({"b"}), "b": frozenset({"a"})})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ipsecd.model.decide", "ipsecd.compiler"),
        ("ipsecd.compiler", "ipsecd.model.decide"),
        ("ipsecd.backend.nftables", "ipsecd.backend.xdp"),
        ("ipsecd.backend.xdp", "ipsecd.backend.nftables"),
    ],
)
def test_what_is_tested_against_one_another_shares_nothing(first: str, second: str) -> None:
    """`decide` and the compiler import nothing of each other, nor do the two backends."""
    for module, used in GRAPH.items():
        if module.startswith(first):
            assert not [name for name in used if name.startswith(second)], module


def test_the_pure_part_does_no_input_or_output() -> None:
    """Model, language, compiler, proofs and the memory backend use nothing of this host."""
    pure = {"model", "language", "compiler", "proof"}
    for module, used in GRAPH.items():
        if part_of(module) in pure or module == "ipsecd.backend.memory":
            assert not {part_of(name) for name in used} & {"host", "sources", "config", "log"}


def test_the_daemon_loads_nothing_that_it_does_not_use() -> None:
    """At its start: each of these takes megabytes, or a tenth of a second."""
    unused = {"pyroute2.ndb", "pyroute2.iproute", "ruamel", "sqlite3", "unittest", "z3", "docker"}
    said = "import sys, ipsecd.__main__; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "ipsecd.engine.engine" in loaded
    assert "pyroute2.netlink.nfnetlink.nftsocket" in loaded
    assert not loaded & unused
