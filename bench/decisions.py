"""How fast CrowdSec's decisions are in force with ipsecd, beside CrowdSec's own bouncer.

Both bouncers are Debian's, and CrowdSec's own local API tells them all decisions when they start:
to one that runs already it does not tell all of many. A relay between them notes when the answer
goes out, so what the API takes is not counted. Our program is also measured alone, with lines that
the bouncer has written. Run it with ``make bench``.
"""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.figures import Figure, keep
from bench.isolation import must_be_isolated
from bench.machine import facts
from bench.timing import host_address
from tests.integrations.engine import URL, Engine, engine
from tests.integrations.finders import ROOT, Running, environment, fed_program, program, script
from tests.netns.site import Daemon, dynamic_entries, eventually, run

FIREWALL_BOUNCER = ROOT / "build/firewall-bouncer"
NUMBERS = (2000, 10_000)
"""Decisions that there are at a time; more are brought in between."""
ROUNDS = 3
QUIET_S = 1.0
"""After so long without a change of a set, it is looked whether all are in force."""
LONGEST_S = 120
NETLINK_NETFILTER = 12
SETS_CHANGED = 1 << 6
"""The multicast group of nftables, number 7, as a mask of groups (linux/netfilter/nfnetlink.h)."""
CHANGES = {0x0A0B, 0x0A0C, 0x0A0E}
"""The types of messages about deleted sets, and new and deleted elements of them."""
CONFIGURATION = """
mode: nftables
pid_dir: {directory}
update_frequency: 100ms
daemonize: false
log_mode: stdout
log_level: info
api_url: {url}
api_key: {key}
disable_ipv6: false
deny_action: DROP
supported_decisions_types: [ban]
blacklists_ipv4: crowdsec-blacklists
blacklists_ipv6: crowdsec6-blacklists
nftables:
  ipv4: {{enabled: true, set-only: false, table: crowdsec, chain: crowdsec-chain}}
  ipv6: {{enabled: true, set-only: false, table: crowdsec6, chain: crowdsec6-chain}}
prometheus: {{enabled: false}}
"""
"""As Debian configures it, but for its paths, how often it asks, and its own figures."""


@dataclass(frozen=True)
class Taken:
    """What it took until all was in force."""

    wall_s: float
    cpu_s: float


