"""Owns Debian's programs that find attackers, unpacked: fail2ban, CrowdSec's bouncer, sshguard."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from ipsecctl.client import Client
from tests.netns.site import (
    BACKENDS,
    PATIENCE,
    Daemon,
    dynamic_entries,
    eventually,
    needs_isolation,
)

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build/finders"
"""Packages of Debian, not installed: that would start them."""
CROWDSEC = ROOT / "build/crowdsec"
"""CrowdSec itself, which the other tests do not need."""
MODULES = os.pathsep.join(
    map(
        str,
        (
            UNPACKED / "usr/lib/python3/dist-packages",
            *(ROOT / name for name in ("daemon", "ctl", "integrations")),
        ),
    )
)
"""What an installation has in one directory of Python modules."""
with_both_backends = pytest.mark.parametrize("daemon", BACKENDS, indirect=True)
"""Runs a test with a daemon that enforces with nftables, and with one that does so with XDP."""
MOST_STARTS = 5
"""How often the bouncer is started before its end at each start counts as a failure."""
FOREIGN = "kept by a person"
"""A rule that none of the integrations may touch."""


def program(path: str, unpacked: Path = UNPACKED) -> Path:
    """The path of an unpacked program; the test is skipped without it, and fails in CI."""
    needs_isolation()
    if not (unpacked / path).exists():
        reason = f"{path} is not here: make base-system"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return unpacked / path


def environment(daemon: Daemon) -> dict[str, str]:
    """The environment of a program on a host with everything installed."""
    return {**daemon.environment, "PYTHONPATH": MODULES, "PYTHONDONTWRITEBYTECODE": "1"}


def rules(daemon: Daemon, prefix: str) -> dict[str, tuple[list[str], float | None]]:
    """The dynamic rules with a prefix: by their names without it, filters and seconds left."""
    client = Client(daemon.environment["IPSECD_SOCKET"])
    try:
        listed = client.call("ListDynamic")["rules"]
    finally:
        client.close()
    return {
        rule["name"].removeprefix(prefix): (rule["filters"], rule["remaining_s"])
        for rule in listed
        if rule["name"].startswith(prefix)
    }


def come_to(daemon: Daemon, prefix: str, names: set[str], seconds: float = 20) -> bool:
    """Whether the rules with a prefix come to be these, and no others."""
    return eventually(lambda: set(rules(daemon, prefix)) == names, seconds)


def keep_foreign(daemon: Daemon) -> None:
    """Make a rule that is nobody's but a person's."""
    daemon.ctl("block", "udp/9", "--name", FOREIGN)


def has_only_foreign(daemon: Daemon) -> bool:
    """Whether the rule that a person made is all that is in force, in the kernel too."""
    return set(rules(daemon, "")) == {FOREIGN} and len(dynamic_entries(daemon)) == 2


class Running:
    """A process of ours, with what it says."""

    def __init__(self, words: list[str | Path], log: Path, env: dict[str, str]) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=output, stderr=output, env=env
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def say(self, text: str) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def ended(self) -> bool:
        return self.process.poll() is not None

    def children(self) -> list[int]:
        """The processes that it has started and that have not ended."""
        listed = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, check=False
        )
        return list(map(int, listed.stdout.split()))

    def has_child_or_ended(self) -> bool:
        return bool(self.children()) or self.ended()

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the process with a signal, and wait for its end."""
        assert self.process.stdin is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30 * PATIENCE)
        self.process.stdin.close()

    def close_input(self) -> None:
        """End its standard input, and wait for its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30 * PATIENCE)


JAIL = {
    "enabled": "true",
    "backend": "polling",
    "filter": "",
    "failregex": "^ failed login from <ADDR>$",
    "datepattern": "^{EPOCH}",
    "usedns": "no",
    "ignoreself": "false",
    "maxretry": "1",
    "bantime": "1h",
    "banaction": "ipsecd-block.py",
}


class Fail2ban:
    """fail2ban's own server and client, with its configuration as Debian ships it and a jail."""

    def __init__(self, directory: Path, daemon: Daemon) -> None:
        directory.mkdir()
        self._directory, self._daemon = directory, daemon
        self._server = program("usr/bin/fail2ban-server")
        self._client = program("usr/bin/fail2ban-client")
        self.configuration = directory / "etc"
        shutil.copytree(UNPACKED / "etc/fail2ban", self.configuration)
        (self.configuration / "jail.d/defaults-debian.conf").unlink()
        action = ROOT / "integrations/fail2ban/action.d/ipsecd-block.py"
        shutil.copy(action, self.configuration / "action.d")
        self.attacks = directory / "attacks.log"
        self.attacks.touch()
        self.running: Running | None = None

    def jail(self, name: str = "lab", **options: str) -> None:
        """Write the configuration of a jail, in the place of any of its name."""
        settings = {**JAIL, "logpath": str(self.attacks), **options}
        lines = [f"[{name}]", *(f"{key} = {value}" for key, value in settings.items())]
        (self.configuration / f"jail.d/{name}.local").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Start the server, and return when it answers and all jails have started."""
        words: list[str | Path] = [sys.executable, self._server, *self._options(), "-xf", "start"]
        self.running = Running(words, self._directory / "log", environment(self._daemon))
        running, before = self.running, self.log().count("Server ready")
        assert eventually(
            lambda: running.ended() or self.log().count("Server ready") > before, 30
        ), self.log()
        assert not running.ended(), self.log()

    def start_refused(self) -> None:
        """Start the server, which does not take its configuration, and wait for that."""
        words: list[str | Path] = [sys.executable, self._server, *self._options(), "-xf", "start"]
        self.running = Running(words, self._directory / "log", environment(self._daemon))
        try:
            assert eventually(lambda: "ERROR" in self.log(), 30), self.log()
        finally:
            self.end(signal.SIGKILL)

    def client(self, *words: str, check: bool = True) -> str:
        """What fail2ban-client prints."""
        done = subprocess.run(
            [sys.executable, self._client, *self._options(), *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment(self._daemon),
        )
        assert done.returncode == 0 or not check, (done.stdout, done.stderr, self.log())
        return done.stdout

    def attack(self, *addresses: str) -> None:
        """Have attacks in the log that the jail reads."""
        with self.attacks.open("a") as log:
            log.writelines(f"{time.time():.0f} failed login from {a}\n" for a in addresses)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server with a signal."""
        if self.running:
            self.running.end(number)
            self.running = None

    def log(self) -> str:
        return (self._directory / "log").read_text()

    def _options(self) -> list[str]:
        place = self._directory
        words = ["-c", str(self.configuration), "-s", str(place / "sock"), "-p", str(place / "pid")]
        return [*words, "--logtarget", "STDOUT", "--loglevel", "INFO"]


