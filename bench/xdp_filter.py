"""ipsecd beside xdp-filter of xdp-tools, with the same rule: a port, or a source address.

What a packet costs is first the median of many runs of the kernel's own timer, over the program
that xdp-filter attached: libxdp's dispatcher, or the filter itself where the kernel refuses the
dispatcher. xdp-filter is measured as it loads by default and with nothing but the feature that
the rule needs.

Then frames are sent through a wire into each program, attached natively, as fast as one core
sends and drops them. The sender hands raw frames to the driver, so that no more than necessary
is paid beside the filter; what a program costs that drops at once shows how much that is.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from socket import if_nametoindex

from bench.classify import HOST, ME_ADDRESS, NAMES, OBJECT, OURS, of_test_runs, timed
from bench.figures import Figure, keep
from bench.isolation import must_be_isolated
from bench.machine import facts
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.library import TestRunOpts, library
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from tests.frames import frame_of

XDP_DROP, XDP_PASS = 1, 2
BPF_F_TEST_XDP_LIVE_FRAMES = 2
PEER = "peer"
PINNED = Path("/sys/fs/bpf/xdp-filter")
BAD, GOOD = 0xC0000201, 0xC6336407
FLOODS, FLOOD_SECONDS, FRAMES_A_CALL = 9, 0.5, 1 << 16
WIRES = ("all", "least", "ipsecd", "none")


@dataclass(frozen=True)
class Rule:
    """One rule in the words of both, and a frame that it drops."""

    name: str
    filter: str
    words: tuple[str, ...]
    feature: str
    dropped: bytes


PASSED = frame_of(source=GOOD, destination=ME_ADDRESS, source_port=4000, port=53)
RULES = (
    Rule(
        "UDP port 1434",
        "*=0:1434:UDP",
        ("port", "1434", "-p", "udp", "-m", "dst"),
        "udp",
        frame_of(source=GOOD, destination=ME_ADDRESS, source_port=4000, port=1434),
    ),
    Rule(
        "one source",
        f"{IPv4Address(BAD)}=0",
        ("ip", str(IPv4Address(BAD)), "-m", "src"),
        "ipv4",
        frame_of(source=BAD, destination=ME_ADDRESS, source_port=4000, port=53),
    ),
)


def run(*words: str) -> str:
    """What a command prints; raises ``CalledProcessError``."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


# -- the sender, in the namespace of the peer ----------------------------------------------------


def send() -> None:
    """For each interface and frame read: flood for a while, print frames and seconds."""
    # What a core sends it also receives, so it must not become another half-way.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    programs = Programs(path=OBJECT, more_maps=("ports", "prefixes", "sources"))
    transmit = programs.program("transmit")
    for name in WIRES:
        # The driver takes frames from an interface only if it has a program itself.
        index = if_nametoindex(f"{name}1")
        libbpf.create_link(transmit, index, libbpf.BPF_XDP, libbpf.XDP_FLAGS_DRV_MODE)
    print("ready", flush=True)
    for line in sys.stdin:
        name, text = line.split()
        frame = bytes.fromhex(text)
        sent, begun = 0, time.perf_counter()
        while (now := time.perf_counter()) < begun + FLOOD_SECONDS:
            transmit_many(transmit, frame, if_nametoindex(f"{name}1"), FRAMES_A_CALL)
            sent += FRAMES_A_CALL
        print(sent, now - begun, flush=True)


def transmit_many(program: int, frame: bytes, index: int, count: int) -> None:
    """Send copies of a frame from an interface (Documentation/bpf/bpf_prog_run.rst)."""
    data = ctypes.create_string_buffer(frame, len(frame))
    context = ctypes.create_string_buffer(struct.pack("=6I", 0, len(frame), 0, index, 0, 0), 24)
    options = TestRunOpts(
        sz=ctypes.sizeof(TestRunOpts),
        data_in=ctypes.addressof(data),
        data_size_in=len(frame),
        ctx_in=ctypes.addressof(context),
        ctx_size_in=len(context),
        repeat=count,
        flags=BPF_F_TEST_XDP_LIVE_FRAMES,
    )
    done = library().calls.bpf_prog_test_run_opts(program, ctypes.byref(options))
    assert done == 0, done


class Sender:
    """The process that sends."""

    def __init__(self) -> None:
        words = ("ip", "netns", "exec", PEER, sys.executable, "-m", "bench.xdp_filter", "send")
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def flood(self, wire: str, frame: bytes) -> tuple[int, float]:
        """How many frames were sent, and the seconds that it took."""
        assert self._process.stdin
        self._process.stdin.write(f"{wire} {frame.hex()}\n")
        self._process.stdin.flush()
        sent, seconds = self._answer().split()
        return int(sent), float(seconds)

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout
        answer = self._process.stdout.readline()
        assert answer, "the sender failed"
        return answer


# -- the filters ---------------------------------------------------------------------------------


@contextmanager
def wires() -> Iterator[None]:
    """A wire to the peer for each program."""
    run("ip", "netns", "add", PEER)
    try:
        for name in WIRES:
            here, there = f"{name}0", f"{name}1"
            run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", PEER)
            # Nothing but the flood shall arrive.
            run("ip", "link", "set", here, "addrgenmode", "none", "up")
            run("ip", "-n", PEER, "link", "set", there, "addrgenmode", "none", "up")
        yield
    finally:
        for name in WIRES:
            with suppress(subprocess.CalledProcessError):
                run("ip", "link", "delete", f"{name}0")
        run("ip", "netns", "delete", PEER)


