"""Owns the hosts around this one: what serves it, a host behind a router, and a container."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.netns.site import (
    OUTSIDE,
    PATIENCE,
    PEER,
    PEER4,
    PEER6,
    Namespace,
    inside,
    python,
    run,
)

WEB, DNS, NTP, TFTP, MDNS, SSDP = 8000, 53, 123, 69, 5353, 1900
GROUPS = ("224.0.0.251", "239.255.255.250", "ff02::fb")
FAR, FAR4, FAR6 = "far", "10.9.9.9", "fd0a::9"
BOX, BOX4, BOX6 = "box", "10.88.0.5", "fd88::5"
PUBLISHED = 8080

SERVERS = """
import select, socket, struct, sys
DNS, NTP, TFTP, MDNS, SSDP = map(int, sys.argv[1:6])
poll, sockets, ports = select.poll(), {}, {}
def keep(sock, port, kind):
    sock.setblocking(False)
    sockets[sock.fileno()], ports[sock.fileno()] = sock, (port, kind)
    poll.register(sock, select.POLLIN)
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    for port, kind in ((DNS, "tcp"), (DNS, "udp"), (NTP, "udp"), (TFTP, "udp"), (MDNS, "udp"),
                       (SSDP, "udp")):
        sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if kind == "tcp":
            sock.listen()
        index = socket.if_nametoindex("wire1") if port in (MDNS, SSDP) else 0
        for group in sys.argv[6:] if index else ():
            if ":" in group and family == socket.AF_INET6:
                member = socket.inet_pton(family, group) + struct.pack("=I", index)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
            elif ":" not in group and family == socket.AF_INET:
                member = struct.pack("=4s4si", socket.inet_aton(group), bytes(4), index)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        keep(sock, port, "listen" if kind == "tcp" else "udp")
def answer(question):
    return question[:2] + bytes([question[2] | 128]) + question[3:]
print("ready", flush=True)
while True:
    for number, _ in poll.poll():
        sock, (port, kind) = sockets[number], ports[number]
        try:
            if kind == "listen":
                keep(sock.accept()[0], port, "stream")
            elif kind == "stream":
                data = sock.recv(65535)
                if data:
                    sock.sendall(data[:2] + answer(data[2:]))
                else:
                    poll.unregister(sock)
                    del sockets[number]
            else:
                data, sender = sock.recvfrom(65535)
                if port == TFTP:
                    sock = socket.socket(sock.family, socket.SOCK_DGRAM)
                sock.sendto(answer(data), sender)
        except OSError:
            pass
"""
QUESTION = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"
"""A question of DNS for the address of ``a`` (RFC 1035)."""
ANSWER = QUESTION[:2] + bytes([QUESTION[2] | 128]) + QUESTION[3:]

ASK = """
import socket, sys
address, port, kind, source, seconds = sys.argv[1:6]
question = bytes.fromhex(sys.argv[6])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
sock.settimeout(float(seconds))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("", int(source)))
# What is asked of a group is answered by one of its members, under its own address.
if address in sys.argv[7:]:
    index = socket.if_nametoindex("wire0")
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        member = bytes(8) + index.to_bytes(4, sys.byteorder)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, member)
try:
    if kind == "tcp":
        sock.connect((address, int(port)))
        sock.sendall(len(question).to_bytes(2, "big") + question)
        print(sock.recv(65535)[2:].hex())
    else:
        sock.sendto(question, (address, int(port)))
        print(sock.recvfrom(65535)[0].hex())
except OSError:
    pass
"""
FETCH = """
import sys, urllib.request
address, seconds = sys.argv[1], float(sys.argv[2])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    print(len(opener.open(f"http://{address}/page", timeout=seconds).read()))
except OSError:
    print(0)
"""
PAGE_BYTES = 300_000


@contextmanager
def process(words: list[str], *, says: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended with the block; what it `says` first is waited for."""
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        try:
            assert running.stdout is not None
            if says is not None:
                assert running.stdout.readline() == f"{says}\n"
            yield running
        finally:
            running.kill()


@contextmanager
def servers() -> Iterator[None]:
    """DNS by UDP and TCP, NTP, TFTP that answers from another port, mDNS and SSDP, at the peer."""
    ports = map(str, (DNS, NTP, TFTP, MDNS, SSDP))
    with process(python(OUTSIDE, SERVERS, *ports, *GROUPS), says="ready"):
        yield


@contextmanager
def web(where: Namespace, directory: Path, port: int) -> Iterator[None]:
    """A web server with one page, IPv4 and IPv6."""
    directory.mkdir(exist_ok=True)
    (directory / "page").write_bytes(b"x" * PAGE_BYTES)
    how = ("-u", "-m", "http.server", "--bind", "::", "--directory", str(directory), str(port))
    with process([*where, sys.executable, *how]) as running:
        assert running.stdout is not None
        assert "Serving" in running.stdout.readline()
        yield


def fetched(address: str, port: int, seconds: float, where: Namespace = ()) -> int:
    """How many bytes of the page come."""
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return int(run(*python(where, FETCH, place, str(seconds))))


