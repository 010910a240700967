"""Hosts of a fleet: real daemons in network namespaces of their own, with real fetchers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.domain.fetching import Fetching
from tests.domain.fleets import Fleet
from tests.netns.site import Daemon, inside, needs_isolation, own_name, run

POLICY = """policy: Fleet {port}
rules:
  - rule: R
    action: block
    filters: ["*=0:{port}:UDP"]
"""
ADDRESS = "192.0.2.10"


class Host:
    """A daemon, perhaps in a network namespace of its own, and the fetcher beside it."""

    def __init__(
        self,
        directory: Path,
        name: str,
        settings: dict[str, str],
        *,
        own: bool,
        plug: Callable[[str], str] | None = None,
    ) -> None:
        """With `plug` its namespace has a network of its own too, and the fetcher is there."""
        needs_isolation()
        directory.mkdir()
        self.directory = directory
        self._name = own_name(name) if own else ""
        if own:
            run("ip", "netns", "add", self._name)
            run("ip", "-n", self._name, "link", "set", "lo", "up")
        self.address = plug(self._name) if plug else ""
        where = ("-n", self._name) if own else ()
        run("ip", *where, "address", "replace", f"{ADDRESS}/32", "dev", "lo")
        self.daemon = Daemon(directory, where=inside(self._name) if own else ())
        self.settings = directory / "ipsecd.yaml"
        self.daemon.options = ("--config", str(self.settings))
        domain = {"host": name, **settings}
        self.settings.write_text(json.dumps({"domain": domain}))
        self.socket = Path(self.daemon.environment["IPSECD_SOCKET"])
        self.fetcher: Fetching | None = None

    def start(self, fleet: Fleet) -> None:
        self.daemon.start()
        self.daemon.ctl("domain", "trust", str(fleet.repository))
        self.fetch()

    def fetch(self) -> None:
        where = inside(self._name) if self.address else ()
        self.fetcher = Fetching(self.socket, self.directory / "fetcher.log", {}, where)

    def blocks(self, port: int) -> bool:
        words = ("explain", "--json", f"udp 203.0.113.7:9 > me:{port}")
        return bool(json.loads(self.daemon.ctl(*words))["decision"] == "block")

    def close(self) -> None:
        if self.fetcher and self.fetcher.process.poll() is None:
            self.fetcher.kill()
        self.daemon.end()
        if self._name:
            run("ip", "netns", "del", self._name)
        else:
            run("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo", check=False)


@contextlib.contextmanager
def host(
    directory: Path,
    name: str,
    settings: dict[str, str],
    *,
    own: bool = False,
    plug: Callable[[str], str] | None = None,
) -> Iterator[Host]:
    made = Host(directory, name, settings, own=own, plug=plug)
    try:
        yield made
    finally:
        made.close()


def publish(fleet: Fleet, port: int) -> None:
    """In the place of what was published before."""
    fleet.publish(POLICY.format(port=port).encode())
