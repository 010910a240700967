"""How long it takes until a whole fleet has what was published, with real servers on this machine.

``hosts 10 20 30``: so many real daemons and fetchers, each pair in a network namespace of its own,
with nginx over TLS and three members of etcd. Times count from when the publisher begins to ring.

``simulated 10000``: so many hosts that only speak as fetchers do (``bench/fleet_simulated.py``),
with one nginx and one member of etcd.

It needs namespaces of its own (``tests/isolated``), and nginx and etcd (``make base-system``).
"""

from __future__ import annotations

import contextlib
import hashlib
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import fleet_simulated
from bench.isolation import must_be_isolated
from ipsecd_domain.doorbell import ring
from tests.domain.certificates import Authority
from tests.domain.fleets import Fleet
from tests.domain.hosts import POLICY, Host, host
from tests.domain.servers import cluster, nginx

FIRST, ROUNDS = 1001, 3
AT_ONCE = 4
"""Hosts that are started at a time."""
WAIT_S = 300.0


def has_taken(made: Host, name: str) -> bool:
    """Whether the fetcher's log says that the daemon has taken a policy, and enforces it."""
    return made.fetcher is not None and f"'{name}' of the domain is in force" in made.fetcher.log


def until_all_have(hosts: list[Host], name: str, since: float) -> list[float]:
    """Seconds until each of them has it, in order."""
    taken: list[float] = []
    left = list(hosts)
    while left:
        now = time.monotonic() - since
        if now > WAIT_S:
            raise TimeoutError(f"{len(left)} of {len(hosts)} hosts do not have {name}")
        waiting = [made for made in left if not has_taken(made, name)]
        taken += [now] * (len(left) - len(waiting))
        left = waiting
        time.sleep(0.02)
    return taken


def memory_of(pids: list[int]) -> float:
    """Mebibytes that processes have for themselves, by their share of what they have together."""
    total_kb = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total_kb += int(line.split()[1])
    return total_kb / 1024


def measure_hosts(number: int) -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o755)
        fleet = Fleet.made_in(directory)
        fleet.publish(POLICY.format(port=FIRST).encode())
        files = Authority(directory).certify("everybody")
        members = stack.enter_context(cluster(directory / "etcd"))
        web = stack.enter_context(nginx(directory / "nginx", fleet.repository, files))
        tls = {"ca": files.ca, "certificate": files.certificate, "key": files.key}
        settings = {"source": web.url, "doorbell": members.url(), **tls}
        hosts = [
            stack.enter_context(host(directory / f"web{n}", f"web{n}", settings, own=True))
            for n in range(number)
        ]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda made: made.start(fleet), hosts))
        until_all_have(hosts, f"Fleet {FIRST}", time.monotonic())
        while not all(made.fetcher and "doorbell-watched" in made.fetcher.log for made in hosts):
            time.sleep(0.1)
        daemons = [pid for made in hosts if (pid := made.daemon.pid)]
        fetchers = [made.fetcher.process.pid for made in hosts if made.fetcher]
        for port in range(FIRST + 1, FIRST + 1 + ROUNDS):
            fleet.publish(POLICY.format(port=port).encode())
            timestamp = (fleet.repository / "metadata/timestamp.json").read_bytes()
            began = time.monotonic()
            ring(members.url(), port, hashlib.sha256(timestamp).hexdigest())
            taken = until_all_have(hosts, f"Fleet {port}", began)
            print(
                f"{number} hosts: half of them after {statistics.median(taken):4.1f} s, "
                f"the last after {taken[-1]:4.1f} s",
                flush=True,
            )
        print(
            f"{number} hosts: a daemon takes {memory_of(daemons) / number:.0f} MiB, "
            f"a fetcher {memory_of(fetchers) / number:.0f} MiB",
            flush=True,
        )


def main(words: list[str]) -> None:
    must_be_isolated()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kind, *numbers = words or ["hosts", "10", "20", "30"]
    for number in map(int, numbers):
        if kind == "hosts":
            measure_hosts(number)
        else:
            fleet_simulated.measure(number)


if __name__ == "__main__":
    main(sys.argv[1:])
