"""The section on Group Policy of Microsoft's article 813878, with a repository and a real fetcher.

After each step stands what the article promises, seen with real packets and in netdiag.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.domain.fleets import Fleet
from tests.netns import site
from tests.netns.site import HERE4, OUTSIDE, PEER4, Daemon, delivered, eventually

pytestmark = pytest.mark.netns

WORM, FIRST, ADDED, OTHER = 1434, 1500, 1501, 1502
LOCAL = "Block UDP 1434 Filter"
LOCAL_RULE = (
    f'IPSeccmd.exe -w REG -p "{LOCAL}" -r "Block Inbound UDP 1434 Rule" -f *=0:1434:UDP -n BLOCK -x'
)
REFRESH = "secedit /refreshpolicy machine_policy"


def document(*ports: int) -> bytes:
    filters = ", ".join(f'"*=0:{port}:UDP"' for port in ports)
    rule = f"  - rule: R\n    action: block\n    filters: [{filters}]\n"
    return f"policy: Fleet\nrules:\n{rule}".encode()


@dataclass
class Member:
    """A host with a daemon, and the fleet that it is in."""

    daemon: Daemon
    fleet: Fleet

    def netdiag(self) -> str:
        return self.daemon.type("netdiag /test:ipsec").splitlines()[1].strip()

    def passes(self) -> set[int]:
        """Which ports datagrams get through to."""
        return {port for port in (WORM, FIRST, ADDED, OTHER) if delivered(HERE4, port)}

    def is_central(self) -> bool:
        return self.netdiag() == "Domain IPSec Policy Active: 'Fleet'"

    @contextmanager
    def fetcher(self) -> Iterator[None]:
        """The fetcher; when the block begins it waits to be asked for a look."""
        words = [
            sys.executable,
            "-m",
            "ipsecd_domain",
            "--socket",
            self.daemon.environment["IPSECD_SOCKET"],
        ]
        with (self.daemon.directory / "fetcher.log").open("a") as log:
            process = subprocess.Popen(words, stderr=log)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def refresh(self, line: str = REFRESH, code: int = 0) -> str:
        """What a command of old says once the fetcher can be asked."""
        said = ""

        def has_been_asked() -> bool:
            nonlocal said
            done = subprocess.run(
                [sys.executable, "-m", "ipsecctl", *line.split()],
                capture_output=True,
                text=True,
                env=self.daemon.environment,
                check=False,
            )
            said = done.stdout + done.stderr
            assert done.returncode == code or "nobody looks" in said, (said, self.daemon.log())
            return "nobody looks" not in said

        assert eventually(has_been_asked, 30), said
        return said


@pytest.fixture(params=site.BACKENDS)
def member(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Member]:
    """A host that trusts a fleet, which has no policy yet, and has a policy of its own."""
    site.needs_isolation()
    with ExitStack() as stack:
        stack.enter_context(site.wire())
        fleet = Fleet.made_in(tmp_path)
        daemon = Daemon(tmp_path, request.param)
        settings = tmp_path / "ipsecd.yaml"
        settings.write_text(f"domain:\n  source: file://{fleet.repository}\n  host: web1\n")
        daemon.options = ("--config", str(settings))
        stack.callback(site.run, "nft", "delete", "table", "inet", "ipsecd", check=False)
        stack.callback(daemon.end)
        daemon.start()
        daemon.type(LOCAL_RULE)
        yield Member(daemon, fleet)


def test_group_policy_as_in_the_article(member: Member) -> None:
    """Override, addition, refresh, restart, a source that is gone, withdrawal, local one back."""
    daemon, fleet = member.daemon, member.fleet
    local = f"Local IPSec Policy Active: '{LOCAL}'"
    everything = {WORM, FIRST, ADDED, OTHER}
    assert member.netdiag() == local
    assert member.passes() == everything - {WORM}
    assert "the root is trusted" in daemon.ctl("domain", "trust", str(fleet.repository))
    with member.fetcher():
        # A domain without a policy changes nothing.
        assert "the domain has no policy for this host" in member.refresh()
        assert member.netdiag() == local
        assert member.passes() == everything - {WORM}

        # "If a domain-based IPSec policy is assigned later, this local policy will be overridden."
        fleet.publish(document(FIRST))
        assert "policy 'Fleet' of the domain is in force" in member.refresh()
        assert member.is_central()
        assert member.passes() == everything - {FIRST}
        assert "'Fleet'" in daemon.type("ipseccmd show gpo")
        report = daemon.type("netdiag /test:ipsec /debug")
        assert f"IP Security Policy Path: file://{fleet.repository}: all/" in report
        assert f"Dest Port : {FIRST}" in report
        assert f"Dest Port : {WORM}" not in report
        decided = daemon.ctl("explain", f"udp {PEER4}:4000 > me:{FIRST}", "--json")
        assert json.loads(decided)["by"]["store"] == "domain"
        assert f"{LOCAL!r} is assigned, without effect" in daemon.ctl("status")

        # New filters in a policy that is assigned already.
        fleet.publish(document(FIRST, ADDED))
        assert "policy 'Fleet' of the domain is in force" in member.refresh("gpupdate /force")
        assert member.passes() == everything - {FIRST, ADDED}

        # A dynamic rule acts beside it; a local change is stored, and without effect.
        daemon.type(f"ipseccmd -f *=0:{OTHER}:UDP -n BLOCK")
        assert member.passes() == {WORM}
        added = daemon.type(
            f'IPSeccmd.exe -w REG -p "{LOCAL}" -r "More" -f *=0:{OTHER}:UDP -n BLOCK'
        )
        assert "without effect until the domain withdraws it" in added
        daemon.type("ipseccmd -u")
        assert member.passes() == {WORM, OTHER}

        # The service is stopped and started.
        daemon.type("net stop policyagent")
        assert member.passes() == everything
        daemon.type("net start policyagent")
        assert member.is_central()
        assert member.passes() == {WORM, OTHER}

    # The computer is started again, and the domain cannot be reached.
    away = fleet.repository.rename(fleet.repository.with_name("away"))
    for number in (signal.SIGTERM, signal.SIGKILL):
        daemon.end(number)
        daemon.start()
        assert member.is_central()
        assert member.passes() == {WORM, OTHER}
    with member.fetcher():
        assert "what was in force stays so" in member.refresh(code=1)
        assert member.is_central()
        assert member.passes() == {WORM, OTHER}
        away.rename(fleet.repository)

        # The domain withdraws its policy: the local one is back, with what was added to it.
        keys = str(fleet.keys)
        daemon.ctl("domain", "withdraw", str(fleet.repository), "--keys", keys)
        member.refresh("gpupdate /target:computer /force /wait:60")
        assert eventually(lambda: member.netdiag() == local)
        assert member.passes() == {FIRST, ADDED}
    daemon.end()
    daemon.start()
    assert member.netdiag() == local
    assert member.passes() == {FIRST, ADDED}


def test_nothing_passes_while_the_policy_changes(member: Member) -> None:
    """What the old policy and the new one block is blocked in every moment between."""
    daemon, fleet = member.daemon, member.fleet
    daemon.ctl("domain", "trust", str(fleet.repository))
    with member.fetcher(), site.listening(site.HOST, HERE4, WORM) as heard:
        with subprocess.Popen(
            site.python(OUTSIDE, FLOOD, HERE4, str(WORM)), stdin=subprocess.PIPE
        ) as flood:
            for ports in ((WORM,), (WORM, FIRST), (WORM, ADDED)):
                fleet.publish(document(*ports))
                member.refresh()
            daemon.end(signal.SIGKILL)
            daemon.start()
            assert flood.poll() is None
            flood.kill()
        assert heard() == 0


def test_a_daemon_that_is_killed_has_the_old_policy_or_the_new(member: Member) -> None:
    """Whenever it dies while a policy is taken; once it is back, the fetcher brings the new one."""
    daemon, fleet = member.daemon, member.fleet
    daemon.ctl("domain", "trust", str(fleet.repository))
    fleet.publish(document(FIRST))
    with member.fetcher():
        member.refresh()
        assert eventually(member.is_central)
        old = FIRST
        for number, delay_s in enumerate((0.05, 0.2, 0.35, 0.6)):
            new = (ADDED, FIRST)[number % 2]
            fleet.publish(document(new))
            with subprocess.Popen(
                [sys.executable, "-m", "ipsecctl", "gpupdate"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=daemon.environment,
            ):
                time.sleep(delay_s)
                daemon.end(signal.SIGKILL)
            passing = member.passes()
            assert {FIRST, ADDED} - passing in ({old}, {new})
            daemon.start()
            assert WORM in member.passes()
            assert eventually(lambda new=new: new not in member.passes(), 40)  # type: ignore[misc]
            old = new


def test_a_boot_enforces_it_without_a_network(member: Member) -> None:
    """The unit of the boot has the policy from the file, before anybody could be asked."""
    daemon, fleet = member.daemon, member.fleet
    daemon.ctl("domain", "trust", str(fleet.repository))
    fleet.publish(document(FIRST))
    with member.fetcher():
        member.refresh()
        assert eventually(member.is_central)
    daemon.end()
    assert member.passes() == {WORM, FIRST, ADDED, OTHER}
    fleet.repository.rename(fleet.repository.with_name("away"))
    words = [sys.executable, "-m", "ipsecd", "--boot", "--backend", daemon.backend]
    for name, place in (("config", "etc"), ("state", "lib"), ("runtime", "run")):
        words += [f"--{name}-dir", str(daemon.directory / place)]
    words += ["--bpffs-dir", str(site.BPFFS), *daemon.options]
    subprocess.run(words, check=True, capture_output=True)
    assert member.passes() == {WORM, ADDED, OTHER}
    daemon.start()
    assert member.is_central()
    assert member.passes() == {WORM, ADDED, OTHER}


FLOOD = """
import socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for _ in range(20):
        sock.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
    time.sleep(0.001)
"""
