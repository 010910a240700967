"""Tests of the operator's view of a fleet: reports that nobody vouches for, and what they do."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ipsecctl import domain_fleet, domain_repository
from ipsecd.errors import InvalidInput, StoreFailed
from ipsecd_domain import reports as reports_module
from ipsecd_domain.errors import DomainError
from ipsecd_domain.reports import Report, read_report, read_reports, write_report
from ipsecd_domain.repository.fleet import Fleet as Seen
from ipsecd_domain.repository.fleet import look
from ipsecd_domain.repository.halting import halt
from ipsecd_domain.repository.publishing import withdraw
from ipsecd_domain.repository.threshold import parse_threshold
from ipsecd_domain.selection import Host
from tests.ctl.conftest import Ran, Run
from tests.domain.fleets import WEB, WORM, Fleet, Member, now

CHANGED = WEB.replace(b"telnet", b"telnet and more")
PERFECT: dict[str, Any] = {
    "host": "web1",
    "groups": ["web"],
    "labels": {"site": "paris"},
    "version": 2,
    "digest": "0" * 64,
    "policy": "Web",
    "withdrawn": False,
    "problem": "",
    "taken": "2026-11-29T12:00:00Z",
    "time": "2026-11-29T13:00:00Z",
    "interval_s": 5400.0,
}


@dataclass
class Hosts:
    """Hosts that look at a repository and report to a directory, as fetchers do."""

    fleet: Fleet
    directory: Path
    members: dict[str, Member] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def join(self, name: str, *groups: str, **labels: str) -> None:
        self.members[name] = Member.of(self.fleet, name, *groups, **labels)

    def report(self, *names: str, problem: str = "", takes: bool = True) -> None:
        """Look, take what comes unless `takes` is false, and say so."""
        for name in names or tuple(self.members):
            member = self.members[name]
            seen = member.look(self.fleet.repository)
            if takes and seen.sha256:
                self.digests[name] = seen.sha256
            if takes and seen.outcome == "withdrawn":
                self.digests[name] = ""
            host = Host(name, member.groups, member.labels)
            report = Report(
                host=host,
                version=seen.version,
                digest=self.digests.get(name, ""),
                policy=seen.policy,
                withdrawn=seen.outcome == "withdrawn",
                problem=problem,
                taken="2026-11-29T12:00:00Z",
                time="2026-11-29T13:00:00Z",
                interval_s=5400.0,
            )
            (self.directory / reports_module.file_name(host)).write_bytes(write_report(report))

    def look(self) -> Seen:
        return look(self.fleet.repository, self.directory, now())


@pytest.fixture
def hosts(fleet: Fleet, tmp_path: Path) -> Hosts:
    directory = tmp_path / "reports"
    directory.mkdir()
    return Hosts(fleet, directory)


@pytest.fixture
def halves(hosts: Hosts) -> tuple[list[str], list[str]]:
    """Twenty hosts that have a policy, and a canary for half of them: those in it, the others."""
    hosts.fleet.publish()
    for number in range(20):
        hosts.join(f"h{number}")
    hosts.report()
    before = dict(hosts.digests)
    hosts.fleet.publish(CHANGED, canary=50.0)
    hosts.report()
    first = [name for name in hosts.members if hosts.digests[name] != before[name]]
    others = [name for name in hosts.members if name not in first]
    assert first
    assert others
    return first, others


# Reports


def test_a_report_is_read_as_it_is_written() -> None:
    """What a host writes is what the operator has."""
    report = read_report(json.dumps(PERFECT).encode(), 5.0)
    assert report.host == Host("web1", ("web",), (("site", "paris"),))
    assert read_report(write_report(report), 5.0) == report


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("host", "../web1"),
        ("host", "web1\n"),
        ("host", ""),
        ("host", "w" * 300),
        ("host", ["web1"]),
        ("groups", "web"),
        ("groups", [1]),
        ("groups", ["a/b"]),
        ("groups", ["g"] * 40),
        ("labels", {"site": 1}),
        ("labels", {"a b": "x"}),
        ("labels", {"site": "\x1b[2J"}),
        ("version", -1),
        ("version", 1.5),
        ("version", True),
        ("version", 1 << 60),
        ("digest", "0" * 63),
        ("digest", "0" * 64 + "\n"),
        ("digest", "G" * 64),
        ("policy", "p" * 300),
        ("policy", None),
        ("withdrawn", 0),
        ("problem", "x" * 3000),
        ("taken", "yesterday"),
        ("time", "now"),
        ("time", "٢٠٢٦-11-29T13:00:00Z"),
        ("interval_s", 0),
        ("interval_s", float("inf")),
        ("interval_s", float("nan")),
        ("interval_s", 1e9),
        ("interval_s", "60"),
    ],
)
def test_a_report_of_another_form_is_not_used(member: str, value: object) -> None:
    """Whatever is in it, it is a report in full or an error."""
    with pytest.raises(InvalidInput):
        read_report(json.dumps({**PERFECT, member: value}).encode(), 0.0)


@pytest.mark.parametrize("missing", sorted(PERFECT.keys() - {"taken"}))
def test_a_report_has_all_its_members(missing: str) -> None:
    """One that says less is not guessed at."""
    with pytest.raises(InvalidInput):
        read_report(json.dumps({k: v for k, v in PERFECT.items() if k != missing}).encode(), 0.0)


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b"1", b"[" * 20_000, b"9" * 20_000, b"{"])
def test_garbage_is_no_report(text: bytes) -> None:
    """Nor does it take the reader along."""
    with pytest.raises(InvalidInput):
        read_report(text, 0.0)


def test_a_report_cannot_be_of_another_host(hosts: Hosts) -> None:
    """Whose it is says the name of the file, which the receiver gave it, and nobody is replaced."""
    hosts.join("web1")
    hosts.join("web2")
    hosts.report()
    for name in ("web2.json", "WEB1.json", "web3.json"):
        (hosts.directory / name).write_bytes((hosts.directory / "web1.json").read_bytes())
    seen = hosts.look()
    assert [member.report.host.name for member in seen.members] == ["web1"]
    assert {bad.file: bad.reason for bad in seen.unusable} == dict.fromkeys(
        ("WEB1.json", "web2.json", "web3.json"), "it says that it is of host 'web1'"
    )


def test_what_is_no_file_is_not_waited_for(hosts: Hosts, tmp_path: Path) -> None:
    """A pipe, a directory, a link, a file without an end: each is named, and closed."""
    hosts.join("web1")
    hosts.report()
    os.mkfifo(hosts.directory / "pipe.json")
    (hosts.directory / "directory.json").mkdir()
    (tmp_path / "web2.json").write_text(json.dumps({**PERFECT, "host": "web2"}))
    (hosts.directory / "web2.json").symlink_to(tmp_path / "web2.json")
    (hosts.directory / "zero.json").symlink_to("/dev/zero")
    with (hosts.directory / "huge.json").open("wb") as file:
        file.truncate(1 << 33)
    (hosts.directory / "web1.99.new").write_text("half a rep")
    open_before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as many as it lists
    seen = read_reports(hosts.directory)
    assert len(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208
    assert [report.host.name for report in seen.usable] == ["web1"]
    reasons = {bad.file: bad.reason for bad in seen.unusable}
    assert reasons.pop("huge.json") == "it is longer than 65,536 bytes"
    for link in ("web2.json", "zero.json"):
        assert "symbolic links" in reasons.pop(link)
    assert reasons == dict.fromkeys(("directory.json", "pipe.json"), "it is not a file")


def test_a_directory_that_somebody_fills_is_refused(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything in it is read."""
    monkeypatch.setattr(reports_module, "MAX_REPORTS", 3)
    for number in range(4):
        (hosts.directory / f"h{number}.json").touch()
    with pytest.raises(StoreFailed, match="more than 3 reports"):
        hosts.look()


