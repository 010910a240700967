"""Owns CrowdSec itself, unpacked: its local API with a database of its own, and ``cscli``."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.integrations.finders import CROWDSEC, Running, environment, program
from tests.netns.site import Daemon, eventually

URL = "http://127.0.0.1:8080/"
"""As Debian configures it; each process of tests has a network namespace of its own."""
PATIENCE_S = 30
LAST_WORDS = 2000
"""How much of its log is of interest: it has a line for each decision."""


class Engine:
    """The local API, with nothing that looks for attackers: decisions come from ``cscli``."""

    def __init__(self, directory: Path, daemon: Daemon) -> None:
        self._directory, self._daemon = directory, daemon
        self._server = program("usr/bin/crowdsec", CROWDSEC)
        self._cscli = program("usr/bin/cscli", CROWDSEC)
        self._configuration = directory / "config.yaml"
        self.process: Running | None = None
        self._key = ""
        self._configure()
        self.cscli("machines", "add", "here", "--password", "secret", "-f", self._credentials)

    @property
    def _credentials(self) -> str:
        return str(self._directory / "local_api_credentials.yaml")

    def _configure(self) -> None:
        """Take Debian's configuration, with other paths and without the central API and the hub."""
        ours = self._directory
        shutil.copytree(CROWDSEC / "etc/crowdsec", ours)
        for name in ("data", "hub"):
            (ours / name).mkdir()
        (ours / "hub/.index.json").write_text("{}")
        (ours / "console.yaml").write_text("share_manual_decisions: false\n")
        Path(self._credentials).touch()
        text = self._configuration.read_text()
        for theirs, path in (
            ("/etc/crowdsec/", f"{ours}/"),
            ("/var/lib/crowdsec/", f"{ours}/"),
            ("/var/log/", f"{ours}/"),
            ("/usr/lib/crowdsec/", f"{CROWDSEC}/usr/lib/crowdsec/"),
        ):
            text = text.replace(theirs, path)
        document = yaml.safe_load(text)
        document["common"] |= {"daemonize": False, "log_media": "stdout"}
        # Otherwise bouncers that ask and decisions that come lock each other out.
        document["db_config"] |= {"use_wal": True, "max_open_conns": 1}
        del document["api"]["server"]["online_client"]
        document["prometheus"]["enabled"] = False
        self._configuration.write_text(yaml.safe_dump(document))

    def cscli(self, *words: str) -> str:
        """What ``cscli`` prints."""
        done = subprocess.run(
            [self._cscli, "-c", self._configuration, *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr, self.log())
        return done.stdout

    def key(self, name: str) -> str:
        """A key of the API for a new bouncer."""
        return self.cscli("bouncers", "add", name, "-o", "raw").strip()

    def start(self) -> None:
        """Start the API, and return when it answers."""
        words: list[str | Path] = [self._server, "-c", self._configuration, "-no-cs"]
        self.process = Running(words, self._directory / "log", environment(self._daemon))
        assert eventually(self._answers, PATIENCE_S), self.log()

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the API with a signal."""
        if self.process:
            self.process.end(number)
            self.process = None

    def log(self) -> str:
        path = self._directory / "log"
        return path.read_text(errors="replace")[-LAST_WORDS:] if path.exists() else ""

    def ban(self, value: str, *words: str) -> None:
        """Decide about an address or a range by hand: for four hours, if words do not say else."""
        kind = "--range" if "/" in value else "--ip"
        self.cscli("decisions", "add", kind, value, *words)

    def bring_in(self, addresses: Iterable[str], duration: str = "4h") -> None:
        """Decide about many addresses at once, as ``cscli decisions import`` does."""
        path = self._directory / "many.csv"
        with path.open("w") as file:
            writer = csv.writer(file)
            writer.writerow(("value", "duration", "scope", "reason", "type"))
            writer.writerows((each, duration, "ip", "many", "ban") for each in addresses)
        self.cscli("decisions", "import", "-i", str(path))

    def delete(self, *words: str) -> None:
        """Take decisions back."""
        self.cscli("decisions", "delete", *words)

    def in_force(self) -> dict[str, int]:
        """What a bouncer is told that starts now: the numbers of decisions by their values."""
        self._key = self._key or self.key("looks")
        told = _ask("v1/decisions/stream?startup=true", self._key)["new"] or ()
        return {each["value"]: each["id"] for each in told}

    def _answers(self) -> bool:
        assert self.process is not None
        assert not self.process.ended(), self.log()
        try:
            _ask("v1/decisions", "nobody")
        except urllib.error.HTTPError:
            return True
        except OSError:
            pass
        return False


def _ask(path: str, key: str) -> Any:
    request = urllib.request.Request(URL + path, headers={"X-Api-Key": key})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


@contextmanager
def engine(directory: Path, daemon: Daemon) -> Iterator[Engine]:
    """The local API, which has decided nothing yet."""
    made = Engine(directory, daemon)
    made.start()
    try:
        yield made
    finally:
        made.end(signal.SIGKILL)
