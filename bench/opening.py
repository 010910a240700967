"""What rules for the packets that open a connection cost, beside other firewalls in one run.

One core sends frames to this host over a wire and receives them: what is printed is how many of
them it sends and receives in a second of its own time, the median of short stretches, so that what
else the machine does is left out. Every frame has another source, so that it opens a connection;
in the last flood there are few, whose connections go on. Then the host's services are asked, while
such a flood lasts, whether they still answer new connections.

What a packet costs without such rules is compared with another tree of this project, if it is
given: ``python -m bench.opening --before DIRECTORY``. ``--scans`` prints what nmap finds.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.isolation import must_be_isolated
from bench.stretches import FRAMES, Stretches, raw_socket
from tests.moments.flood import in_namespace
from tests.netns import firewalls, site
from tests.netns.scans import POLICY, SAMPLE, SAMPLE_UDP, listed, scan, services
from tests.netns.site import HERE4, HOST, OUTSIDE, PEER, PEER4, Daemon, run

ROUNDS, STRETCHES = 5, 384
FEW = 64
"""How many sources there are where connections go on."""
SOURCES = int(IPv4Address("10.64.0.0"))
FLOODERS = "10.64.0.0/16"
CLOSED, OPEN, PERMITTED = 8080, 443, 5000
MAC, PEER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:66"
PERMIT = """  - rule: Datagrams
    action: permit
    filters: ["*=0:5000:UDP"]
"""
ALL_OPENING = ("action: permit\n", "action: permit\n    when: opening\n")


# -- frames --------------------------------------------------------------------------------------


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(number: int, port: int, *, tcp: bool) -> bytes:
    """A frame with a SYN or a datagram, from a source that has this number."""
    ends = (SOURCES + number % 65536).to_bytes(4, "big") + IPv4Address(HERE4).packed
    source = 1024 + number * 7 % 60000
    if tcp:
        body = struct.pack(">HHIIBBHHH", source, port, number, 0, 0x50, 2, 64240, 0, 0)
        pseudo = ends + struct.pack(">HH", 6, len(body))
        body = body[:16] + checksum(pseudo + body).to_bytes(2, "big") + body[18:]
    else:
        body = struct.pack(">HHHH", source, port, 16, 0) + b"datagram"
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 6 if tcp else 17, 0) + ends
    head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
    return bytes.fromhex((MAC + PEER_MAC).replace(":", "")) + b"\x08\x00" + head + body


def stretches(port: int, *, tcp: bool, sources: int = STRETCHES * FRAMES) -> Stretches:
    """Stretches of frames, each of which has one of so many sources."""
    return Stretches([frame(n % sources, port, tcp=tcp) for n in range(STRETCHES * FRAMES)])


@contextmanager
def sender() -> Iterator[socket.socket]:
    """A socket that gives frames to the peer's end of the wire."""
    with in_namespace(PEER), raw_socket("wire1") as sock:
        yield sock


@contextmanager
def ground() -> Iterator[None]:
    """The wire, and a way back to all the sources, which the peer throws away."""
    with site.wire():
        run("ip", "link", "set", "wire0", "address", MAC)
        run("ip", "-n", PEER, "link", "set", "wire1", "address", PEER_MAC)
        run("ip", "neighbour", "replace", PEER4, "lladdr", PEER_MAC, "dev", "wire0")
        run("ip", "route", "add", "10.0.0.0/8", "via", PEER4)
        run("ip", "-n", PEER, "route", "add", "blackhole", "10.0.0.0/8")
        yield


# -- firewalls -----------------------------------------------------------------------------------


@contextmanager
def ours(backend: str, *bans: str, opening: bool = False) -> Iterator[None]:
    """A daemon of this tree, with the same task as the others have, and bans.

    With `opening` the permits, too, are for packets that open a connection.
    """
    with TemporaryDirectory() as directory:
        daemon = Daemon(Path(directory), backend)
        daemon.start()
        try:
            path = Path(directory) / "policy.yaml"
            policy = POLICY.format(name="Host", more=PERMIT)
            path.write_text(policy.replace(*ALL_OPENING) if opening else policy)
            daemon.ctl("apply", str(path), "--assign")
            if bans:
                daemon.ctl("block", *bans)
            yield
        finally:
            daemon.end()