# How hosts stand


def test_stragglers_come_first(hosts: Hosts) -> None:
    """Who has not seen the last version, who has something else, and who is silent."""
    for name in ("a-current", "b-old", "c-other", "d-silent", "e-failed"):
        hosts.join(name)
    hosts.fleet.publish()
    hosts.report("b-old")
    hosts.fleet.publish(CHANGED)
    hosts.report("a-current", "d-silent")
    hosts.report("e-failed", problem="the kernel does not like it")
    hosts.report("c-other", takes=False)
    long_ago = now().timestamp() - 3 * 3600
    os.utime(hosts.directory / "d-silent.json", (long_ago, long_ago))
    members = hosts.look().members
    assert [(m.report.host.name, m.current, m.behind, m.silent) for m in members] == [
        ("b-old", False, True, False),
        ("c-other", False, True, False),
        ("d-silent", True, False, True),
        ("e-failed", True, False, False),
        ("a-current", True, False, False),
    ]


def test_who_has_not_seen_the_last_version_lags_behind(hosts: Hosts) -> None:
    """Even with the right policy: nobody knows whether it would hear of the next one."""
    hosts.join("web1")
    hosts.fleet.publish()
    hosts.report()
    hosts.fleet.publish(WORM, group="mail")
    [member] = hosts.look().members
    assert (member.current, member.behind) == (True, True)


