"""The doorbell: a ring is heard, and what is none, or comes from a broken member, does no harm."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote as quote_url

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecctl.__main__ import main
from ipsecd.errors import InvalidInput
from ipsecd_domain import etcd
from ipsecd_domain.doorbell import Ring, parse_doorbell, read_ring, ring
from ipsecd_domain.errors import NotFetched
from ipsecd_domain.etcd import Member
from ipsecd_domain.fetcher import bell as bell_module
from ipsecd_domain.fetcher.bell import Bell
from ipsecd_domain.tls import TlsFiles
from tests.ctl.conftest import Ran, Run
from tests.domain.fake_etcd import PASSWORD, FakeEtcd, fake_etcd
from tests.domain.fleets import WEB, Fleet

NOBODY = "127.0.0.1:1"
DIGEST = "ab" * 32


@pytest.fixture
def member() -> Iterator[FakeEtcd]:
    with fake_etcd() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are short enough for a test."""
    monkeypatch.setattr(bell_module, "LOST_FIRST_S", 0.05)
    monkeypatch.setattr(bell_module, "LOST_MOST_S", 0.2)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*argv: str) -> Ran:
        code = main(list(argv))
        return Ran(code, *capsys.readouterr())

    return run_command


class Listening:
    """A bell, and a wait for what it says."""

    def __init__(self, url: str) -> None:
        self._told = threading.Event()
        self.bell = Bell(parse_doorbell(url), TlsFiles(), self._told.set)

    def wait(self, wanted: Ring) -> None:
        deadline = time.monotonic() + 20
        while self.bell.latest != wanted:
            assert time.monotonic() < deadline, f"not heard: {wanted}"
            self._told.wait(0.05)
            self._told.clear()


@pytest.fixture
def listening(member: FakeEtcd) -> Iterator[Listening]:
    listening = Listening(f"etcd://{NOBODY},{member.host}/ipsecd")
    yield listening
    listening.bell.retire()


def test_a_url_names_members_key_and_user() -> None:
    """With escapes, IPv6, and the port that etcd has."""
    doorbell = parse_doorbell("etcds://host:p%40ss@h1:2379,[fd00::1]:2380,h3/ipsecd")
    assert doorbell.members == (("h1", 2379), ("fd00::1", 2380), ("h3", 2379))
    assert (doorbell.key, doorbell.tls, doorbell.user) == ("ipsecd", True, "host")
    assert doorbell.password == "p@ss"
    assert "p@ss" not in repr(doorbell)


@pytest.mark.parametrize(
    "url",
    [
        "https://h/k",
        "etcd://h",
        "etcd:///k",
        "etcd://h1,/k",
        "etcd://u:secret@h:x/k",
        "etcd://u:secret@[h/k",
        "",
    ],
)
def test_what_is_no_doorbell_is_refused(url: str) -> None:
    """And the password is not repeated."""
    with pytest.raises(InvalidInput, match="doorbell cannot be used") as caught:
        parse_doorbell(url)
    assert "secret" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_ring_or_none(value: bytes) -> None:
    """The key is a stranger's."""
    assert read_ring(value) is None or value.startswith(b"{")


def test_a_ring_is_small_and_of_its_own_form() -> None:
    """Whatever else stands in the key is no ring."""
    assert read_ring(b'{"version": 3, "digest": "%s"}' % DIGEST.encode()) == Ring(3, DIGEST)
    for wrong in (
        b'{"version": true, "digest": ""}',
        b'{"version": 1}',
        b'{"version": 1, "digest": "../x"}',
        b'{"version": 1, "digest": "ab"%s}' % (b" " * 1024),
        b"[" * 1000,
        b"[]",
    ):
        assert read_ring(wrong) is None


def test_a_ring_is_heard(member: FakeEtcd, listening: Listening) -> None:
    """The one that was there, and each later one; a dead member beside it does not matter."""
    ring(f"etcd://{NOBODY},{member.host}/ipsecd", 1, DIGEST)
    listening.wait(Ring(1, DIGEST))
    assert member.watching.wait(20)
    for version in range(2, 5):
        ring(f"etcd://{member.host}/ipsecd", version, DIGEST)
        listening.wait(Ring(version, DIGEST))


def test_a_value_that_is_no_ring_is_not_heard(member: FakeEtcd, listening: Listening) -> None:
    """The one after it is."""
    member.put(b"nonsense")
    member.put(b'{"version": 2, "digest": ""}')
    listening.wait(Ring(2, ""))


def test_a_user_logs_in(member: FakeEtcd) -> None:
    """With a password of any characters; without the right one nothing is read."""
    member.wants_login = True
    url = f"etcd://host:{quote_url(PASSWORD, safe='')}@{member.host}/ipsecd"
    ring(url, 7, DIGEST)
    listening = Listening(url)
    listening.wait(Ring(7, DIGEST))
    listening.bell.retire()
    for wrong in ("etcd://host:wrong@", "etcd://"):
        with pytest.raises(NotFetched, match="could not be rung") as caught:
            ring(f"{wrong}{member.host}/ipsecd", 8, DIGEST)
        assert PASSWORD not in str(caught.value)


