"""Seconds of changes, beside nft and ipset: load, ban, unban, replace in a flood, reload, start.

All are whole commands, as a person or a script gives them. Every contestant is in force in a
namespace of its own, and takes its turn in every round. With ``--quick`` sizes and rounds are
small: the figures then mean nothing, but all of them are there.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import list_files, tasks
from bench.contestants import BASE, CONTESTANTS, OPEN_PORT, Place, in_force, peer
from bench.figures import Figure
from bench.flood import datagram
from bench.isolation import must_be_isolated
from bench.machine import facts
from bench.packets import QUICK, WHOLE, drawn4, of_addresses
from bench.start import add_link
from bench.status import PROGRAM
from bench.stretches import FRAMES, Stretches, raw_socket
from bench.tasks import Task
from bench.turns import AbsentError, in_turn, measure, patience
from tests.moments.flood import in_namespace
from tests.netns.site import PEER

NFT, IPSET, FIREWALLD = BASE, "iptables and ipset", "firewalld"
OURS = ("ipsecd, nftables", "ipsecd, XDP")
WITH_SETS = (*OURS, NFT, IPSET)
BUS = "firewall-cmd needs the D-Bus of a whole system, which no namespace here has"
OTHERS = {FIREWALLD: BUS, "ufw": "has no sets: a rule and a process for each address"}
SIZES, QUICK_SIZES = (10, 1_000, 100_000, 1_000_000), (10, 100)
MIDDLE, QUICK_MIDDLE = 100_000, 100
ROUNDS, LONG_ROUNDS, QUICK_ROUNDS = 15, 3, 2
Ways = dict[str, Callable[[], list_files.Cost]]


@dataclass(frozen=True)
class Contestant:
    """One that is in force, and how it is told something."""

    name: str
    place: Place
    directory: Path
    command: str
    """``ipsecctl``, as it is installed."""

    def tell(self, *words: str) -> float:
        """The seconds of a command in its namespace."""
        environment = {**os.environ, "IPSECD_SOCKET": str(self.directory / "run/ipsecd.sock")}
        with in_namespace(self.place.namespace):
            begun = time.perf_counter()
            done = subprocess.run(words, env=environment, capture_output=True, check=False)
            seconds = time.perf_counter() - begun
        assert done.returncode == 0, (words[:5], done.stdout[:400], done.stderr[:400])
        return seconds

    def ban(self, address: str) -> float:
        return self.tell(*self._words("add", address))

    def unban(self, address: str) -> float:
        return self.tell(*self._words("delete", address))

    def _words(self, what: str, address: str) -> Sequence[str]:
        if self.name in OURS:
            return (self.command, "block" if what == "add" else "unblock", address)
        if self.name == NFT:
            return ("nft", f"{what} element inet hand sources {{ {address} }}")
        return ("ipset", what if what == "add" else "del", "sources", address)

    def replace(self, sources: Sequence[str]) -> float:
        """Have other entries in force, all at once; the file is written before."""
        file = self.directory / "others"
        if self.name in OURS:
            file.write_text("".join(f"{source}\n" for source in sources))
            return self.tell(self.command, "list", "replace", "listed", str(file))
        if self.name == NFT:
            elements = tasks.joined(sources)
            file.write_text(
                f"flush set inet hand sources\nadd element inet hand sources {{ {elements} }}\n"
            )
            return self.tell("nft", "-f", str(file))
        text = tasks.ipset(Task("others", sources=sources)).replace(" sources ", " others ")
        file.write_text(f"{text}swap others sources\ndestroy others\n")
        return self.tell("ipset", "restore", "-file", str(file))

    def reload(self, task: Task) -> float:
        """Have the files of a task read anew, in which a port may have come or gone."""
        if self.name in OURS:
            (self.directory / "etc/policies/P.yaml").write_text(tasks.policy(task))
            return self.tell(self.command, "reload")
        if self.name == NFT:
            file = self.directory / "rules"
            file.write_text("delete table inet hand\n" + tasks.nft(task, "prerouting"))
            return self.tell("nft", "-f", str(file))
        file = self.directory / "rules"
        file.write_text(tasks.iptables(task))
        return self.tell("iptables-restore", str(file))


@contextmanager
def all_in_force(task: Task, absent: dict[str, str]) -> Iterator[list[Contestant]]:
    """Those that have sets, each in its namespace, for one task; notes who is absent."""
    with TemporaryDirectory() as name, peer(), ExitStack() as stack:
        command = Path(name) / "ipsecctl"
        command.write_text(PROGRAM)
        command.chmod(0o755)
        contestants = []
        for number, each in enumerate(WITH_SETS):
            try:
                with patience():
                    place = stack.enter_context(in_force(each, number, task, Path(name)))
            except AbsentError as reason:
                absent[each] = str(reason)
            else:
                directory = Path(name) / f"host{number}"
                contestants.append(Contestant(each, place, directory, str(command)))
        yield contestants


def figure(
    table: str,
    case: str,
    unit: str,
    rounds: dict[str, list[float]],
    absent: dict[str, str],
    size: int | None = None,
) -> Figure:
    """A figure of this part, in which those take no part that have no such command."""
    return Figure("changes", table, case, unit, NFT, rounds, OTHERS | absent, size)


def loads(sizes: Sequence[int], rounds: int) -> Iterator[Figure]:
    """From the file of a list until it is in force."""
    add_link()
    for size in sizes:
        chance = random.Random(size)
        drawn = sorted({int(drawn4(chance)) for _ in range(size)})
        lines = [str(IPv4Address(each)) for each in drawn]
        chance.shuffle(lines)
        with TemporaryDirectory() as name:
            path = Path(name)
            ways: Ways = {
                "ipsecd, nftables": partial(list_files.ours, "nftables", lines, path),
                "ipsecd, XDP": partial(list_files.ours, "xdp", lines, path),
                NFT: partial(list_files.nft, lines, path, prefixes=False),
                IPSET: partial(list_files.ipset, lines, path, prefixes=False),
            }

            def loaded(each: str, ways: Ways = ways) -> float:
                return ways[each]().seconds * 1e3

            absent: dict[str, str] = {}
            taken = in_turn({each: partial(loaded, each) for each in ways}, rounds, absent)
        what = f"{size:,} addresses"
        yield figure("A list from its file to in force", what, "ms", taken, absent, size)


def bans(sizes: Sequence[int], rounds: int) -> Iterator[Figure]:
    """A ban and its end, beside so many addresses that are blocked already."""
    for size in sizes:
        chance = random.Random(size)
        listed = sorted({int(drawn4(chance)) for _ in range(size)})
        task = Task("bans", sources=[str(IPv4Address(each)) for each in listed])
        absent: dict[str, str] = {}
        with all_in_force(task, absent) as contestants:
            fresh = (f"198.51.{n >> 8}.{n & 255}" for n in range(1 << 16))
            banned: dict[str, list[str]] = {each.name: [] for each in contestants}

            def ban(each: Contestant, left: Iterator[str], done: dict[str, list[str]]) -> float:
                address = next(left)
                done[each.name].append(address)
                return each.ban(address) * 1e3

            def unban(each: Contestant, done: dict[str, list[str]]) -> float:
                return each.unban(done[each.name].pop()) * 1e3

            bans_of = {e.name: partial(ban, e, fresh, banned) for e in contestants}
            came = in_turn(bans_of, rounds, absent)
            ends_of = {e.name: partial(unban, e, banned) for e in contestants if e.name in came}
            missing = dict(absent)
            went = in_turn(ends_of, min(map(len, came.values())), missing)
        yield figure("A ban, the whole command", f"beside {size:,}", "ms", came, absent, size)
        yield figure("Its end, the whole command", f"beside {size:,}", "ms", went, missing, size)


@contextmanager
def flooded(place: Place, frames: Stretches) -> Iterator[None]:
    """Frames come in to a place all the time."""
    over = threading.Event()

    def send() -> None:
        with in_namespace(PEER), raw_socket(place.link) as sock:
            while not over.is_set():
                for number in range(frames.count):
                    frames.send(sock, number)
                # The commands have a processor each, as they would if a link brought the flood.
                time.sleep(0.001)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def replacements(size: int, rounds: int) -> Iterator[Figure]:
    """All entries but one are replaced while packets of that one come in."""
    chance = random.Random(size)
    stays = "198.51.100.1"
    lists = [
        [stays, *(str(a) for a in sorted({drawn4(chance) for _ in range(size)}))] for _ in range(2)
    ]
    frames = Stretches([datagram(IPv4Address(stays), 4000, OPEN_PORT)] * FRAMES)
    passed: dict[str, list[float]] = {name: [] for name in WITH_SETS}
    turns = dict.fromkeys(WITH_SETS, 0)
    absent: dict[str, str] = {}
    with all_in_force(Task("replaced", sources=lists[0]), absent) as contestants:

        def replaced(each: Contestant) -> float:
            turns[each.name] += 1
            before = each.place.passed()
            with flooded(each.place, frames):
                seconds = each.replace(lists[turns[each.name] % 2])
            passed[each.name].append(each.place.passed() - before)
            return seconds * 1e3

        ways = {each.name: partial(replaced, each) for each in contestants}
        taken = in_turn(ways, rounds, absent)
    what = f"all of {size:,} addresses"
    yield figure("A list replaced in a flood", what, "ms", taken, absent)
    leaked = {name: passed[name] for name in taken}
    table = "Packets of what stays blocked that pass meanwhile"
    yield figure(table, what, "packets", leaked, absent)


def reloads(size: int, rounds: int) -> Iterator[Figure]:
    """One rule of the files has changed, beside a list that has not."""
    flood = of_addresses(QUICK if size < WHOLE.addresses else WHOLE, 4)
    sources = flood.task.sources[:size]
    states = [Task("one", sources=sources), Task("two", sources=sources, ports=[1434])]
    turns = dict.fromkeys(WITH_SETS, 0)
    absent: dict[str, str] = {}
    with all_in_force(states[0], absent) as contestants:

        def reloaded(each: Contestant) -> float:
            turns[each.name] += 1
            return each.reload(states[turns[each.name] % 2]) * 1e3

        ways = {each.name: partial(reloaded, each) for each in contestants}
        taken = in_turn(ways, rounds, absent)
    what = f"one rule, beside {size:,} addresses"
    yield figure("Changed files read anew", what, "ms", taken, absent)


def starts(sizes: Sequence[int], rounds: int) -> Iterator[Figure]:
    """From nothing to enforced, all processes included."""
    for size in sizes:
        chance = random.Random(size)
        listed = sorted({int(drawn4(chance)) for _ in range(size)})
        task = Task("start", sources=[str(IPv4Address(each)) for each in listed])
        absent: dict[str, str] = {"ufw": OTHERS["ufw"]}

        def started(name: str, task: Task = task) -> float:
            with (
                TemporaryDirectory() as directory,
                peer(),
                in_force(name, 0, task, Path(directory)) as place,
            ):
                return place.taken_s * 1e3

        names = (*WITH_SETS, FIREWALLD)
        values = in_turn({name: partial(started, name) for name in names}, rounds, absent)
        yield Figure(
            "changes",
            "Start until enforced",
            f"{size:,} addresses",
            "ms",
            NFT,
            values,
            absent,
            size,
        )


def main() -> None:
    must_be_isolated()
    quick = "--quick" in sys.argv
    sizes, middle = (QUICK_SIZES, QUICK_MIDDLE) if quick else (SIZES, MIDDLE)
    few = QUICK_ROUNDS if quick else LONG_ROUNDS
    assert set(WITH_SETS) <= set(CONTESTANTS)
    steps = (
        partial(bans, sizes, QUICK_ROUNDS if quick else ROUNDS),
        partial(replacements, middle, few),
        partial(reloads, middle, few),
        partial(starts, (10, middle // 10, middle), few),
        partial(loads, sizes, few),
    )
    measure("changes", steps, facts)


if __name__ == "__main__":
    main()