def test_silence_is_longer_than_the_host_waits_itself(hosts: Hosts) -> None:
    """A look comes up to a third of the interval later, and one takes its time."""
    hosts.join("web1")
    hosts.report()
    for minutes, silent in ((0, False), (119, False), (122, True), (-60, False)):
        then = now().timestamp() - minutes * 60
        os.utime(hosts.directory / "web1.json", (then, then))
        assert hosts.look().members[0].silent is silent


def test_a_withdrawal_is_what_a_host_may_have(hosts: Hosts) -> None:
    """It is current when it has no policy then, and no straggler."""
    hosts.join("web1", "web")
    hosts.fleet.publish(group="web")
    hosts.report()
    withdraw(hosts.fleet.repository, hosts.fleet.keys, now())
    assert not hosts.look().members[0].current
    hosts.report()
    assert hosts.look().members[0].current


# Canaries


@pytest.mark.usefixtures("halves")
def test_a_halt_gives_all_hosts_the_policy_before(hosts: Hosts) -> None:
    """At once, and the others do not notice."""
    halted = halt(hosts.fleet.repository, hosts.fleet.keys, now())
    assert [offer.path for _, offer in halted.halted] == ["all/web.canary.yaml"]
    hosts.report()
    assert set(hosts.digests.values()) == {hashlib.sha256(WEB).hexdigest()}
    with pytest.raises(Exception, match="no canary to halt"):
        halt(hosts.fleet.repository, hosts.fleet.keys, now())
    assert not hosts.look().canaries


def test_a_halt_of_what_was_the_first_withdraws(hosts: Hosts) -> None:
    """There was no policy before it, so its hosts have none, unless another one is there."""
    hosts.join("web1", "web")
    hosts.fleet.publish(group="web", canary=100.0)
    hosts.report()
    assert halt(hosts.fleet.repository, hosts.fleet.keys, now()).withdrawn == ("group-web",)
    hosts.report()
    assert hosts.digests["web1"] == ""
    hosts.fleet.publish(WORM)
    hosts.fleet.publish(canary=100.0)
    assert [o.policy for o in halt(hosts.fleet.repository, hosts.fleet.keys, now()).alone] == [
        "Web"
    ]


def test_a_halt_needs_the_key_of_the_role(hosts: Hosts) -> None:
    """What is halted without the others, and what is not, is said; of none it is an error."""
    hosts.fleet.publish()
    hosts.fleet.publish(CHANGED, canary=5.0)
    hosts.fleet.publish(group="web")
    hosts.fleet.publish(CHANGED, group="web", canary=5.0)
    (hosts.fleet.keys / "targets.pem").rename(hosts.fleet.keys / "away")
    halted = halt(hosts.fleet.repository, hosts.fleet.keys, now())
    assert [role for role, _ in halted.halted] == ["group-web"]
    assert halted.left == (("targets", "targets"),)
    with pytest.raises(DomainError, match="there is not targets"):
        halt(hosts.fleet.repository, hosts.fleet.keys, now())


def test_hosts_with_a_label_are_first(hosts: Hosts) -> None:
    """All of them, then a share of everybody, then everybody: who was first chose nothing else."""
    hosts.join("test1", stage="canary")
    hosts.join("web1")
    hosts.fleet.publish(interval_s=600.0)
    hosts.report()
    old = hosts.digests["web1"]
    hosts.fleet.publish(CHANGED, canary=100.0, labels=(("stage", "canary"),))
    hosts.report()
    assert hosts.digests["web1"] == old != hosts.digests["test1"]
    halt(hosts.fleet.repository, hosts.fleet.keys, now())
    hosts.report()
    assert set(hosts.digests.values()) == {old}
    hosts.fleet.publish(CHANGED, canary=100.0, labels=(("stage", "canary"),))
    done = hosts.fleet.publish(CHANGED)
    assert (done.offer.labels, done.offer.interval_s) == ((), 600.0)
    hosts.report()
    assert old not in hosts.digests.values()
    assert len(set(hosts.digests.values())) == 1


# The verbs


@pytest.fixture
def places(hosts: Hosts) -> tuple[str, ...]:
    return (str(hosts.fleet.repository), "--reports", str(hosts.directory))