class Kernel:
    """When sets of nftables changed last, as the kernel tells it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        # SO_RCVBUFFORCE: a message for each element, and not one may be missed.
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)
        self._socket.bind((0, SETS_CHANGED))

    def seconds_of_last_change(self, complete: Callable[[], bool]) -> float:
        """The moment of the last change, once everything is in force."""
        changed_s = 0.0
        end_s = time.perf_counter() + LONGEST_S
        while time.perf_counter() < end_s:
            if select.select([self._socket], [], [], QUIET_S)[0]:
                if CHANGES.intersection(types_in(self._socket.recv(1 << 20))):
                    changed_s = time.perf_counter()
            elif changed_s and complete():
                return changed_s
        raise TimeoutError(f"after {LONGEST_S} s not all is in force; last change {changed_s}")

    def close(self) -> None:
        self._socket.close()


def types_in(messages: bytes) -> Iterator[int]:
    """The types of the messages that came together (netlink(7))."""
    at = 0
    while at < len(messages):
        length, kind = struct.unpack_from("=IH", messages, at)
        yield kind
        at += length + 3 & ~3


def cpu_seconds(pid: int) -> float:
    """What a process has run so far, ended threads included, in the kernel too.

    Its clock is made as the macros of linux/posix-timers.h make it.
    """
    return time.clock_gettime((~pid << 3) | 2)


def family(pid: int) -> list[int]:
    """A process and what it has started."""
    texts = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [pid, *(each for text in texts for word in text.split() for each in family(int(word)))]


class Relay:
    """Stands between the API and a bouncer, and knows when that was told so many decisions."""

    def __init__(self, number: int, spent: Callable[[], float]) -> None:
        """`spent` tells the CPU seconds of who is told."""
        self.told = Taken(0, 0)
        """The moment, and the CPU seconds until then."""
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key = {"X-Api-Key": self.headers["X-Api-Key"]}
                request = urllib.request.Request(URL + self.path.lstrip("/"), headers=key)
                with urllib.request.urlopen(request) as answer:
                    content = answer.read()
                new = len(json.loads(content)["new"] or ())
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if new == number:
                    relay.told = Taken(time.perf_counter(), spent())
                # The last question is often one to which nobody waits for the answer.
                with suppress(BrokenPipeError):
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Bench:
    """The API, the two bouncers in turn, and what is in force."""

    def __init__(self, path: Path, daemon: Daemon, decides: Engine) -> None:
        self._path, self._daemon = path, daemon
        self._keys = {name: decides.key(name) for name in ("ours", "theirs")}
        self._program = script(path, "crowdsec")
        self._recorder = path / "recorder"
        self._written = path / "written"
        self._recorder.write_text(f"#!/bin/sh\nexec cat >{self._written}\n")
        self._recorder.chmod(0o755)
        self._written.touch()

    def custom_bouncer(self, number: int) -> Taken:
        """The custom bouncer, our program and the daemon."""

        def start(url: str) -> Running:
            return fed_program(self._path, self._daemon, url, self._keys["ours"], self._program)

        taken = self._told(number, start, self._ours(number), [self._daemon_pid()])
        self.flush()
        return taken

    def firewall_bouncer(self, number: int) -> Taken:
        """CrowdSec's own bouncer."""

        def start(url: str) -> Running:
            configuration = self._path / "firewall-bouncer.yaml"
            text = CONFIGURATION.format(directory=self._path, url=url, key=self._keys["theirs"])
            configuration.write_text(text)
            binary = program("usr/bin/crowdsec-firewall-bouncer", FIREWALL_BOUNCER)
            words: list[str | Path] = [binary, "-c", configuration]
            return Running(words, self._path / "firewall-log", environment(self._daemon))

        taken = self._told(number, start, lambda: theirs_in_force() == number, [])
        # It leaves its tables, and what they hold already would be no change in the next round.
        run("nft", "delete table ip crowdsec; delete table ip6 crowdsec6")
        return taken

    def written(self, number: int) -> list[str]:
        """The lines that the custom bouncer writes to a program."""
        running = fed_program(self._path, self._daemon, URL, self._keys["ours"], self._recorder)
        with running:
            assert eventually(lambda: self._written.read_text().count("\n") == number, LONGEST_S), (
                running.said()
            )
        return self._written.read_text().splitlines(keepends=True)

    def alone(self, lines: list[str]) -> tuple[Taken, Taken]:
        """Our program and the daemon, with lines as the bouncer writes them; and back again."""
        number = len(lines)
        words: list[str | Path] = [self._program]
        with Running(words, self._path / "said", environment(self._daemon)) as process:
            watched = [self._daemon_pid(), process.process.pid]
            # The first line tells that the program has started.
            self._fed(process, lines[:1], self._ours(1), watched)
            coming = self._fed(process, lines[1:], self._ours(number), watched)
            deletes = [json.dumps(json.loads(each) | {"action": "del"}) + "\n" for each in lines]
            going = self._fed(process, deletes, self._ours(0), watched)
        return coming, going

    def flush(self) -> None:
        subprocess.run(
            [self._program, "--flush"],
            env=environment(self._daemon),
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def _daemon_pid(self) -> int:
        assert self._daemon.pid is not None
        return self._daemon.pid

    def _ours(self, number: int) -> Callable[[], bool]:
        return lambda: len(dynamic_entries(self._daemon)) == number

    def _told(
        self,
        number: int,
        start: Callable[[str], Running],
        complete: Callable[[], bool],
        others: list[int],
    ) -> Taken:
        started: list[Running] = []
        runs = threading.Event()

        def spent() -> float:
            runs.wait()
            pids = [pid for each in started for pid in family(each.process.pid)]
            return sum(map(cpu_seconds, [*others, *pids]))

        with closing(Relay(number, spent)) as relay, closing(Kernel()) as kernel:
            started.append(start(relay.url))
            runs.set()
            with started[0]:
                changed_s = kernel.seconds_of_last_change(complete)
                assert relay.told.wall_s, "the API did not tell all decisions at once"
                return Taken(changed_s - relay.told.wall_s, spent() - relay.told.cpu_s)

    def _fed(
        self, process: Running, lines: list[str], complete: Callable[[], bool], watched: list[int]
    ) -> Taken:
        with closing(Kernel()) as kernel:
            spent_s, begun_s = sum(map(cpu_seconds, watched)), time.perf_counter()
            process.say("".join(lines))
            changed_s = kernel.seconds_of_last_change(complete)
            return Taken(changed_s - begun_s, sum(map(cpu_seconds, watched)) - spent_s)


def theirs_in_force() -> int:
    """How many addresses CrowdSec's own bouncer has in its sets."""
    done = subprocess.run(
        ["nft", "-j", "list", "table", "ip", "crowdsec"],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        return 0
    listed = json.loads(done.stdout)["nftables"]
    return sum(len(item["set"].get("elem", ())) for item in listed if "set" in item)


def show(name: str, taken: list[Taken]) -> None:
    """Print medians, and the spread of the wall time."""
    walls = [each.wall_s for each in taken]
    cpu_s = statistics.median(each.cpu_s for each in taken)
    print(
        f"  {name:36} {statistics.median(walls):7.2f} s ({min(walls):.2f} to {max(walls):.2f}),"
        f" CPU {cpu_s:6.2f} s",
        flush=True,
    )


def measure(bench: Bench, number: int) -> Figure:
    """Measure all in turn, and print it; the figure is of the time that passes."""
    lines = bench.written(number)
    ours, theirs, coming, going = [], [], [], []
    before = os.getloadavg()[0]
    for _ in range(ROUNDS):
        ours.append(bench.custom_bouncer(number))
        theirs.append(bench.firewall_bouncer(number))
        came, went = bench.alone(lines)
        coming.append(came)
        going.append(went)
    loads = f"load {before:.0f} to {os.getloadavg()[0]:.0f}"
    print(f"{number:,} decisions of CrowdSec, medians of {ROUNDS}; {loads}")
    show("custom bouncer with ipsecd-crowdsec", ours)
    show("firewall bouncer (nftables)", theirs)
    show("ipsecd-crowdsec alone", coming)
    show("the same, until none is in force", going)
    for what, values in (("the custom bouncer", ours), ("ipsecd-crowdsec alone", coming)):
        wall = statistics.median(a.wall_s / b.wall_s for a, b in zip(values, theirs, strict=True))
        cpu = statistics.median(a.cpu_s / b.cpu_s for a, b in zip(values, theirs, strict=True))
        print(f"  {what} by the firewall bouncer, round by round: {wall:.2f}, CPU {cpu:.2f}")
    base = "CrowdSec, its own bouncer"
    rounds = {
        "ipsecd, nftables": [each.wall_s for each in ours],
        base: [each.wall_s for each in theirs],
    }
    table = "Decisions of CrowdSec, until they are in force"
    return Figure("changes", table, f"{number:,} decisions", "s", base, rounds)


def main() -> None:
    must_be_isolated()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        daemon = Daemon(path)
        daemon.start()
        try:
            with engine(path / "engine", daemon) as decides:
                bench = Bench(path, daemon, decides)
                before, figures = 0, []
                for number in NUMBERS:
                    decides.bring_in(host_address(n) for n in range(before, number))
                    figures.append(measure(bench, number))
                    before = number
                keep("decisions", figures, facts())
        finally:
            daemon.end()


if __name__ == "__main__":
    main()
