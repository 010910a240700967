"""Owns who takes part where packets are measured: each in a network namespace, behind a wire.

All are in force at the same time, so that they can take turns without being loaded again. Must not
know what is sent, nor how it is measured.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from socket import if_nametoindex

from bench import tasks
from bench.classify import OBJECT
from bench.figures import FLOOR, NO_RULES
from bench.opening import MAC, PEER_MAC
from bench.tasks import LINK, Task
from bench.turns import AbsentError
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.programs import Programs
from tests.moments.flood import Counter, in_namespace
from tests.netns import firewalls
from tests.netns.scans import UNPACKED as LAB
from tests.netns.site import BPFFS, HERE4, HERE6, PEER, Daemon, eventually, run

OPEN_PORT = 5000
"""A port that no task blocks, with a socket that costs little."""
MOST_FIREWALLD = 10_000
MOST_UFW_PORTS = 100
MOST_XDP_FILTER = 10_000
TAKEN_OVER_S = 120


@contextmanager
def nothing(task: Task, directory: Path) -> Iterator[None]:
    """No rule at all, which is what the rest of the way costs."""
    del task, directory
    yield


@contextmanager
def floor(task: Task, directory: Path) -> Iterator[None]:
    """A program that drops whatever arrives."""
    del task, directory
    if not OBJECT.exists():
        raise AbsentError(f"{OBJECT} is not compiled")
    programs = Programs(path=OBJECT, more_maps=("ports", "prefixes", "sources"))
    link = libbpf.create_link(
        programs.program("drop_at_once"),
        if_nametoindex(LINK),
        libbpf.BPF_XDP,
        libbpf.XDP_FLAGS_DRV_MODE,
    )
    yield
    del link, programs


def ipsecd(backend: str) -> Callable[[Task, Path], AbstractContextManager[None]]:
    """A daemon that reads the policy when it starts."""

    @contextmanager
    def running(task: Task, directory: Path) -> Iterator[None]:
        with daemon(task, directory, backend):
            yield

    return running


def in_programs(log: str) -> bool:
    """Whether programs enforce: at once, or after nftables did while they were loaded."""
    return f"{LINK}: native" in log or "programs-in-force" in log


@contextmanager
def daemon(task: Task, directory: Path, backend: str) -> Iterator[Daemon]:
    """The same, which can be asked for more."""
    for name in ("etc/policies", "etc/lists"):
        (directory / name).mkdir(parents=True)
    (directory / "etc/policies/P.yaml").write_text(tasks.policy(task))
    (directory / "etc/assigned").symlink_to("policies/P.yaml")
    if task.sources:
        (directory / "etc/lists/listed").write_text(tasks.listed(task))
    running = Daemon(directory, backend)
    # Daemons of other namespaces have directories of their own there too.
    running.options = ("--bpffs-dir", str(BPFFS / directory.name))
    try:
        running.start()
        if backend == "xdp":
            assert eventually(lambda: in_programs(running.log()), TAKEN_OVER_S), running.log()
        yield running
    finally:
        running.end()


def nft(hook: str) -> Callable[[Task, Path], AbstractContextManager[None]]:
    """Rules written by hand, in one of nft's hooks."""

    @contextmanager
    def loaded(task: Task, directory: Path) -> Iterator[None]:
        file = directory / "rules"
        file.write_text(tasks.nft(task, hook))
        run("nft", "-f", str(file))
        yield

    return loaded


@contextmanager
def iptables(task: Task, directory: Path) -> Iterator[None]:
    """iptables, with sets of ipset."""
    for program in ("ipset", "iptables-restore"):
        if shutil.which(program) is None:
            raise AbsentError(f"{program} is not installed")
    file = directory / "sets"
    file.write_text(tasks.ipset(task))
    run("ipset", "restore", "-file", str(file))
    name = "ip6tables-restore" if task.version == 6 else "iptables-restore"
    subprocess.run([name], input=tasks.iptables(task), text=True, check=True)
    yield


def firewalld_settings(task: Task, directory: Path) -> Path:
    """A copy of its settings, in which its default zone has the task."""
    settings = directory / "firewalld"
    shutil.copytree(LAB / "etc/firewalld", settings)
    if task.sources:
        (settings / "ipsets/sources.xml").write_text(tasks.firewalld_ipset(task))
    (settings / "zones/public.xml").write_text(tasks.firewalld_zone(task, OPEN_PORT))
    return settings


@contextmanager
def firewalld(task: Task, directory: Path) -> Iterator[None]:
    """firewalld, whose files have the task."""
    if not (LAB / "usr/sbin/firewalld").exists():
        raise AbsentError("firewalld could not be unpacked")
    if len(task.sources) > MOST_FIREWALLD:
        raise AbsentError(
            f"is tried with {MOST_FIREWALLD:,} entries at most, since it loads more for minutes"
        )
    settings = firewalld_settings(task, directory)
    with firewalls.firewalld(settings, ()):
        yield


