"""The fetcher with a real nginx and three real members of etcd, which are killed and cut off."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd_domain.doorbell import Ring, parse_doorbell, ring
from ipsecd_domain.errors import NotFetched
from ipsecd_domain.etcd import Member
from ipsecd_domain.fetcher import bell as bell_module
from ipsecd_domain.fetcher.bell import Bell
from ipsecd_domain.tls import TlsFiles
from tests.domain.certificates import Authority
from tests.domain.fake_daemon import FakeDaemon, fake_daemon
from tests.domain.fetching import Fetching, fetching
from tests.domain.servers import CLIENTS, Cluster, Nginx, cluster, nginx
from tests.domain.signed import SignedRepository
from tests.netns.site import PATIENCE, eventually

pytestmark = [pytest.mark.netns, pytest.mark.timeout(int(300 * PATIENCE))]


@pytest.fixture
def fleet(tmp_path: Path) -> SignedRepository:
    fleet = SignedRepository(tmp_path / "fleet")
    fleet.publish(1)
    return fleet


@pytest.fixture
def web(tmp_path: Path, fleet: SignedRepository) -> Iterator[Nginx]:
    with nginx(tmp_path / "nginx", fleet.directory) as server:
        yield server


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path / "etcd") as members:
        yield members


@pytest.fixture
def daemon(
    tmp_path: Path, fleet: SignedRepository, web: Nginx, members: Cluster
) -> Iterator[FakeDaemon]:
    """It looks by itself in an hour only."""
    settings = {"source": web.url, "doorbell": members.url(), "interval_s": 3600.0}
    with fake_daemon(tmp_path, fleet.root, **settings) as daemon:
        yield daemon


@pytest.fixture
def fetcher(daemon: FakeDaemon, tmp_path: Path) -> Iterator[Fetching]:
    """It has the first policy, and listens to a member."""
    with fetching(daemon.path, tmp_path / "log") as fetcher:
        daemon.wait_for_policy("Fleet 1")
        daemon.wait(lambda: "doorbell-watched" in fetcher.log, "the fetcher listens")
        yield fetcher


def publish(fleet: SignedRepository, members: Cluster, number: int) -> None:
    digest = fleet.publish(number)
    ring(members.url(), fleet.version, digest, members.tls)


def watched(fetcher: Fetching) -> str:
    """The host of the member that the fetcher listened to last."""
    return fetcher.log.rpartition("doorbell-watched member=")[2].partition(":")[0]


def test_a_publish_arrives_within_seconds(
    fetcher: Fetching,
    daemon: FakeDaemon,
    fleet: SignedRepository,
    members: Cluster,
) -> None:
    """Time after time, also within one second, in which nginx gives each state the same tag."""
    for number in range(2, 6):
        publish(fleet, members, number)
        assert daemon.wait_for_policy(f"Fleet {number}") < 5 * PATIENCE
    assert fetcher.process.poll() is None


def test_a_look_without_news_costs_nginx_one_answer_without_a_body(
    tmp_path: Path, fleet: SignedRepository, web: Nginx
) -> None:
    """Once the file has been the same for a while; a change is seen with the next look."""
    with (
        fake_daemon(tmp_path, fleet.root, source=web.url, interval_s=1.0) as daemon,
        fetching(daemon.path, tmp_path / "log"),
    ):
        daemon.wait_for_policy("Fleet 1")
        minute_ago = time.time() - 60
        os.utime(fleet.directory / "metadata/timestamp.json", (minute_ago, minute_ago))
        daemon.ask()
        daemon.wait(lambda: len(daemon.taken) > 1, "the whole look")
        before = len(web.answered())
        daemon.wait(lambda: len(web.answered()) > before + 2, "looks")
        looks = web.answered()[before:]
        assert all('"GET /metadata/timestamp.json HTTP/1.1" 304 0' in look for look in looks)
        fleet.publish(2)
        daemon.wait_for_policy("Fleet 2")


def test_certificates_users_and_passwords(tmp_path: Path, fleet: SignedRepository) -> None:
    """Both servers encrypt and know who asks; the password of a host listens and cannot ring."""
    authority = Authority(tmp_path)
    files, host = authority.certify("server"), authority.certify("host")
    with (
        nginx(tmp_path / "nginx", fleet.directory, files) as web,
        cluster(tmp_path / "etcd", 1, files) as members,
    ):
        set_up_users(members)
        settings = {
            "source": web.url,
            "doorbell": members.url("host:p%40ss@"),
            "ca": host.ca,
            "certificate": host.certificate,
            "key": host.key,
        }
        with (
            fake_daemon(tmp_path, fleet.root, **settings) as daemon,
            fetching(daemon.path, tmp_path / "log") as fetcher,
        ):
            daemon.wait_for_policy("Fleet 1")
            daemon.wait(lambda: "doorbell-watched" in fetcher.log, "the fetcher listens")
            digest = fleet.publish(2)
            for wrong in ("host:p%40ss@", "publisher:wrong@", ""):
                with pytest.raises(NotFetched, match="could not be rung"):
                    ring(members.url(wrong), 2, digest, host)
            with pytest.raises(NotFetched):
                Member("127.0.0.1", CLIENTS, host, "host", "p@ss").get("another")
            ring(members.url("publisher:secret@"), 2, digest, host)
            assert daemon.wait_for_policy("Fleet 2") < 5 * PATIENCE
            assert "p@ss" not in fetcher.log


def set_up_users(members: Cluster) -> None:
    """As docs/domain-etcd.md sets them up."""
    root = Member("127.0.0.1", CLIENTS, members.tls)
    key = "aXBzZWNk"
    for path, message in (
        ("/auth/user/add", {"name": "root", "password": "root"}),
        ("/auth/role/add", {"name": "root"}),
        ("/auth/user/grant", {"user": "root", "role": "root"}),
        ("/auth/role/add", {"name": "listen"}),
        ("/auth/role/grant", {"name": "listen", "perm": {"permType": "READ", "key": key}}),
        ("/auth/role/add", {"name": "ring"}),
        ("/auth/role/grant", {"name": "ring", "perm": {"permType": "READWRITE", "key": key}}),
        ("/auth/user/add", {"name": "host", "password": "p@ss"}),
        ("/auth/user/grant", {"user": "host", "role": "listen"}),
        ("/auth/user/add", {"name": "publisher", "password": "secret"}),
        ("/auth/user/grant", {"user": "publisher", "role": "ring"}),
        ("/auth/enable", {}),
    ):
        root._post(path, message)
    root.close()


def test_a_member_that_is_killed_is_followed_by_another(
    fetcher: Fetching, daemon: FakeDaemon, fleet: SignedRepository, members: Cluster
) -> None:
    """The one that is listened to, twice; each time the next ring is heard."""
    for number in (2, 3):
        host = watched(fetcher)
        before = fetcher.log.count("doorbell-watched")
        members.members[host].kill()
        publish(fleet, members, number)
        daemon.wait_for_policy(f"Fleet {number}")
        daemon.wait(lambda before=before: fetcher.log.count("doorbell-watched") > before, "another")  # type: ignore[misc]
        members.members[host].start()
        members.wait()
    assert "doorbell-lost" in fetcher.log


def test_without_a_majority_looks_go_on_in_intervals(
    tmp_path: Path, fleet: SignedRepository, web: Nginx, members: Cluster
) -> None:
    """The publisher is told; hosts have it with their next look; then the bell works again."""
    settings = {"source": web.url, "doorbell": members.url(), "interval_s": 2.0}
    with (
        fake_daemon(tmp_path, fleet.root, **settings) as daemon,
        fetching(daemon.path, tmp_path / "log") as fetcher,
    ):
        daemon.wait_for_policy("Fleet 1")
        daemon.wait(lambda: "doorbell-watched" in fetcher.log, "the fetcher listens")
        for host in members.hosts[:2]:
            members.members[host].kill()
        digest = fleet.publish(2)
        with pytest.raises(NotFetched, match="could not be rung"):
            ring(members.url(), 2, digest)
        assert daemon.wait_for_policy("Fleet 2") < 10 * PATIENCE
        daemon.settings["interval_s"] = 3600.0
        for host in members.hosts[:2]:
            members.members[host].start()
        members.wait()
        publish(fleet, members, 3)
        daemon.wait_for_policy("Fleet 3", 60 * PATIENCE)


def test_a_member_that_hangs_is_left(members: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections stand and nothing comes: after a quiet time another one is asked."""
    monkeypatch.setattr(bell_module, "QUIET_S", 1.0)
    monkeypatch.setattr(bell_module, "QUIET_MORE_S", 0.0)
    monkeypatch.setattr(random, "shuffle", lambda _: None)
    bell = Bell(parse_doorbell(members.url()), TlsFiles(), lambda: None)
    ring(members.url(), 1, "")
    assert eventually(lambda: bell.latest == Ring(1, ""), 20)
    hung = members.members[members.hosts[0]]
    hung.kill(signal.SIGSTOP)
    try:
        others = members.url().replace(f"{members.hosts[0]}:{CLIENTS},", "")

        def rung() -> bool:
            # The others may have to elect a leader first.
            try:
                ring(others, 2, "")
            except NotFetched:
                return False
            return True

        assert eventually(rung, 30)
        assert eventually(lambda: bell.latest == Ring(2, ""), 60)
    finally:
        assert hung.process is not None
        hung.process.send_signal(signal.SIGCONT)
        bell.retire()


