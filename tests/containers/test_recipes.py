"""The recipes of the documentation, taken from there and tried with real containers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engines import ENGINES, Engine, passes
from tests.netns import site
from tests.netns.site import HERE4, HERE6, HOST, OUTSIDE, PEER, PEER4, Daemon, eventually, run

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = Path(__file__).parents[2] / "docs/containers.md"


@pytest.fixture(scope="module", params=ENGINES)
def engine(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Engine]:
    with ENGINES[request.param](tmp_path_factory.mktemp(request.param)) as running:
        running.run("web", "-p", "8080:80/tcp")
        running.run("proxy")
        running.run("db", network="back")
        yield running


@pytest.fixture(params=site.BACKENDS)
def daemon(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    del engine
    with site.daemon(tmp_path, request.param) as running:
        run("ip", "-n", PEER, "address", "add", "198.51.100.66/24", "dev", "wire1")
        run("ip", "address", "add", "198.51.100.1/24", "dev", "wire0")
        run("ip", "-n", PEER, "route", "add", "default", "via", HERE4)
        run("ip", "-n", PEER, "-6", "route", "add", "default", "via", HERE6)
        run("ip", "route", "add", "default", "via", PEER4)
        yield running


def follow(daemon: Daemon, policy: str) -> None:
    """Assign the policy of the page that has this name."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (text,) = [block for block in blocks if f"policy: {policy}\n" in block]
    path = daemon.directory / "recipe.yaml"
    path.write_text(text)
    daemon.ctl("apply", str(path), "--assign")


def test_a_published_port_from_one_network_only(daemon: Daemon, engine: Engine) -> None:
    """The office reaches it, and nobody else; without the policy everybody does."""
    web = engine.inside("web")
    elsewhere = "198.51.100.1"
    assert passes(OUTSIDE, web, elsewhere, 8080, at=80, tcp=True)
    follow(daemon, "Published for the office")
    assert passes(OUTSIDE, web, HERE4, 8080, at=80, tcp=True)
    assert not passes(OUTSIDE, web, elsewhere, 8080, at=80, tcp=True)


def test_a_container_without_the_internet(daemon: Daemon, engine: Engine) -> None:
    """It sends nothing of its own, and answers those who come to its published port."""
    web = engine.inside("web")
    assert passes(web, OUTSIDE, PEER4, 443, tcp=True)
    follow(daemon, "No internet for web")
    assert eventually(lambda: not passes(web, OUTSIDE, PEER4, 443, tcp=True))
    assert not passes(web, OUTSIDE, PEER4, 53)
    assert passes(OUTSIDE, web, HERE4, 8080, at=80, tcp=True)
    assert passes(engine.inside("proxy"), OUTSIDE, PEER4, 443, tcp=True)


def test_only_the_proxy_reaches_the_database(daemon: Daemon, engine: Engine) -> None:
    """Not another container, and not this host."""
    web, proxy, db = (engine.inside(name) for name in ("web", "proxy", "db"))
    address = engine.address("db", "back")
    for source in (web, proxy, HOST):
        assert passes(source, db, address, 5432, tcp=True)
    follow(daemon, "Only the proxy")
    assert eventually(lambda: not passes(web, db, address, 5432, tcp=True))
    assert passes(proxy, db, address, 5432, tcp=True)
    assert not passes(HOST, db, address, 5432, tcp=True)
    assert passes(web, db, address, 5433, tcp=True)