def ask(
    address: str,
    port: int,
    seconds: float,
    *,
    kind: str = "udp",
    source: int = 0,
    where: Namespace = (),
) -> bool:
    """Whether a question is answered."""
    words = (address, str(port), kind, str(source), str(seconds), QUESTION.hex(), *GROUPS)
    return run(*python(where, ASK, *words)).strip() == ANSWER.hex()


@contextmanager
def far_host() -> Iterator[None]:
    """A host behind the peer, which routes; both tell of every error."""
    run("ip", "netns", "add", FAR)
    try:
        run("ip", "-n", PEER, "link", "add", "far0", "type", "veth", "peer", "eth0", "netns", FAR)
        _join(inside(PEER), "far0", "10.9.9.1/24", "fd0a::1/64")
        _join(inside(FAR), "eth0", f"{FAR4}/24", f"{FAR6}/64")
        run("ip", "-n", FAR, "route", "add", "default", "via", "10.9.9.1")
        run("ip", "-n", FAR, "-6", "route", "add", "default", "via", "fd0a::1")
        run("ip", "route", "add", "10.9.9.0/24", "via", PEER4)
        run("ip", "route", "add", "fd0a::/64", "via", PEER6)
        for name in (PEER, FAR):
            limits = ("net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
            routes = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
            run(*inside(name), "sysctl", "-qw", *limits, *routes)
        yield
    finally:
        run("ip", "netns", "delete", FAR)


@contextmanager
def box() -> Iterator[None]:
    """A container behind this host: it goes out under its address, and has published a port."""
    run("ip", "netns", "add", BOX)
    try:
        run("ip", "link", "add", "bridge0", "type", "veth", "peer", "eth0", "netns", BOX)
        _join((), "bridge0", "10.88.0.1/24", "fd88::1/64")
        _join(inside(BOX), "eth0", f"{BOX4}/24", f"{BOX6}/64")
        run("ip", "-n", BOX, "route", "add", "default", "via", "10.88.0.1")
        run("ip", "-n", BOX, "-6", "route", "add", "default", "via", "fd88::1")
        run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        with ExitStack() as stack:
            for family, address in (("ip", BOX4), ("ip6", f"[{BOX6}]")):
                load(
                    f"table {family} nat {{\n"
                    "chain post { type nat hook postrouting priority 100; oif wire0 masquerade; }\n"
                    "chain pre { type nat hook prerouting priority -100;\n"
                    f"iif wire0 tcp dport {PUBLISHED} dnat to {address}:{WEB}\n}}\n}}\n"
                )
                stack.callback(run, "nft", "delete", "table", family, "nat")
            yield
    finally:
        run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
        run("ip", "link", "delete", "bridge0", check=False)
        run("ip", "netns", "delete", BOX)


@contextmanager
def untracked(rule: str) -> Iterator[None]:
    """Packets that arrive and that a rule matches are kept out of connection tracking."""
    load(
        "table inet raw_of_others {\nchain pre { type filter hook prerouting priority -300;\n"
        f"{rule} notrack\n}}\n}}\n"
    )
    try:
        yield
    finally:
        run("nft", "delete", "table", "inet", "raw_of_others")


SSHD = """
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/key.pub
PidFile {directory}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
"""


@contextmanager
def sshd(
    where: Namespace, path: str, directory: Path, address: str, port: int = 22, more: str = ""
) -> Iterator[None]:
    """A server of SSH; `path` is that of the program, and `more` are lines of its settings."""
    directory.mkdir(exist_ok=True)
    for name in ("host_key", "key"):
        if not (directory / name).exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
    (directory / "sshd_config").write_text(SSHD.format(directory=directory) + more)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    users = directory / "passwd"
    users.write_text(f"{Path('/etc/passwd').read_text()}sshd:x:65533:65534::/run/sshd:/bin/false\n")
    run("mount", "--bind", str(users), "/etc/passwd")
    try:
        with process(
            [*where, path, "-D", "-e", *("-p", str(port), "-f", str(directory / "sshd_config"))]
        ):
            deadline = time.monotonic() + 20 * PATIENCE
            while "ready" not in run(*python(where, LISTENS, address, str(port)), check=False):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield
    finally:
        run("umount", "/etc/passwd")


LISTENS = """
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)
print("ready")
"""


def logged_in(where: Namespace, directory: Path, address: str) -> str:
    """What a command prints that is run over SSH."""
    options = {
        "IdentityFile": str(directory / "key"),
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "BatchMode": "yes",
        "ConnectTimeout": str(int(20 * PATIENCE)),
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return run(*where, "ssh", "-F", "none", "-q", *words, f"root@{address}", "echo", "in").strip()


def _join(where: Namespace, link: str, *addresses: str) -> None:
    for address in addresses:
        nodad = ["nodad"] if ":" in address else []
        run(*where, "ip", "address", "add", address, "dev", link, *nodad)
    run(*where, "ip", "link", "set", link, "up")


def load(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