def test_a_host_that_was_away_for_ten_versions_takes_the_last(
    fetcher: Fetching,
    daemon: FakeDaemon,
    fleet: SignedRepository,
    members: Cluster,
    tmp_path: Path,
) -> None:
    """In one look: nothing between is fetched."""
    fetcher.kill()
    for number in range(2, 12):
        publish(fleet, members, number)
    taken = len(daemon.taken)
    with fetching(daemon.path, tmp_path / "log2"):
        daemon.wait_for_policy("Fleet 11")
        assert daemon.taken[taken:] == ["Fleet 11"]
        assert daemon.version == 11


def test_a_fetcher_that_stands_still_hears_the_last_ring(
    fetcher: Fetching, daemon: FakeDaemon, fleet: SignedRepository, members: Cluster
) -> None:
    """Thousands of rings meanwhile take memory neither of it nor of the member."""
    member = members.members[watched(fetcher)]
    os.kill(fetcher.process.pid, signal.SIGSTOP)
    before, own = member.resident(), resident(fetcher)
    flood(members, 3000)
    publish(fleet, members, 2)
    os.kill(fetcher.process.pid, signal.SIGCONT)
    daemon.wait_for_policy("Fleet 2")
    print(f"etcd {before} to {member.resident()}, fetcher {own} to {resident(fetcher)}")
    assert resident(fetcher) - own < 32 << 20
    assert member.resident() - before < 128 << 20