@pytest.fixture
def publish(run: Run, hosts: Hosts, places: tuple[str, ...], tmp_path: Path) -> Run:
    """Publish the changed policy, by the reports."""
    (tmp_path / "changed.yaml").write_bytes(CHANGED)
    words = ("--keys", str(hosts.fleet.keys), *places[1:])

    def published(*more: str) -> Ran:
        return run("publish", places[0], str(tmp_path / "changed.yaml"), *words, *more)

    return published


def test_a_canary_that_fails_goes_no_further(
    hosts: Hosts, halves: tuple[list[str], list[str]], publish: Run
) -> None:
    """Neither to more hosts nor to all; who fails and why is said, and force goes on."""
    first, others = halves
    hosts.report(others[0], problem="its own trouble")
    hosts.report(first[0], problem="no such interface\n  hint: none")
    before = hosts.look().version
    for more in (("--canary", "75%"), ()):
        refused = publish(*more)
        assert refused.code == 1
        assert f"'{first[0]}': no such interface" in refused.err
        assert others[0] not in refused.err
        assert "ipsecctl domain halt" in refused.err
        assert "--force" in refused.err
    assert hosts.look().version == before
    assert publish("--force").code == 0


def test_a_canary_that_no_host_complains_of_goes_on(
    hosts: Hosts, halves: tuple[list[str], list[str]], publish: Run, tmp_path: Path
) -> None:
    """What fails elsewhere is no reason, nor is a better document held back."""
    first, others = halves
    hosts.report(others[0], problem="its own trouble")
    assert publish("--canary", "60%").code == 0
    hosts.report(first[0], problem="it hurts")
    assert publish().code == 1
    (tmp_path / "changed.yaml").write_bytes(CHANGED + b"# better\n")
    assert publish().code == 0


def test_a_host_that_cannot_take_the_canary_counts(
    hosts: Hosts, halves: tuple[list[str], list[str]], publish: Run
) -> None:
    """It still has the old one, and complains since the canary was published."""
    first, _ = halves
    hosts.digests[first[0]] = ""
    hosts.report(first[0], problem="not taken", takes=False)
    # What is published twice in a second bears the time of the next one.
    soon = now().timestamp() + 5
    os.utime(hosts.directory / f"{first[0]}.json", (soon, soon))
    refused = publish()
    assert (refused.code, f"'{first[0]}': not taken" in refused.err) == (1, True)
    long_ago = now().timestamp() - 3600
    os.utime(hosts.directory / f"{first[0]}.json", (long_ago, long_ago))
    assert "1 host of the canary has not reported since" in publish().err


def heard(hosts: Hosts, names: list[str], seconds_ago: float) -> None:
    """Have the reports of some hosts have come so long ago."""
    then = now().timestamp() - seconds_ago
    for name in names:
        os.utime(hosts.directory / f"{name}.json", (then, then))


@pytest.fixture
def untold(halves: tuple[list[str], list[str]], hosts: Hosts) -> list[str]:
    """Those in the canary, whose last report is an hour old: they had the policy before then."""
    first, _ = halves
    for name in first:
        hosts.digests[name] = ""
    hosts.report(*first, takes=False)
    heard(hosts, first, 3600)
    return first


