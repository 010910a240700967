"""ipsecd with nftables beside the best rules written by hand for the same policy, and no rules.

Four hosts, each a network namespace behind a wire of its own: one without rules (none), one with a
chain of one rule at the hook and the priority of ours (hand), one where that rule also asks whether
the destination is this host's, and counts, as ours do (alike), and one with ours. One core sends a
stretch of frames to each in turn and receives them, so that what else the machine does meanwhile
falls on all alike. What is printed is the median of what a frame took of that core's time, sending
included, and the median and the quartiles of the ratio of packets a second, of ours to those by
hand, round by round.

None of the rules by hand exempts anything, asks about links, or looks a second time on delivery.
"""

from __future__ import annotations

import argparse
import random
import socket
import statistics
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from bench.isolation import must_be_isolated
from bench.stretches import FRAMES, Stretches, raw_socket
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.compiler.classifier import Classifier, Table
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.fields import ME
from ipsecd.model.packets import Packet, Point
from ipsecd.model.values import Action, InForce, Origin
from tests.frames import frame
from tests.moments.flood import in_namespace
from tests.netns.site import run

HOSTS = ("none", "hand", "alike", "ours")
ENDS = {"hand": "drop", "alike": "fib daddr type local counter drop"}
"""What a rule by hand ends with."""
ROUNDS, STRETCHES = 400, 16
NAMES = tuple(exemption.name for exemption in ESSENTIALS)
HERE = {Family.IPV4: "192.168.1.1", Family.IPV6: "fd09::1"}
SOURCES = {
    Family.IPV4: int(IPv4Address("10.64.0.0")),
    Family.IPV6: int(IPv6Address("2001:db8:64::")),
}
"""Where the addresses of a long list begin."""
STRANGERS = {
    Family.IPV4: int(IPv4Address("172.16.0.0")),
    Family.IPV6: int(IPv6Address("2001:db8:99::")),
}
OPEN, LISTED = 53, 100_000
ORIGIN = Origin("static", "P", "r")
NFT_WORDS = {Family.IPV4: ("ip", "ipv4_addr"), Family.IPV6: ("ip6", "ipv6_addr")}
MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000066")


@dataclass(frozen=True)
class Case:
    """One policy, as we have it and as rules by hand, and the ports that its frames are for.

    Frames that are dropped come from the sources that are `blocked`, all others from others.
    """

    name: str
    compiled: Callable[[], Classifier]
    by_hand: Callable[[str], str]
    dropped_ports: Sequence[int]
    passed_ports: Sequence[int] = (OPEN,)
    by_source: bool = False


def of_filters(*texts: str) -> Classifier:
    """A policy that blocks what the filters hold."""
    blocks = [InForce(ORIGIN, parse_filter(text), Action.BLOCK) for text in texts]
    return compile_filters(blocks, NAMES)


def of_sources() -> Classifier:
    """A policy that blocks a long list of addresses of each IP version."""
    tables = []
    for family in Family:
        table = TableId.of(family, False, Action.BLOCK, source=family.bits, destination=ME)
        first, size = SOURCES[family], family.bits // 8
        keys = b"".join(number.to_bytes(size, "big") for number in range(first, first + LISTED))
        tables.append(Table(table, keys, (ORIGIN,)))
    tables.sort(key=lambda table: table.id.order)
    return Classifier(tuple(tables), NAMES)


def by_hand(rules: str, sets: str = "") -> str:
    """One chain, where ours looks first, with these rules."""
    hook = "type filter hook prerouting priority -301"
    return f"table inet hand {{\n{sets}\nchain hand {{\n{hook}\n{rules}\n}}\n}}\n"


def of_ports(ports: Sequence[str], end: str) -> str:
    """The rule by hand for a set of ports or ranges of ports."""
    return by_hand(f"udp dport {{ {', '.join(ports)} }} {end}")


def sources_by_hand(end: str) -> str:
    """The rules by hand for the same long lists."""
    sets, rules = [], []
    for family, (word, kind) in NFT_WORDS.items():
        address = IPv4Address if family is Family.IPV4 else IPv6Address
        first = SOURCES[family]
        listed = ",".join(str(address(number)) for number in range(first, first + LISTED))
        name = f"blocked{family.value}"
        sets.append(f"set {name} {{\ntype {kind}\nsize {LISTED}\nelements = {{ {listed} }}\n}}")
        rules.append(f"{word} saddr @{name} {end}")
    return by_hand("\n".join(rules), "\n".join(sets))


RANGES = [(first, first + 1) for first in range(10_000, 14_000, 4)]
PORTS = range(1434, 1434 + 200, 2)
CASES = (
    Case(
        "one port",
        lambda: of_filters("*=0:1434:UDP"),
        lambda end: by_hand(f"udp dport 1434 {end}"),
        [1434],
    ),
    Case(
        "100 ports",
        lambda: of_filters(*(f"*=0:{port}:UDP" for port in PORTS)),
        lambda end: of_ports([str(port) for port in PORTS], end),
        PORTS,
        [port + 1 for port in PORTS],
    ),
    Case(
        "1,000 ranges of ports",
        lambda: of_filters(*(f"*=0:{first}-{last}:UDP" for first, last in RANGES)),
        lambda end: of_ports([f"{first}-{last}" for first, last in RANGES], end),
        [first for first, _ in RANGES],
        [last + 1 for _, last in RANGES],
    ),
    Case("100,000 addresses", of_sources, sources_by_hand, [OPEN], by_source=True),
)


