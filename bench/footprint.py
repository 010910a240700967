"""What runs all the time, and what a start takes of a processor, beside others that are daemons.

Memory is the proportional set size of all processes (smaps_rollup). firewalld runs as its own
classes without D-Bus, so that with it and its bus it takes more; CrowdSec's processes are its local
API and its bouncer for nftables; fail2ban has one jail. With ``--quick`` sizes are small.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import tasks
from bench.contestants import MOST_FIREWALLD, daemon, firewalld_settings
from bench.decisions import CONFIGURATION, FIREWALL_BOUNCER, family
from bench.figures import Figure
from bench.isolation import must_be_isolated
from bench.machine import facts, value_of
from bench.start import processor_s
from bench.tasks import Task
from bench.turns import AbsentError, in_turn, measure
from tests.containers.engines import delete_foreign_tables
from tests.integrations.engine import URL, engine
from tests.integrations.finders import UNPACKED, Fail2ban, Running, environment
from tests.netns import firewalls
from tests.netns.scans import UNPACKED as LAB
from tests.netns.site import Daemon, run, wire

SIZES, QUICK_SIZES = (0, 10_000, 100_000, 1_000_000), (0, 100)
ROUNDS, QUICK_ROUNDS = 3, 1
BASE, BY_HAND = "firewalld", "nft by hand"
SETTLED_S = 1.0


def pss_mib(pids: Sequence[int]) -> float:
    """The proportional set size of processes."""
    kib = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        kib += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def ended_s() -> float:
    """The seconds of a processor of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def ours(backend: str, size: int, directory: Path) -> Iterator[list[int]]:
    with wire(), daemon(of(size), directory / "host", backend) as running:
        assert running.pid
        yield family(running.pid)


@contextmanager
def firewalld(size: int, directory: Path) -> Iterator[list[int]]:
    if size > MOST_FIREWALLD:
        raise AbsentError(
            f"is tried with {MOST_FIREWALLD:,} entries at most, since it loads more for minutes"
        )
    settings = firewalld_settings(of(size), directory)
    code = firewalls.FIREWALLD + "\nprint('ready', flush=True)\nsys.stdin.read()\n"
    words = ["/usr/bin/python3", "-I", "-c", code, str(LAB), str(settings)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            while process.stdout.readline() != "ready\n":
                assert process.poll() is None
            yield family(process.pid)
        finally:
            process.kill()
            delete_foreign_tables()


@contextmanager
def fail2ban(size: int, directory: Path) -> Iterator[list[int]]:
    if size:
        raise AbsentError("bans them one by one, with a process or two for each")
    if not (UNPACKED / ".done").exists():
        raise AbsentError("could not be unpacked")
    server = Fail2ban(directory / "fail2ban", Daemon(directory))
    server.jail(banaction="nftables-multiport", action="%(action_)s")
    server.start()
    try:
        assert server.running
        yield family(server.running.process.pid)
    finally:
        server.end()


@contextmanager
def crowdsec(size: int, directory: Path) -> Iterator[list[int]]:
    if size:
        raise AbsentError("is measured with 10,000 decisions at most, which take it a second")
    binary = FIREWALL_BOUNCER / "usr/bin/crowdsec-firewall-bouncer"
    if not binary.exists():
        raise AbsentError("its bouncer could not be unpacked")
    host = Daemon(directory)
    with engine(directory / "engine", host) as decides:
        file = directory / "bouncer.yaml"
        key = decides.key("bench")
        file.write_text(CONFIGURATION.format(directory=directory, url=URL, key=key))
        words: list[str | Path] = [binary, "-c", file]
        with Running(words, directory / "log", environment(host)) as bouncer:
            time.sleep(SETTLED_S)
            assert not bouncer.ended(), bouncer.said()
            assert decides.process
            yield [*family(decides.process.process.pid), *family(bouncer.process.pid)]
    delete_foreign_tables()


@contextmanager
def nft(size: int, directory: Path) -> Iterator[list[int]]:
    """Rules by hand, which no process is needed for once they are loaded."""
    file = directory / "rules"
    file.write_text(tasks.nft(of(size), "prerouting"))
    run("nft", "-f", str(file))
    try:
        yield []
    finally:
        delete_foreign_tables()


def of(size: int) -> Task:
    """A policy with a rule and a list of so many addresses."""
    sources = [str(IPv4Address((10 << 24) + 257 * n)) for n in range(size)]
    return Task("held", ports=[1434], sources=sources)


CONTESTANTS: dict[str, Callable[[int, Path], AbstractContextManager[list[int]]]] = {
    "ipsecd, nftables": partial(ours, "nftables"),
    "ipsecd, XDP": partial(ours, "xdp"),
    BASE: firewalld,
    "fail2ban": fail2ban,
    "CrowdSec": crowdsec,
    BY_HAND: nft,
}


def at(size: int, rounds: int) -> Iterator[Figure]:
    """What each has and has taken, when so many addresses are in force."""
    absent: dict[str, str] = {}
    spent: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    numbers: dict[str, list[float]] = {name: [] for name in CONTESTANTS}

    def held(name: str) -> float:
        before = ended_s()
        with (
            TemporaryDirectory() as directory,
            CONTESTANTS[name](size, Path(directory)) as pids,
        ):
            spent[name].append(ended_s() - before + sum(map(processor_s, pids)))
            numbers[name].append(len(pids))
            time.sleep(SETTLED_S)
            return pss_mib(pids)

    memory = in_turn({name: partial(held, name) for name in CONTESTANTS}, rounds, absent)
    case = f"{size:,} addresses" if size else "idle, one rule"
    for table, unit, values in (
        ("Memory", "MiB", memory),
        ("Time of a processor from start to enforced", "s", spent),
        ("Processes", "processes", numbers),
    ):
        present = {name: values[name] for name in memory}
        base = BASE if BASE in present else BY_HAND
        yield Figure("footprint", table, case, unit, base, present, dict(absent))


def installed() -> Iterator[Figure]:
    """What packages take on disk, without what they need of others, as the packages say."""
    packages = list(Path("build/deb").glob("ipsecd_*.deb"))
    sizes: dict[str, list[float]] = {}
    if packages:
        sizes["ipsecd"] = [int(run("dpkg-deb", "-f", str(packages[0]), "Installed-Size")) / 1024]
    for name in ("firewalld", "fail2ban", "crowdsec", "ufw"):
        lines = run("apt-cache", "show", "--no-all-versions", name).splitlines()
        sizes[name] = [int(value_of(lines, "Installed-Size")) / 1024]
    yield Figure("footprint", "Installed size of the package", "package", "MiB", BASE, sizes)


def main() -> None:
    must_be_isolated()
    quick = "--quick" in sys.argv
    sizes, rounds = (QUICK_SIZES, QUICK_ROUNDS) if quick else (SIZES, ROUNDS)
    measure("footprint", [*(partial(at, size, rounds) for size in sizes), installed], facts)


if __name__ == "__main__":
    main()
