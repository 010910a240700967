"""Real daemons, real fetchers, a repository made by the operator's commands: what a fleet sees."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd_domain.tls import TlsFiles
from tests.domain.certificates import Authority
from tests.domain.fleets import Fleet
from tests.domain.hosts import POLICY, Host, host, publish
from tests.domain.servers import Cluster, Nginx, cluster, nginx
from tests.netns.site import PATIENCE, eventually

pytestmark = [pytest.mark.netns, pytest.mark.timeout(int(300 * PATIENCE))]

LOCAL = POLICY.format(port=1).replace("Fleet 1", "Local")


@pytest.fixture
def local(tmp_path: Path, fleet: Fleet) -> Iterator[Host]:
    """It has a policy of its own assigned, and that of a directory in force."""
    publish(fleet, 1001)
    with host(tmp_path / "host", "web1", {"source": f"file://{fleet.repository}"}) as made:
        made.start(fleet)
        assert eventually(lambda: made.blocks(1001), 20), made.daemon.log()
        (tmp_path / "local.yaml").write_text(LOCAL)
        made.daemon.ctl("apply", str(tmp_path / "local.yaml"), "--assign")
        yield made


def test_what_is_published_is_in_force_and_what_is_withdrawn_is_not(
    local: Host, fleet: Fleet
) -> None:
    """Each replaces the one before as a whole, within seconds; then the local one is back."""
    assert not local.blocks(1)
    for port in (1002, 1003):
        publish(fleet, port)
        assert eventually(lambda port=port: local.blocks(port), 5)  # type: ignore[misc]
        assert not local.blocks(port - 1)
    words = (str(fleet.repository), "--keys", str(fleet.keys))
    local.daemon.ctl("domain", "withdraw", *words)
    assert eventually(lambda: local.blocks(1), 5)
    assert not local.blocks(1003)
    publish(fleet, 1004)
    assert eventually(lambda: local.blocks(1004), 5)
    assert not local.blocks(1)


def test_a_refresh_says_what_came(local: Host, fleet: Fleet) -> None:
    """The new verb and the old commands wait for the look, and repeat its problem."""
    assert "nothing is new" in local.daemon.ctl("domain", "refresh")
    assert "gpupdate" not in local.daemon.ctl("gpupdate", "/force")
    timestamp = fleet.repository / "metadata/timestamp.json"
    good = timestamp.read_bytes()
    timestamp.write_bytes(good.replace(b'"sig"', b'"gis"'))
    assert "what was in force stays so" in local.daemon.ctl("domain", "refresh", code=1)
    assert local.blocks(1001)
    timestamp.write_bytes(good)
    assert "nothing is new" in local.daemon.ctl("domain", "refresh")
    assert local.fetcher is not None
    local.fetcher.kill()
    assert "systemctl start ipsecd-domain" in local.daemon.ctl("domain", "refresh", code=1)


def test_daemon_and_fetcher_are_killed_in_turn(local: Host, fleet: Fleet) -> None:
    """What was in force stays in force, and what was published meanwhile is taken afterwards."""
    for port in (1002, 1003, 1004):
        local.daemon.end(signal.SIGKILL)
        publish(fleet, port)
        local.daemon.start()
        assert local.blocks(port - 1) or local.blocks(port)
        assert eventually(lambda port=port: local.blocks(port), 60)  # type: ignore[misc]
        assert local.fetcher is not None
        assert local.fetcher.process.poll() is None
    assert local.fetcher is not None
    local.fetcher.kill()
    publish(fleet, 1005)
    time.sleep(0.5)
    assert local.blocks(1004)
    local.fetch()
    assert eventually(lambda: local.blocks(1005), 20)


def test_a_daemon_without_a_domain_is_left_alone(tmp_path: Path) -> None:
    """Its fetcher waits, and says so once."""
    with host(tmp_path / "host", "web1", {}) as made:
        made.settings.write_text("")
        made.daemon.start()
        made.fetch()
        assert made.fetcher is not None
        assert eventually(lambda: "source=none" in made.fetcher.log, 20)  # type: ignore[union-attr]
        time.sleep(1)
        assert made.fetcher.log.count("\n") == 1, made.fetcher.log


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """Certificates for everybody."""
    return Authority(tmp_path).certify("everybody")


@pytest.fixture
def web(tmp_path: Path, fleet: Fleet, files: TlsFiles) -> Iterator[Nginx]:
    with nginx(tmp_path / "nginx", fleet.repository, files) as server:
        yield server


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path / "etcd") as members:
        yield members


def test_a_fleet_has_it_within_seconds(
    tmp_path: Path, fleet: Fleet, web: Nginx, members: Cluster, files: TlsFiles
) -> None:
    """Six hosts in namespaces of their own, nginx, and three members of which one is killed."""
    publish(fleet, 1001)
    tls = {"ca": files.ca, "certificate": files.certificate, "key": files.key}
    settings = {"source": web.url, "doorbell": members.url(), **tls}
    with contextlib.ExitStack() as stack:
        hosts = [
            stack.enter_context(host(tmp_path / f"web{n}", f"web{n}", settings, own=True))
            for n in range(6)
        ]
        for made in hosts:
            made.start(fleet)
        for made in hosts:
            assert eventually(lambda made=made: made.blocks(1001), 30), made.daemon.log()  # type: ignore[misc]
            assert made.fetcher is not None
            log = made.fetcher
            assert eventually(lambda log=log: "doorbell-watched" in log.log, 30), log.log  # type: ignore[misc]
        for port in (1002, 1003):
            (tmp_path / "fleet.yaml").write_text(POLICY.format(port=port))
            words = (str(fleet.repository), str(tmp_path / "fleet.yaml"))
            keys = ("--keys", str(fleet.keys), "--doorbell", members.url())
            hosts[0].daemon.ctl("domain", "publish", *words, *keys)
            started = time.monotonic()
            for made in hosts:
                assert eventually(lambda made=made, port=port: made.blocks(port), 60)  # type: ignore[misc]
            print(f"the last of {len(hosts)} after {time.monotonic() - started:.1f} s")
            members.members[members.hosts[0]].kill()