def frames_of(case: Case, family: Family, *, dropped: bool) -> Stretches:
    """Datagrams in frames, no two with the same source, that are dropped or pass."""
    luck = random.Random(1434)
    ports = case.dropped_ports if dropped else case.passed_ports
    sources = SOURCES if dropped and case.by_source else STRANGERS
    address = IPv4Address if family is Family.IPV4 else IPv6Address
    here = int(address(HERE[family]))
    protocol_udp = 17
    frames = []
    for number in range(STRETCHES * FRAMES):
        source = sources[family] + luck.randrange(LISTED)
        packet = Packet(
            Point.ARRIVING, family, source, here, protocol_udp, 4000, luck.choice(ports)
        )
        frames.append(b"".join(MAC) + frame(packet, number)[12:])
    return Stretches(frames)


def nft(text: str) -> None:
    """Carry out commands of nft in this network namespace."""
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


@contextmanager
def hosts() -> Iterator[None]:
    """A network namespace for each host, with a wire from this one, and a socket that is full."""
    with ExitStack() as stack:
        for host in HOSTS:
            run("ip", "netns", "add", host)
            stack.callback(run, "ip", "netns", "delete", host)
            run("ip", "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", host)
            run("ip", "link", "set", host, "addrgenmode", "none", "up")
            run("ip", "-n", host, "link", "set", "eth0", "address", MAC[0].hex(":"), "up")
            for address in (f"{HERE[Family.IPV4]}/24", f"{HERE[Family.IPV6]}/64"):
                words = ("nodad",) if ":" in address else ()
                run("ip", "-n", host, "address", "add", address, "dev", "eth0", *words)
            for family in ("-4", "-6"):
                run("ip", "-n", host, family, "route", "add", "default", "dev", "eth0")
            with in_namespace(host):
                _settle()
        yield


def _settle() -> None:
    """Have datagrams be delivered whatever way answers would take."""
    for name in ("all", "eth0"):
        Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0", "ascii")


@contextmanager
def listening(ports: Sequence[int]) -> Iterator[list[socket.socket]]:
    """Sockets on the ports here, which nobody reads: what comes is dropped when they are full."""
    with ExitStack() as stack:
        sockets = []
        for port in ports:
            sock = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            sock.bind(("::", port))
            sockets.append(sock)
        yield sockets


def dropped_here() -> int:
    """How many packets our rules have counted in this network namespace, for any rule."""
    out = run("nft", "list", "counters")
    return sum(int(line.split()[1]) for line in out.splitlines() if "packets" in line)


def compare(case: Case, family: Family, rounds: int, *, dropped: bool) -> None:
    """Send frames to each host in turn, and print what they took."""
    sent = frames_of(case, family, dropped=dropped)
    sockets = {host: raw_socket(host) for host in HOSTS}
    taken = {host: array("d") for host in HOSTS}
    with in_namespace("ours"):
        before = dropped_here()
    for number in range(rounds):
        stretch = number % STRETCHES
        for host in HOSTS if number % 2 else reversed(HOSTS):
            taken[host].append(sent.seconds(sockets[host], stretch))
    with in_namespace("ours"):
        counted = dropped_here() - before
    assert counted == (rounds * FRAMES if dropped else 0), counted
    for sock in sockets.values():
        sock.close()
    ns = {host: statistics.median(values) / FRAMES * 1e9 for host, values in taken.items()}
    print(f"{case.name:22} IPv{family.value} {'drop' if dropped else 'miss'}", end="")
    print("".join(f"  {host} {ns[host]:5.0f} ns" for host in HOSTS), end="")
    for host in ENDS:
        ratios = [hand / ours for hand, ours in zip(taken[host], taken["ours"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"  to {host} {middle:.2f} ({low:.2f}-{high:.2f})", end="")
    print(flush=True)


def main() -> None:
    must_be_isolated()
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", help="compare only cases whose names have this")
    arguments = parser.parse_args(sys.argv[1:])
    with hosts():
        for case in CASES:
            if arguments.only not in case.name:
                continue
            with ExitStack() as stack:
                for host in HOSTS:
                    with in_namespace(host):
                        stack.enter_context(listening(case.passed_ports))
                for host, end in ENDS.items():
                    with in_namespace(host):
                        nft("flush ruleset\n" + case.by_hand(end))
                with in_namespace("ours"):
                    backend = NftablesBackend()
                    stack.callback(backend.close)
                    stack.callback(backend.remove)
                    backend.apply(case.compiled(), Volatile())
                for family in Family:
                    for dropped in (True, False):
                        compare(case, family, arguments.rounds, dropped=dropped)


if __name__ == "__main__":
    main()