@contextmanager
def fail2ban(directory: Path, daemon: Daemon, **options: str) -> Iterator[Fail2ban]:
    """A server with one jail, ``lab``, and its database in the directory."""
    server = Fail2ban(directory, daemon)
    database = f"[DEFAULT]\ndbfile = {directory}/database.sqlite3\n"
    (server.configuration / "fail2ban.local").write_text(database)
    server.jail(**options)
    server.start()
    try:
        yield server
    finally:
        server.end(signal.SIGKILL)


def script(directory: Path, module: str) -> Path:
    """A program of ours, as a package installs it."""
    path = directory / module
    path.write_text(
        f"#!{sys.executable} -I\nimport sys\nfrom ipsecd_bans.{module} import main\n"
        "sys.exit(main())\n"
    )
    path.chmod(0o755)
    return path


BOUNCER = """
bin_path: {program}
feed_via_stdin: true
total_retries: -1
scenarios_containing: []
scenarios_not_containing: []
origins: []
piddir: {directory}
update_frequency: 100ms
cache_retention_duration: 1s
daemonize: false
log_mode: stdout
log_level: info
api_url: {url}
api_key: {key}
prometheus:
  enabled: false
"""


def bouncer(directory: Path, daemon: Daemon, url: str, key: str) -> Running:
    """CrowdSec's custom bouncer with our program, which it feeds with decisions."""
    directory.mkdir(exist_ok=True)
    return fed_program(directory, daemon, url, key, script(directory, "crowdsec"))


def fed_program(directory: Path, daemon: Daemon, url: str, key: str, fed: Path) -> Running:
    """CrowdSec's custom bouncer with a program, which it feeds with decisions.

    The bouncer may panic at its start: on a busy machine it takes decisions before it has started
    the program. It is started again then, as its unit does with our drop-in (``Restart=``).
    """
    configuration = directory / "bouncer.yaml"
    configuration.write_text(BOUNCER.format(program=fed, directory=directory, url=url, key=key))
    words: list[str | Path] = [program("usr/bin/crowdsec-custom-bouncer"), "-c", configuration]
    for _ in range(MOST_STARTS):
        running = Running(words, directory / "log", environment(daemon))
        assert eventually(running.has_child_or_ended, 30), running.said()
        if not running.ended():
            return running
        running.end()
    raise AssertionError(running.said())


def sshguard(directory: Path, daemon: Daemon, block_s: int, blacklist: Path) -> Running:
    """The parser and the blocker of sshguard with our backend, put together as it does it."""
    directory.mkdir(exist_ok=True)
    parser, blocker = (
        program(f"usr/libexec/sshguard/sshg-{name}") for name in ("parser", "blocker")
    )
    options = f"-a 30 -p {block_s} -s 1800 -b 100:{blacklist}"
    pipe = f"{parser} | {blocker} {options} | {script(directory, 'sshguard')}"
    return Running(["/bin/sh", "-c", pipe], directory / "log", environment(daemon))
