"""The fetcher as a process, with a daemon that verifies what it takes, and sources that fail."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipsecd.errors import InvalidInput
from ipsecd_domain.errors import NotFetched
from ipsecd_domain.fetcher.reports import send_report
from ipsecd_domain.fetcher.settings import Domain, Settings
from ipsecd_domain.reports import read_reports
from tests.domain.fake_daemon import FakeDaemon, fake_daemon
from tests.domain.fake_etcd import FakeEtcd, fake_etcd
from tests.domain.fake_web import FakeWeb, broken, dripping, endless, fake_web, garbage, truncated
from tests.domain.fetching import Fetching, fetching
from tests.domain.signed import SignedRepository


@pytest.fixture
def fleet(tmp_path: Path) -> SignedRepository:
    fleet = SignedRepository(tmp_path / "fleet")
    fleet.publish(1)
    return fleet


@pytest.fixture
def web(fleet: SignedRepository) -> Iterator[FakeWeb]:
    with fake_web(fleet.directory) as server:
        yield server


@pytest.fixture
def bell() -> Iterator[FakeEtcd]:
    with fake_etcd() as server:
        yield server


@pytest.fixture
def daemon(
    tmp_path: Path, fleet: SignedRepository, web: FakeWeb, bell: FakeEtcd
) -> Iterator[FakeDaemon]:
    """Its source is a web server with a doorbell; it looks by itself in an hour only."""
    doorbell = f"etcd://{bell.host}/ipsecd"
    with fake_daemon(
        tmp_path, fleet.root, source=web.url, doorbell=doorbell, interval_s=3600.0
    ) as daemon:
        yield daemon


@pytest.fixture
def fetcher(daemon: FakeDaemon, tmp_path: Path) -> Iterator[Fetching]:
    """It has the first policy, and listens to the doorbell."""
    with fetching(daemon.path, tmp_path / "log") as fetcher:
        daemon.wait_for_policy("Fleet 1")
        daemon.wait(lambda: daemon.waiting > 0, "the fetcher hears the daemon")
        yield fetcher


def ring(bell: FakeEtcd, digest: str) -> None:
    bell.put(json.dumps({"version": 1, "digest": digest}).encode())


def test_a_refresh_that_was_asked_for_is_answered(
    fetcher: Fetching, daemon: FakeDaemon, fleet: SignedRepository
) -> None:
    """At once, with the news or with the word that there are none."""
    fleet.publish(2)
    daemon.ask()
    assert daemon.wait_for_policy("Fleet 2") < 5
    taken = len(daemon.taken)
    daemon.ask()
    daemon.wait(lambda: len(daemon.taken) > taken or bool(daemon.reports), "an answer")
    assert fetcher.process.poll() is None


def test_a_ring_makes_it_look(
    fetcher: Fetching, daemon: FakeDaemon, fleet: SignedRepository, bell: FakeEtcd
) -> None:
    """Within the two seconds over which a fleet is spread, and a little."""
    assert bell.watching.wait(20)
    for number in range(2, 5):
        ring(bell, fleet.publish(number))
        assert daemon.wait_for_policy(f"Fleet {number}") < 6
    assert fetcher.process.poll() is None


def test_a_ring_that_comes_before_the_files_is_not_forgotten(
    fetcher: Fetching, daemon: FakeDaemon, fleet: SignedRepository, bell: FakeEtcd
) -> None:
    """It looks again, though its next look would be in an hour."""
    assert bell.watching.wait(20)
    ring(bell, "ab" * 32)
    daemon.wait(lambda: bool(daemon.reports), "a look in vain")
    fleet.publish(2)
    daemon.wait_for_policy("Fleet 2")
    assert fetcher.process.poll() is None


def test_a_ring_for_what_is_in_force_asks_nobody(
    fetcher: Fetching,
    daemon: FakeDaemon,
    fleet: SignedRepository,
    bell: FakeEtcd,
    web: FakeWeb,
) -> None:
    """The digest says that there is nothing new."""
    assert bell.watching.wait(20)
    digest = fleet.publish(2)
    ring(bell, digest)
    daemon.wait_for_policy("Fleet 2")
    asked = len(web.answered)
    bell.put(json.dumps({"version": 9, "digest": digest}).encode())
    time.sleep(2.5)
    assert len(web.answered) == asked
    assert fetcher.process.poll() is None


def test_a_look_without_news_costs_one_answer_without_a_body(
    tmp_path: Path, fleet: SignedRepository, web: FakeWeb
) -> None:
    """Look after look is one 304; a change is seen by the next."""
    with (
        fake_daemon(tmp_path, fleet.root, source=web.url, interval_s=1.0) as daemon,
        fetching(daemon.path, tmp_path / "log"),
    ):
        daemon.wait(lambda: len(daemon.reports) >= 1, "a look without news")
        first = len(web.answered)
        daemon.wait(lambda: len(daemon.reports) >= 3, "two more")
        looks = web.answered[first:]
        assert {(304, "/metadata/timestamp.json")} == set(looks)
        assert len(looks) <= 3
        fleet.publish(2)
        daemon.wait_for_policy("Fleet 2")
        fleet.withdraw()
        daemon.wait(lambda: daemon.withdrawn, "the withdrawal")


def test_a_policy_has_its_own_interval(
    tmp_path: Path, fleet: SignedRepository, web: FakeWeb
) -> None:
    """It counts from the look that brought it."""
    fleet.publish(2, interval_s=10.0)
    with (
        fake_daemon(tmp_path, fleet.root, source=web.url, interval_s=3600.0) as daemon,
        fetching(daemon.path, tmp_path / "log"),
    ):
        daemon.wait_for_policy("Fleet 2")
        fleet.publish(3)
        assert 8 < daemon.wait_for_policy("Fleet 3") < 20


def test_files_are_looked_at_when_they_change(tmp_path: Path, fleet: SignedRepository) -> None:
    """Within a second, also where the whole directory is replaced by another."""
    with (
        fake_daemon(tmp_path, fleet.root, source=f"file://{fleet.directory}") as daemon,
        fetching(daemon.path, tmp_path / "log"),
    ):
        daemon.wait_for_policy("Fleet 1")
        for number in range(2, 6):
            fleet.publish(number)
            assert daemon.wait_for_policy(f"Fleet {number}") < 3
        fleet.publish(6, last=False)
        aside = tmp_path / "aside"
        fleet.directory.rename(aside)
        time.sleep(0.5)
        aside.rename(fleet.directory)
        fleet.publish(7)
        assert daemon.wait_for_policy("Fleet 7") < 6
        fleet.publish(8)
        assert daemon.wait_for_policy("Fleet 8") < 3


def test_half_a_publish_is_taken_only_as_a_whole(tmp_path: Path, fleet: SignedRepository) -> None:
    """A timestamp that comes before what it names is reported, and then the rest is taken."""
    with (
        fake_daemon(tmp_path, fleet.root, source=f"file://{fleet.directory}") as daemon,
        fetching(daemon.path, tmp_path / "log") as fetcher,
    ):
        daemon.wait_for_policy("Fleet 1")
        fleet.publish(2)
        daemon.wait_for_policy("Fleet 2")
        # It would take the whole if it came between a publish and what is put aside.
        fetcher.process.send_signal(signal.SIGSTOP)
        aside = tmp_path / "4.snapshot.json"
        fleet.publish(3, last=False)
        (fleet.directory / "metadata/3.snapshot.json").rename(aside)
        fleet.version -= 1
        # Signed anew with the same version: only the snapshot is held back.
        fleet.publish(3)
        (fleet.directory / "metadata/3.snapshot.json").rename(aside)
        fetcher.process.send_signal(signal.SIGCONT)
        daemon.wait(lambda: bool(daemon.problem), "the problem")
        assert daemon.policy == "Fleet 2"
        aside.rename(fleet.directory / "metadata/3.snapshot.json")
        assert daemon.wait_for_policy("Fleet 3") < 6


@pytest.mark.parametrize("misbehave", [garbage, endless, truncated, broken])
def test_a_broken_web_server_is_reported_and_asked_again(
    fetcher: Fetching,
    daemon: FakeDaemon,
    fleet: SignedRepository,
    web: FakeWeb,
    misbehave: object,
) -> None:
    """What is in force stays, and the next policy is taken when it is well again."""
    fleet.publish(2)
    web.misbehave.append(misbehave)  # type: ignore[arg-type]
    daemon.ask()
    daemon.wait(lambda: bool(daemon.problem), "the problem")
    assert daemon.policy == "Fleet 1"
    web.misbehave.clear()
    daemon.wait_for_policy("Fleet 2")
    assert fetcher.process.poll() is None


def test_the_daemon_may_end_and_come_back(
    fetcher: Fetching, daemon: FakeDaemon, fleet: SignedRepository
) -> None:
    """Also while it is away something may be published; the fetcher hears it again afterwards."""
    for number in range(2, 5):
        daemon.stop()
        fleet.publish(number)
        time.sleep(0.3)
        waiting = daemon.waiting
        daemon.start()
        daemon.wait(lambda waiting=waiting: daemon.waiting > waiting, "it is heard again")  # type: ignore[misc]
        daemon.ask()
        daemon.wait_for_policy(f"Fleet {number}")
    assert fetcher.process.poll() is None


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\0",
        b"\xff\0",
        b"[]\0",
        b'{"parameters": 3}\0',
        b'{"parameters": {}}\0',
        b'{"parameters": {"domain": {"source": 3}}}\0',
        b'{"parameters": {"domain": {"source": "x", "interval_s": NaN}}}\0',
        b'{"error": "io.ipsecd.control.InvalidInput", "parameters": {"line": "x"}}\0',
        b'{"error": 5, "parameters": []}\0',
        b"",
    ],
)
@pytest.mark.parametrize("method", ["GetDomain", "AwaitDomain"])
def test_garbage_of_the_daemon_ends_nothing(
    tmp_path: Path, fleet: SignedRepository, method: str, answer: bytes
) -> None:
    """It asks again, and goes on where the answer is one."""
    with fake_daemon(tmp_path, fleet.root, source=f"file://{fleet.directory}") as daemon:
        daemon.answers[method] = answer
        with fetching(daemon.path, tmp_path / "log") as fetcher:
            time.sleep(0.7)
            if not answer:
                daemon.stop()
                daemon.start()
            daemon.answers.clear()
            daemon.wait_for_policy("Fleet 1")
            assert fetcher.process.poll() is None


def test_a_daemon_that_refuses_is_not_asked_all_the_time(
    fetcher: Fetching, daemon: FakeDaemon, fleet: SignedRepository, web: FakeWeb
) -> None:
    """The source is not looked at again and again for what the daemon does not take."""
    fleet.publish(2)
    daemon.answers["TakeDomain"] = (
        b'{"error": "io.ipsecd.control.Refused", "parameters": {"message": "no", "hint": ""}}\0'
    )
    daemon.ask()
    daemon.wait(lambda: daemon.problem.startswith("no"), "the reason")
    asked = len(web.answered)
    time.sleep(2)
    assert len(web.answered) == asked
    assert "not-taken reason=no" in fetcher.log


def test_without_a_root_nothing_is_fetched(tmp_path: Path, web: FakeWeb) -> None:
    """The report says how to trust one."""
    with (
        fake_daemon(tmp_path, b"", source=web.url) as daemon,
        fetching(daemon.path, tmp_path / "log"),
    ):
        daemon.wait(lambda: "domain trust" in daemon.problem, "the problem")
        assert web.answered == []


def test_settings_may_change(tmp_path: Path, fleet: SignedRepository, web: FakeWeb) -> None:
    """Without a source it waits; with the next refresh asked for it uses what is set then."""
    with (
        fake_daemon(tmp_path, fleet.root) as daemon,
        fetching(daemon.path, tmp_path / "log"),
    ):
        daemon.wait(lambda: daemon.waiting > 0, "the fetcher hears the daemon")
        assert not daemon.reports
        daemon.settings["source"] = web.url
        daemon.ask()
        daemon.wait_for_policy("Fleet 1")
        fleet.publish(2)
        daemon.settings["source"] = f"file://{fleet.directory}"
        daemon.ask()
        daemon.wait_for_policy("Fleet 2")
        fleet.publish(3)
        assert daemon.wait_for_policy("Fleet 3") < 3


def test_a_signal_ends_it_at_once(fetcher: Fetching, daemon: FakeDaemon, web: FakeWeb) -> None:
    """Also while it waits for a server."""
    web.misbehave.append(dripping)
    daemon.ask()
    time.sleep(0.3)
    started = time.monotonic()
    assert fetcher.kill(signal.SIGTERM) == -signal.SIGTERM
    assert time.monotonic() - started < 1


def test_it_keeps_nothing_on_disk(tmp_path: Path, fleet: SignedRepository, web: FakeWeb) -> None:
    """What it needs for a look is gone after it."""
    (tmp_path / "scratch").mkdir()
    with (
        fake_daemon(tmp_path, fleet.root, source=web.url) as daemon,
        fetching(daemon.path, tmp_path / "log", TMPDIR=str(tmp_path / "scratch")),
    ):
        daemon.wait_for_policy("Fleet 1")
        assert list((tmp_path / "scratch").iterdir()) == []


def test_what_a_host_has_is_reported(
    fetcher: Fetching, daemon: FakeDaemon, fleet: SignedRepository, web: FakeWeb
) -> None:
    """By HTTP after each look; a place that does not answer is no problem of the host."""
    daemon.settings["reports"] = f"{web.url}/reports"
    fleet.publish(2)
    daemon.ask()
    daemon.wait(lambda: any(b"Fleet 2" in report for report in web.posted), "a report")
    report = json.loads(web.posted[-1])
    assert report["time"].endswith("Z")
    assert {name: report[name] for name in ("host", "version", "policy", "problem")} == {
        "host": "web1",
        "version": 2,
        "policy": "Fleet 2",
        "problem": "",
    }
    assert report["digest"] == daemon.digest
    assert report["interval_s"] == 3600.0
    daemon.settings["reports"] = "http://127.0.0.1:1/"
    fleet.publish(3)
    daemon.ask()
    daemon.wait_for_policy("Fleet 3")
    daemon.wait(lambda: "report-failed" in fetcher.log, "the complaint")


@pytest.mark.parametrize(
    ("host", "name"),
    [("WEB1.example.net", "web1.example.net.json"), (".", "..json"), ("..", "...json")],
)
def test_a_report_is_a_file_for_each_host(tmp_path: Path, host: str, name: str) -> None:
    """Whatever the host is called, it lies in the directory; the next one replaces it."""
    settings = Settings(host=host, reports=f"file://{tmp_path}")
    for version in (1, 2):
        domain = Domain(settings, policy="P", digest="0" * 64, version=version, taken_at=1.0)
        send_report(domain, "none", 60.0)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    [report] = read_reports(tmp_path).usable
    assert (report.version, report.policy, report.interval_s) == (2, "P", 60.0)
    assert report.taken == "1970-01-01T00:00:01Z"


def test_a_report_leaves_its_directory_to_nobody(tmp_path: Path) -> None:
    """A host of another name reports nothing, and no link leads a report elsewhere."""
    reports, elsewhere = tmp_path / "reports", tmp_path / "elsewhere"
    reports.mkdir()
    elsewhere.write_text("mine")
    with pytest.raises(InvalidInput, match="cannot stand there"):
        send_report(Domain(Settings(host="../x", reports=f"file://{reports}")), "", 60.0)
    (reports / f"web1.{os.getpid()}.new").symlink_to(elsewhere)
    (reports / "web1.json").symlink_to(elsewhere)
    domain = Domain(Settings(host="web1", reports=f"file://{reports}"))
    with pytest.raises(NotFetched, match="cannot be written"):
        send_report(domain, "", 60.0)
    send_report(domain, "", 60.0)
    assert elsewhere.read_text() == "mine"
    assert not (reports / "web1.json").is_symlink()


def test_names_are_looked_up_without_a_domain(tmp_path: Path) -> None:
    """What there is, and what there is not, each as soon as it is there; also after a restart."""
    with (
        fake_daemon(tmp_path, b"", source="") as daemon,
        fetching(daemon.path, tmp_path / "log") as fetcher,
    ):
        for number in (1, 2):
            absent = f"{'x' * 64}.example"
            daemon.want(number, "localhost", absent)
            daemon.wait(lambda n=number: len(_answers(daemon, n)) == 2, "both are answered")  # type: ignore[misc]
            answers = _answers(daemon, number)
            assert set(answers["localhost"][0]) & {"127.0.0.1", "::1"}
            assert answers["localhost"][1] == ""
            assert answers[absent] == ([], "it is not a name that DNS can hold")
            daemon.stop()
            daemon.start()
        assert fetcher.process.poll() is None
        assert "Traceback" not in fetcher.log


def _answers(daemon: FakeDaemon, number: int) -> dict[str, tuple[list[str], str]]:
    return {name: answer for (n, name), answer in list(daemon.answered.items()) if n == number}


@pytest.mark.parametrize(
    "garbage", [b"\0", b"{}\0", b'{"parameters": {"number": "x", "names": 5}}\0', b"x" * 100]
)
def test_garbage_in_the_place_of_names_ends_nothing(tmp_path: Path, garbage: bytes) -> None:
    """The fetcher goes on, and answers when there are names."""
    with fake_daemon(tmp_path, b"", source="") as daemon:
        daemon.answers["AwaitNames"] = garbage
        with fetching(daemon.path, tmp_path / "log") as fetcher:
            time.sleep(0.5)
            daemon.answers.clear()
            daemon.stop()
            daemon.start()
            daemon.want(1, "localhost")
            daemon.wait(lambda: (1, "localhost") in daemon.answered, "it is answered")
            assert "Traceback" not in fetcher.log
