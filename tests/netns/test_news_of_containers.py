"""News of a container that a policy and a dynamic rule name: the kernel holds both."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.config import Config, Directories
from ipsecd.engine import Engine
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Container, Inventory
from ipsecd.model.values import ALWAYS, Action, Policy, Rule
from ipsecd.sources.dynamic import DynamicRule
from tests.netns.site import needs_isolation, run

pytestmark = pytest.mark.netns


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    needs_isolation()
    directories = Directories(tmp_path / "etc", tmp_path / "lib", tmp_path / "run")
    started = Engine(Config(), directories, NftablesBackend)
    started.start()
    yield started
    started.stop()
    started.close()


def inventory(address: int) -> Inventory:
    network = Network(Family.IPV4, address, 32)
    return Inventory((Container("1" * 64, "web", frozenset(), {"front": (network,)}),), {})


def test_both_are_in_the_kernel(engine: Engine) -> None:
    """By the new address, and neither by the old one."""
    rule = Rule("R", (parse_filter("container:web=*:1111:UDP"),), Action.BLOCK)
    engine.change(put=[Policy("P", (rule,))], assign="P")
    dynamic = (parse_filter("container:web=*:2222:UDP"),)
    engine.add_dynamic(DynamicRule("a", dynamic, Action.BLOCK, ALWAYS, inf))
    for last in (1, 2):
        engine.set_inventory("/run/docker.sock", inventory(0x0A000000 + last))
        lines = run("nft", "list", "table", "inet", "ipsecd").splitlines()
        entries = [line for line in lines if "10.0.0." in line]
        for port in ("1111", "2222"):
            of_port = [line for line in entries if port in line]
            assert of_port, (port, entries)
            assert all(f"10.0.0.{last}" in line for line in of_port), (port, entries)
        assert engine.observe().drift == ()