def hours_later(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    """Let it be later for who looks at the fleet."""
    later = now() + timedelta(hours=hours)
    for module in (domain_fleet, domain_repository):
        monkeypatch.setattr(module, "_now", lambda: later)


def test_a_canary_waits_for_the_reports_of_its_hosts(
    hosts: Hosts, untold: list[str], publish: Run, run: Run, places: tuple[str, ...]
) -> None:
    """Who has said nothing since may fail with it; once all have reported, it goes on."""
    refused = publish("--canary", "75%")
    assert refused.code == 1
    assert f"{len(untold)} hosts of the canary have not reported since" in refused.err
    assert f"'{untold[0]}'" in refused.err
    said = run("fleet", *places, "--halt-on-failure", "--keys", str(hosts.fleet.keys)).out
    assert f"0 failing, {len(untold)} yet to report" in said
    assert "halted" not in said
    hosts.report(*untold[1:])
    assert publish("--canary", "75%").code == 1
    assert publish("--canary", "60%", "--halt-after", "2").code == 0
    hosts.report()
    assert publish("--canary", "75%").code == 0


def test_hosts_that_are_silent_since_the_canary_count_as_failing(
    hosts: Hosts,
    untold: list[str],
    publish: Run,
    run: Run,
    places: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may have cut them off: after the time in which each looks again it is halted."""
    automatic = ("fleet", *places, "--halt-on-failure", "--keys", str(hosts.fleet.keys))
    hours_later(monkeypatch, 1.9)
    assert run(*automatic).code == 0
    hours_later(monkeypatch, 2.1)
    assert "nothing was heard of it since it was given this policy" in publish().err
    few_are_enough = (*automatic, "--halt-after", str(len(untold) + 1))
    assert f"{len(untold)} not heard of since" in run(*few_are_enough).out
    said = run(*automatic)
    assert said.code == 1
    assert f"'{untold[0]}': nothing was heard of it since" in said.out
    assert "halted: policy 'Web'" in said.out


def test_hosts_that_were_silent_before_the_canary_do_not_count(
    hosts: Hosts,
    untold: list[str],
    run: Run,
    places: tuple[str, ...],
    publish: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are switched off, and say nothing about a policy that they have not seen."""
    hours_later(monkeypatch, 2.1)
    heard(hosts, untold, 3 * 3600)
    said = run("fleet", *places, "--halt-on-failure", "--keys", str(hosts.fleet.keys))
    assert (said.code, "halted" in said.out) == (0, False)
    assert publish().code == 0


def test_so_many_hosts_have_to_fail_until_it_is_halted(
    hosts: Hosts,
    halves: tuple[list[str], list[str]],
    run: Run,
    places: tuple[str, ...],
    publish: Run,
) -> None:
    """A number of them, or a share of those that are given it; hosts without it do not count."""
    first, others = halves
    automatic = ("fleet", *places, "--halt-on-failure", "--keys", str(hosts.fleet.keys))
    hosts.report(*others, problem="its own trouble")
    hosts.report(*first[:2], problem="it hurts")
    share = 100 * 2 / len(first)
    for enough in ("3", f"{share + 1:.2f}%"):
        assert "halted" not in run(*automatic, "--halt-after", enough).out
        assert publish("--canary", "60%", "--halt-after", enough).code == 0
        hosts.report(*others, problem="its own trouble", takes=False)
        halt(hosts.fleet.repository, hosts.fleet.keys, now())
        hosts.fleet.publish(CHANGED, canary=50.0)
    assert publish("--halt-after", "2").code == 1
    assert "halted: policy 'Web'" in run(*automatic, "--halt-after", f"{share - 1:.2f}%").out


@pytest.mark.parametrize("text", ["0", "0%", "101%", "-1", "many", "", "1.5", "%", "1e3", "٣"])
def test_what_is_no_threshold_is_refused(text: str, run: Run, places: tuple[str, ...]) -> None:
    """Before anything is looked at."""
    words = ("--halt-on-failure", "--keys", "/nowhere", f"--halt-after={text}")
    said = run("fleet", "/nowhere", *places[1:], *words)
    assert said.code != 0
    assert "number of hosts" in said.err


@pytest.mark.parametrize(
    ("text", "given", "number"),
    [("1%", 0, 1), ("1%", 100, 1), ("1%", 101, 2), ("1%", 500, 5), ("100%", 7, 7), ("3", 1000, 3)],
)
def test_a_threshold_is_a_number_of_hosts(text: str, given: int, number: int) -> None:
    """A share is rounded up, and is one host at least."""
    assert parse_threshold(text).number(given) == number


def test_a_long_table_is_cut_and_the_rest_is_counted(
    run: Run, hosts: Hosts, places: tuple[str, ...]
) -> None:
    """Those that something is wrong with come first; all are there for who asks, and in JSON."""
    for number in range(30):
        hosts.join(f"bad{number:02}")
    for number in range(10):
        hosts.join(f"good{number}")
    hosts.fleet.publish()
    hosts.report(*(name for name in hosts.members if name.startswith("good")))
    hosts.report(*(name for name in hosts.members if name.startswith("bad")), problem="no room")
    lines = run("fleet", *places).out.splitlines()
    assert [line.split()[0] for line in lines[1:21]] == [f"bad{number:02}" for number in range(20)]
    assert lines[21:] == [
        "and 20 more: 10 failed, 10 current ('--all' lists them)",
        "  10 hosts: no room",
        "40 hosts · 0 stragglers · 30 failed · version 2",
    ]
    assert len(run("fleet", *places, "--all").out.splitlines()) == 42
    assert len(json.loads(run("fleet", *places, "--json").out)["hosts"]) == 40


def test_the_table_of_a_fleet(
    run: Run, hosts: Hosts, halves: tuple[list[str], list[str]], places: tuple[str, ...]
) -> None:
    """A line for each host, canaries, reports that are not used, and a summary."""
    first, _ = halves
    hosts.report(first[0], problem="\x1b[31mred\n" + "x" * 100)
    (hosts.directory / "bad.json").write_text("{}")
    hosts.directory.chmod(0o777)
    said = run("fleet", *places)
    assert said.code == 1
    lines = said.out.splitlines()
    assert lines[0].split() == [
        *("host", "state", "version", "policy", "since", "heard", "problem")
    ]
    assert lines[1].split()[:3] == [first[0], "failed", "3"]
    assert "\x1b[31m" not in said.out
    assert lines[-3:] == [
        f"canary 'Web' (all/web.canary.yaml): {len(first)} hosts with it, 1 failing",
        "not used: bad.json: its 'groups' is not as it is written by a host",
        "20 hosts · 0 stragglers · 1 failed · version 3 · 1 report not used",
    ]
    assert "chmod +t" in said.err
    answer = json.loads(run("fleet", *places, "--json").out)
    assert answer["canaries"][0]["failing"] == [first[0]]
    assert answer["hosts"][0]["problem"].startswith("\x1b[31mred")
    hosts.fleet.publish(CHANGED)
    assert "behind" in run("fleet", *places).out


def test_a_failing_canary_is_halted_without_anybody(
    run: Run, hosts: Hosts, halves: tuple[list[str], list[str]], places: tuple[str, ...]
) -> None:
    """Only if that is asked for, only if it fails, and it says on which host."""
    first, others = halves
    automatic = ("fleet", *places, "--halt-on-failure", "--keys", str(hosts.fleet.keys))
    hosts.report(others[0], problem="its own trouble")
    assert "halted" not in run(*automatic).out
    hosts.report(first[0], problem="it hurts")
    watched = run("fleet", *places)
    assert (watched.code, watched.err, "halted" in watched.out) == (1, "", False)
    said = run(*automatic)
    assert said.code == 1
    assert f"policy 'Web' fails on '{first[0]}': it hurts" in said.out
    assert "halted: policy 'Web' (all/web.canary.yaml) · version 4" in said.out
    hosts.report()
    assert len(set(hosts.digests.values())) == 1
    assert run(*automatic).code == 0
    assert run("fleet", *places, "--halt-on-failure").code == 2


@pytest.mark.usefixtures("halves")
def test_a_halt_by_hand(run: Run, hosts: Hosts, places: tuple[str, ...]) -> None:
    """It says what it took back, and that there is nothing more."""
    words = ("halt", places[0], "--keys", str(hosts.fleet.keys))
    said = run(*words)
    assert said.out == "halted: policy 'Web' (all/web.canary.yaml) · version 4\n"
    refused = run(*words, "--json")
    assert (refused.code, "no canary to halt" in refused.err) == (1, True)
    hosts.fleet.publish(CHANGED, canary=5.0)
    assert json.loads(run(*words, "--json").out)["halted"][0]["path"] == "all/web.canary.yaml"


def test_a_watch_halts_by_itself(
    hosts: Hosts, halves: tuple[list[str], list[str]], places: tuple[str, ...], tmp_path: Path
) -> None:
    """It goes on through what fails meanwhile, and says what changes and nothing else."""
    first, _ = halves
    words = ["fleet", *places, "--watch", "--halt-on-failure", "--keys", str(hosts.fleet.keys)]
    with (tmp_path / "out").open("wb") as out:
        # Who runs the tests in the background may have had the signal ignored.
        command = ["env", "--default-signal=INT", sys.executable, "-m", "ipsecctl", "domain"]
        watch = subprocess.Popen([*command, *words, "--json"], stdout=out, stderr=out)
    try:

        def said() -> list[str]:
            return (tmp_path / "out").read_text().splitlines()

        wait_for(lambda: len(said()) == 1)
        hosts.directory.rename(tmp_path / "away")
        wait_for(lambda: any("cannot be read" in line for line in said()))
        (tmp_path / "away").rename(hosts.directory)
        hosts.report(first[0], problem="it hurts")
        wait_for(lambda: any('"path": "all/web.canary.yaml"}]' in line for line in said()))
        hosts.report()
        assert len(set(hosts.digests.values())) == 1
    finally:
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 130


def wait_for(condition: Any, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