def test_nobody_to_ring_is_said() -> None:
    """With every member, and that it is published nevertheless."""
    with pytest.raises(NotFetched, match=r"127\.0\.0\.1:1.*127\.0\.0\.1:2") as caught:
        ring("etcd://127.0.0.1:1,127.0.0.1:2/ipsecd", 1, DIGEST)
    assert "published nevertheless" in caught.value.hint


GARBAGE = [
    b"",
    b"\xff\xfe\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
    b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"header":{}}',
    b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"header":"text"}',
    b'HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n{"header":{"revision":"1"},"kvs":[{"value":3}]}',
    b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (1 << 18),
    b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{",
    b"HTTP/1.1 307 T\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 E\r\nContent-Length: 2\r\n\r\n\xff\xff",
    b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n" + b"[" * 30000,
]


@pytest.mark.parametrize("raw", GARBAGE)
def test_garbage_of_a_member_is_an_error_of_ours(member: FakeEtcd, raw: bytes) -> None:
    """Whatever it answers, in bounded memory; and a good answer is understood afterwards."""
    member.raw = raw
    port = member.server_address[1]
    with pytest.raises(NotFetched, match="does not answer as it should"):
        Member("127.0.0.1", port, None).get("ipsecd")
    member.raw = None
    assert Member("127.0.0.1", port, None).get("ipsecd") == (None, 1)


@pytest.mark.parametrize(
    "message",
    [
        b"\n\nnonsense\n",
        b'{"error": {"message": "compacted"}}\n',
        b'{"result": {"canceled": true, "compact_revision": "5"}}\n',
        b'{"result": 3}\n',
        b'{"result": {"events": [{"kv": {"value": "%%%"}}]}}\n',
        b'{"result": {"events": 3}}\n',
        b"x" * (etcd.MOST_MESSAGE * 2),
        b"[" * 20000 + b"\n",
    ],
)
def test_a_watch_that_brings_garbage_is_begun_anew(member: FakeEtcd, message: bytes) -> None:
    """The bell goes on, and hears the next ring."""
    member.message = message
    listening = Listening(f"etcd://{member.host}/ipsecd")
    deadline = time.monotonic() + 20
    while sum(path == "/v3/watch" for path, _ in member.asked) < 3:
        assert time.monotonic() < deadline, "the watch is not begun anew"
        time.sleep(0.01)
    member.message = None
    member.put(b'{"version": 2, "digest": ""}')
    listening.wait(Ring(2, ""))
    listening.bell.retire()


def test_a_quiet_watch_ends_and_goes_on(member: FakeEtcd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that is cut off looks alive: so the key is read again after a while."""
    monkeypatch.setattr(bell_module, "QUIET_S", 0.1)
    monkeypatch.setattr(bell_module, "QUIET_MORE_S", 0.0)
    listening = Listening(f"etcd://{member.host}/ipsecd")
    deadline = time.monotonic() + 20
    while sum(path == "/v3/kv/range" for path, _ in member.asked) < 4:
        assert time.monotonic() < deadline, "the key is not read again"
        time.sleep(0.01)
    listening.bell.retire()


def test_publish_and_withdraw_ring(
    run: Run, fleet: Fleet, member: FakeEtcd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the timestamp that is there then; with an option, or a variable that nobody sees."""
    (tmp_path / "web.yaml").write_bytes(WEB)
    words = ("--keys", str(fleet.keys))
    url = f"etcd://{member.host}/ipsecd"
    publish = ("ipsecctl", "domain", "publish", str(fleet.repository), str(tmp_path / "web.yaml"))
    timestamp = fleet.repository / "metadata/timestamp.json"

    def rung() -> bool:
        ring = read_ring(member.value or b"")
        return ring is not None and ring.digest == sha256(timestamp.read_bytes()).hexdigest()

    assert run(*publish, *words, "--doorbell", url).code == 0
    assert rung()
    assert run("ipsecctl", "domain", "withdraw", str(fleet.repository), *words).code == 0
    assert not rung()
    monkeypatch.setenv("IPSECD_DOORBELL", url)
    assert run(*publish, *words).code == 0
    assert rung()
    assert run("ipsecctl", "domain", "withdraw", str(fleet.repository), *words).code == 0
    assert rung()


def test_a_ring_that_nobody_takes_is_told_after_the_publish(
    run: Run, fleet: Fleet, tmp_path: Path
) -> None:
    """It is published then; a doorbell that cannot be one is refused before anything changes."""
    (tmp_path / "web.yaml").write_bytes(WEB)
    publish = ("ipsecctl", "domain", "publish", str(fleet.repository), str(tmp_path / "web.yaml"))
    timestamp = fleet.repository / "metadata/timestamp.json"
    before = timestamp.read_bytes()
    ran = run(*publish, "--keys", str(fleet.keys), "--doorbell", "http://user:secret@h/k")
    assert ran.code == 1
    assert "secret" not in ran.err
    assert timestamp.read_bytes() == before
    ran = run(*publish, "--keys", str(fleet.keys), "--doorbell", f"etcd://{NOBODY}/ipsecd")
    assert ran.code == 1
    assert "published nevertheless" in ran.err
    assert timestamp.read_bytes() != before