@contextmanager
def xdp_filter(rule: Rule) -> Iterator[tuple[int, int]]:
    """Load xdp-filter with all features and with the least; descriptors of both programs."""
    descriptors = []
    run("xdp-filter", "load", "--mode", "native", "all0")
    try:
        run("xdp-filter", "load", "--mode", "native", "--features", rule.feature, "least0")
        run("xdp-filter", *rule.words)
        for name in ("all0", "least0"):
            (link,) = json.loads(run("ip", "-json", "link", "show", name))
            assert link["xdp"]["mode"] == 1, "not native"
            number = link["xdp"]["prog"]["id"]
            descriptor = library().calls.bpf_prog_get_fd_by_id(number)
            assert descriptor >= 0, number
            descriptors.append(descriptor)
        yield descriptors[0], descriptors[1]
    finally:
        run("xdp-filter", "unload", "--all")


def frames_dropped() -> int:
    """How many frames xdp-filter has dropped, on all interfaces."""
    descriptor = libbpf.get_pinned(PINNED / "xdp_stats_map")
    cpus = libbpf.possible_cpus()
    value = libbpf.look_up(descriptor, struct.pack("=I", XDP_DROP), 16 * cpus)
    assert value
    return sum(struct.unpack(f"={2 * cpus}Q", value)[0::2])


def frames_received(name: str) -> int:
    """How many frames an interface has received."""
    (link,) = json.loads(run("ip", "-json", "-statistics", "link", "show", name))
    return int(link["stats64"]["rx"]["packets"])


# -- the two measurements ------------------------------------------------------------------------


def timed_runs(rule: Rule, programs: dict[str, int]) -> Iterator[Figure]:
    """Nanoseconds for a frame in each program, which are printed too."""
    names = {"all": "xdp-filter", "least": "xdp-filter, one feature", "ipsecd": OURS}
    for outcome, frame, expected in (
        ("dropped", rule.dropped, XDP_DROP),
        ("passed", PASSED, XDP_PASS),
    ):
        runs = {names[n]: timed(p, frame, expected) for n, p in programs.items() if n in names}
        figure = of_test_runs(f"{outcome} by {rule.name}", names["all"], runs)
        rows = {name: figure.middle(what) for name, what in names.items()}
        yield figure
        for name, what in (("all", "xdp-filter"), ("least", f"xdp-filter -f {rule.feature}")):
            print(
                f"{rule.name:13} {outcome:7}  ipsecd {rows['ipsecd']:5.0f} ns"
                f"   {what:18} {rows[name]:5.0f} ns   ratio {rows['ipsecd'] / rows[name]:.2f}"
            )


def floods(rule: Rule, sender: Sender, dropped: dict[str, Callable[[], int]]) -> None:
    """Frames that each program drops in a second; the ratio is that of the times for one frame."""
    rates: dict[str, list[float]] = {name: [] for name in WIRES}
    for _ in range(FLOODS):
        for name in WIRES:
            before = dropped[name]()
            sent, seconds = sender.flood(name, rule.dropped)
            count = dropped[name]() - before
            # The wire loses some when the kernel puts off receiving.
            assert 0.8 * sent <= count <= 1.001 * sent, (name, sent, count)
            rates[name].append(count / seconds)
    rows = {name: statistics.median(values) for name, values in rates.items()}
    for name, what in (
        ("all", "xdp-filter"),
        ("least", f"xdp-filter -f {rule.feature}"),
        ("none", "drop at once"),
    ):
        print(
            f"{rule.name:13} a flood  ipsecd {rows['ipsecd'] / 1e6:5.2f} M/s"
            f"  {what:18} {rows[name] / 1e6:5.2f} M/s  ratio {rows[name] / rows['ipsecd']:.2f}"
        )


def compare(rule: Rule, programs: Programs, sender: Sender) -> list[Figure]:
    """Do both measurements, with the same rule in force everywhere; the figures of the first."""
    origin = Origin("static", "P", "r")
    blocked = InForce(origin, parse_filter(rule.filter), Action.BLOCK)
    programs.apply(compile_filters([blocked], NAMES), Volatile())
    with xdp_filter(rule) as (with_all, with_least):
        for descriptor in (with_all, with_least):
            name = bytes(libbpf.program_info(descriptor).name).decode()
            print(f"{rule.name:13} xdp-filter attached {name}")
        judge = programs.program("receive_lan")
        attached = {"all": with_all, "least": with_least, "ipsecd": judge}
        figures = list(timed_runs(rule, attached))
        floods(
            rule,
            sender,
            {
                "all": frames_dropped,
                "least": frames_dropped,
                "ipsecd": lambda: programs.counts()[origin].packets,
                "none": lambda: frames_received("none0"),
            },
        )
    return figures


def main() -> None:
    must_be_isolated()
    if sys.argv[1:] == ["send"]:
        send()
        return
    if not shutil.which("xdp-filter"):
        print("xdp-filter: skipped, it is not installed (Debian's package xdp-tools)")
        return
    programs = Programs(path=OBJECT, more_maps=("ports", "prefixes", "sources"))
    programs.set_host(HOST)
    with wires():
        for wire, name in (("ipsecd", "receive_lan"), ("none", "drop_at_once")):
            libbpf.create_link(
                programs.program(name),
                if_nametoindex(f"{wire}0"),
                libbpf.BPF_XDP,
                libbpf.XDP_FLAGS_DRV_MODE,
            )
        sender = Sender()
        try:
            figures = [each for rule in RULES for each in compare(rule, programs, sender)]
            keep("xdp_filter", figures, facts())
        except subprocess.CalledProcessError as error:
            print(f"xdp-filter: skipped, {error.cmd} failed: {error.stderr.strip()}")
        finally:
            sender.close()


if __name__ == "__main__":
    main()