@contextmanager
def ufw(task: Task, directory: Path) -> Iterator[None]:
    """ufw, as it is switched on by default, with the task's ports."""
    del directory
    if shutil.which("ufw") is None:
        raise AbsentError("ufw is not installed")
    if task.sources or task.pairs or len(task.ports) > MOST_UFW_PORTS:
        raise AbsentError("has no sets: a rule and a process for each filter")
    with firewalls.ufw(*tasks.ufw(task, OPEN_PORT)):
        yield


@contextmanager
def xdp_filter(task: Task, directory: Path) -> Iterator[None]:
    """xdp-filter with all of its features, as it is loaded by default."""
    del directory
    if shutil.which("xdp-filter") is None:
        raise AbsentError("xdp-filter is not installed")
    if task.pairs:
        raise AbsentError("has no rule for a source and a port")
    if task.has_prefixes:
        raise AbsentError("has no prefixes")
    if len(task.sources) > MOST_XDP_FILTER:
        raise AbsentError(f"its maps hold {MOST_XDP_FILTER:,} addresses")
    run("xdp-filter", "load", "--mode", "native", LINK)
    try:
        for command in tasks.xdp_filter(task):
            run("xdp-filter", *command.split())
        yield
    finally:
        run("xdp-filter", "unload", "--all")


BASE = "nft by hand, prerouting"
CONTESTANTS: dict[str, Callable[[Task, Path], AbstractContextManager[None]]] = {
    "ipsecd, nftables": ipsecd("nftables"),
    "ipsecd, XDP": ipsecd("xdp"),
    BASE: nft("prerouting"),
    "nft by hand, ingress": nft("ingress"),
    "iptables and ipset": iptables,
    "xdp-filter": xdp_filter,
    "ufw": ufw,
    "firewalld": firewalld,
    FLOOR: floor,
    NO_RULES: nothing,
}


@dataclass(frozen=True)
class Place:
    """A namespace in which a contestant is in force."""

    namespace: str
    link: str
    """The end of the wire that the peer has."""
    counter: Counter
    """Counts what has passed to the port that has a socket."""
    taken_s: float = 0.0
    """How long it took until the contestant was in force."""

    def passed(self) -> int:
        """How many datagrams have reached UDP, with a socket or without (proc(5), net/snmp)."""
        with in_namespace(self.namespace):
            net = Path("/proc/thread-self/net")
            version4 = (net / "snmp").read_text(encoding="ascii").splitlines()
            version6 = (net / "snmp6").read_text(encoding="ascii").splitlines()
        names, values = (line.split() for line in version4 if line.startswith("Udp:"))
        without4 = int(values[names.index("NoPorts")])
        without6 = next(int(line.split()[1]) for line in version6 if "Udp6NoPorts" in line)
        return self.counter.value() + without4 + without6

    def received(self) -> int:
        """How many frames the wire has brought."""
        words = ("ip", "-n", self.namespace, "-json", "-stats", "link", "show", LINK)
        (link,) = json.loads(run(*words))
        return int(link["stats64"]["rx"]["packets"])


@contextmanager
def peer() -> Iterator[None]:
    """The namespace that sends."""
    run("ip", "netns", "add", PEER)
    try:
        yield
    finally:
        run("ip", "netns", "delete", PEER)


@contextmanager
def wired(number: int) -> Iterator[Place]:
    """A namespace of its own, behind a wire to the peer."""
    name, end = f"host{number}", f"end{number}"
    run("ip", "netns", "add", name)
    try:
        run(
            "ip",
            "-n",
            name,
            "link",
            "add",
            LINK,
            "type",
            "veth",
            "peer",
            "name",
            end,
            "netns",
            PEER,
        )
        run("ip", "-n", name, "link", "set", LINK, "address", MAC, "addrgenmode", "none", "up")
        run("ip", "-n", PEER, "link", "set", end, "address", PEER_MAC, "addrgenmode", "none", "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        for address, version in ((f"{HERE4}/24", "-4"), (f"{HERE6}/64", "-6")):
            nodad = ("nodad",) if version == "-6" else ()
            run("ip", "-n", name, "address", "add", address, "dev", LINK, *nodad)
            # There is a way back to every source, for those who ask.
            run("ip", "-n", name, version, "route", "add", "default", "dev", LINK)
        with in_namespace(name):
            counter = Counter(OPEN_PORT)
        try:
            yield Place(name, end, counter)
        finally:
            counter.close()
    finally:
        run("ip", "netns", "delete", name)


@contextmanager
def in_force(name: str, number: int, task: Task, directory: Path) -> Iterator[Place]:
    """A contestant is in force for a task; raises `AbsentError`."""
    own = directory / f"host{number}"
    own.mkdir()
    with wired(number) as place:
        with in_namespace(place.namespace):
            manager = CONTESTANTS[name](task, own)
            begun = time.perf_counter()
            manager.__enter__()
            taken_s = time.perf_counter() - begun
        try:
            yield replace(place, taken_s=taken_s)
        finally:
            with in_namespace(place.namespace):
                manager.__exit__(None, None, None)
            shutil.rmtree(own)