def test_watchers_that_do_not_read_hold_up_nobody(
    fetcher: Fetching, daemon: FakeDaemon, fleet: SignedRepository, members: Cluster
) -> None:
    """Two hundred of them, and three thousand rings: whoever reads hears the last one at once."""
    host = watched(fetcher)
    before = members.members[host].resident()
    idle = [deaf_watcher(host) for _ in range(200)]
    try:
        flood(members, 3000)
        publish(fleet, members, 2)
        assert daemon.wait_for_policy("Fleet 2") < 30 * PATIENCE
        after = members.members[host].resident()
        print(f"etcd {before} to {after}")
        assert after - before < 512 << 20
    finally:
        for connection in idle:
            connection.close()


def flood(members: Cluster, number: int) -> None:
    """Ring so often, for states that nobody has."""
    member = Member(members.hosts[0], CLIENTS, members.tls)
    for version in range(number):
        member.put("ipsecd", json.dumps({"version": version, "digest": f"{version:064x}"}))
    member.close()


def deaf_watcher(host: str) -> socket.socket:
    """A connection that watches the key and never reads, with the least room in between."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, CLIENTS))
    body = b'{"create_request": {"key": "aXBzZWNk"}}'
    head = f"POST /v3/watch HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def resident(fetcher: Fetching) -> int:
    pages = Path(f"/proc/{fetcher.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


STEPS = ("files", "timestamp", "ring")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("victim", ["fetcher", "etcd", "web"])
def test_whoever_is_killed_during_a_publish_old_or_new_is_in_force(
    tmp_path: Path,
    fleet: SignedRepository,
    web: Nginx,
    members: Cluster,
    daemon: FakeDaemon,
    victim: str,
    step: str,
) -> None:
    """At each step of it; and when all run again it is the new one."""
    fetcher = Fetching(daemon.path, tmp_path / "log", {})
    try:
        daemon.wait_for_policy("Fleet 1")
        daemon.wait(lambda: "doorbell-watched" in fetcher.log, "the fetcher listens")

        def kill_at(reached: str) -> None:
            if reached != step:
                return
            if victim == "fetcher":
                fetcher.kill()
            elif victim == "etcd":
                members.kill()
            else:
                web.kill()

        fleet.publish(2, last=False)
        kill_at("files")
        assert daemon.policy == "Fleet 1"
        fleet.version -= 1
        digest = fleet.publish(2)
        kill_at("timestamp")
        try:
            ring(members.url(), 2, digest)
        except NotFetched:
            assert victim == "etcd"
        kill_at("ring")
        time.sleep(1)
        assert daemon.policy in {"Fleet 1", "Fleet 2"}
        if victim == "fetcher":
            fetcher = Fetching(daemon.path, tmp_path / "log", {})
        elif victim == "etcd":
            members.start()
            ring(members.url(), 2, digest)
        else:
            web.start()
        daemon.wait_for_policy("Fleet 2", 60 * PATIENCE)
        assert set(daemon.taken) == {"Fleet 1", "Fleet 2"}
    finally:
        if fetcher.process.poll() is None:
            fetcher.kill()