@contextmanager
def hand_written() -> Iterator[None]:
    """The rules for nft, with the port for datagrams."""
    with firewalls.hand_written():
        run("nft", "add rule inet hand input udp dport 5000 accept")
        yield


@contextmanager
def default_firewalld() -> Iterator[None]:
    """The default zone of firewalld, with the port for datagrams."""
    with firewalls.firewalld():
        run("nft", "add rule inet firewalld filter_IN_public_allow udp dport 5000 accept")
        yield


FIREWALLS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "ipsecd, nftables": lambda: ours("nftables"),
    "ipsecd, nftables, all opening": lambda: ours("nftables", opening=True),
    "ipsecd, XDP": lambda: ours("xdp"),
    "ipsecd, XDP, the flooders banned": lambda: ours("xdp", f"{FLOODERS}=0"),
    "nft by hand": hand_written,
    "ufw": lambda: firewalls.ufw("allow 22/tcp", "allow 443/tcp", "allow 5000/udp"),
    "firewalld": default_firewalld,
}


# -- measurements --------------------------------------------------------------------------------


def forget_connections() -> None:
    """Empty the table of connections of this namespace (ctnetlink's delete without a filter)."""
    header = struct.pack("=IHHII", 20, 1 << 8 | 2, 0x5, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
        sock.send(header + bytes(4))
        sock.recv(4096)


def received() -> int:
    """How many frames the wire has brought."""
    (link,) = json.loads(run("ip", "-json", "-stats", "link", "show", "wire0"))
    return int(link["stats64"]["rx"]["packets"])


def rate(sent: Stretches) -> float:
    """Frames that one core sends and receives in a second of its time, the median of stretches."""
    forget_connections()
    before = received()
    with sender() as sock:
        taken = [sent.seconds(sock, number) for number in range(STRETCHES)]
    assert received() - before > 0.98 * STRETCHES * FRAMES
    return FRAMES / statistics.median(taken)


CONNECT = """
import socket, sys, time
longest = answered = 0
for _ in range(10):
    for port in (22, 443):
        begun = time.monotonic()
        try:
            socket.create_connection((sys.argv[1], port), 10).close()
            answered += 1
        except OSError:
            pass
        longest = max(longest, time.monotonic() - begun)
print(answered, longest)
"""


def answered_under(sent: Stretches) -> tuple[int, float]:
    """How many of 20 new connections are answered under a flood, and the longest that one took."""
    over = threading.Event()

    def flood() -> None:
        with sender() as sock:
            while not over.is_set():
                for number in range(STRETCHES):
                    sent.send(sock, number)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        answered, longest = run(*site.python(OUTSIDE, CONNECT, HERE4)).split()
    finally:
        over.set()
        thread.join()
    return int(answered), float(longest)


def floods() -> None:
    """Print what each firewall makes of each flood."""
    kinds = {
        "SYN, closed port": stretches(CLOSED, tcp=True),
        "SYN, open port": stretches(OPEN, tcp=True),
        "UDP, permitted port": stretches(PERMITTED, tcp=False),
        "UDP, of connections": stretches(PERMITTED, tcp=False, sources=FEW),
    }
    rates: dict[tuple[str, str], list[float]] = {}
    answers: dict[tuple[str, str], tuple[int, float]] = {}
    with ground(), services(HOST, (22, OPEN, CLOSED), (PERMITTED,)):
        for turn in range(ROUNDS):
            for name, firewall in FIREWALLS.items():
                with firewall():
                    for kind, sent in kinds.items():
                        rates.setdefault((name, kind), []).append(rate(sent))
                        if turn == 0:
                            answers[name, kind] = answered_under(sent)
    for kind in kinds:
        base = statistics.median(rates["nft by hand", kind])
        for name in FIREWALLS:
            value = statistics.median(rates[name, kind])
            answered, longest = answers[name, kind]
            print(
                f"{kind:20} {name:33} {value / 1e6:5.2f} M/s {value / base:5.2f} times nft's;"
                f" {answered} of 20 answered, in {longest:.2f} s at the most",
                flush=True,
            )


def scans() -> None:
    """Print what nmap finds of the same services behind each firewall."""
    ways = {
        "all TCP ports, SYN": ("-sS", "-p-"),
        "ACK": ("-sA", f"-p{listed(SAMPLE)}"),
        "FIN": ("-sF", f"-p{listed(SAMPLE)}"),
        "SYN from port 53": ("-sS", "-g", "53", f"-p{listed(SAMPLE)}"),
        "UDP": ("-sU", f"-p{listed(SAMPLE_UDP)}"),
    }
    with ground(), services():
        for name in ("ipsecd, nftables", "ipsecd, XDP", "ufw", "firewalld", "nft by hand"):
            with FIREWALLS[name]():
                for way, words in ways.items():
                    found = scan(HERE4, *words)
                    few = {state: sorted(ports) for state, ports in found.ports.items()}
                    print(f"{name:20} {way:20} {few}, others {found.others}", flush=True)


# -- without rules for connections ---------------------------------------------------------------

RENDERED = """
import sys
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.values import Action, InForce, Origin
origin = Origin("static", "P", "r")
filters = [InForce(origin, parse_filter(text), Action.BLOCK) for text in sys.argv[1:]]
backend = NftablesBackend(protect=False)
backend.apply(compile_filters(filters, [e.name for e in ESSENTIALS]), Volatile())
"""
FILTERS = ("*=0:8080:TCP", "*=0:1434:UDP", "10.1.0.0/16=0", "0=*:25:TCP")


PROGRAMS = """
import statistics
from bench.classify import HOST, ME_ADDRESS, REPEAT, ROUNDS, ports_blocked
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.volatile import Volatile
from tests.frames import frame_of
programs = Programs()
programs.set_host(HOST)
receive = programs.program("receive_lan")
programs.apply(ports_blocked(10), Volatile())
for port in (1434, 53):
    frame = frame_of(source=0xC6336407, destination=ME_ADDRESS, source_port=4000, port=port)
    runs = [libbpf.run_program(receive, frame, repeat=REPEAT)[1] for _ in range(ROUNDS)]
    print(statistics.median(runs))
"""


def of_tree(tree: Path, code: str, *words: str) -> str:
    """What a program prints that uses the modules of a tree of this project."""
    paths = os.pathsep.join(str(tree / name) for name in ("daemon", "ctl", ""))
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


@contextmanager
def rendered(tree: Path) -> Iterator[None]:
    """The rules that a tree of this project makes for nftables are in force."""
    of_tree(tree, RENDERED, *FILTERS)
    try:
        yield
    finally:
        run("nft", "delete", "table", "inet", "ipsecd")


def without(before: Path) -> None:
    """Print what packets cost where no rule asks for connections, now and before."""
    kinds = {
        "blocked": stretches(CLOSED, tcp=True),
        "permitted": stretches(PERMITTED, tcp=False),
    }
    trees = {"now": Path.cwd(), "before": before}
    rates: dict[tuple[str, str], list[float]] = {}
    with ground(), services(HOST, (22,), (PERMITTED,)):
        for _ in range(2 * ROUNDS):
            for name, tree in trees.items():
                with rendered(tree):
                    for kind, sent in kinds.items():
                        rates.setdefault((name, kind), []).append(rate(sent))
    for kind in kinds:
        now, then = (1e9 / statistics.median(rates[name, kind]) for name in trees)
        print(f"nftables, {kind:10} {now:.0f} ns, before {then:.0f} ns, ratio {now / then:.3f}")
    turns = [[of_tree(tree, PROGRAMS).split() for tree in trees.values()] for _ in range(ROUNDS)]
    for number, kind in enumerate(kinds):
        now, then = (statistics.median(float(turn[n][number]) for turn in turns) for n in (0, 1))
        print(f"XDP, {kind:10} {now:.0f} ns, before {then:.0f} ns, ratio {now / then:.3f}")


def main() -> None:
    must_be_isolated()
    if "--scans" in sys.argv:
        scans()
    elif "--before" in sys.argv:
        without(Path(sys.argv[sys.argv.index("--before") + 1]))
    else:
        floods()


if __name__ == "__main__":
    main()
