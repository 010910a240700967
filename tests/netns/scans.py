"""Owns scanning a host with nmap, and the services that a hole in its firewall would show."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest

from tests.netns.site import HOST, OUTSIDE, Namespace, needs_isolation, run, serving

UNPACKED = Path(__file__).parents[2] / "build/lab"
"""Packages of Debian, not installed: that would start some of them."""
LIBRARIES = UNPACKED / f"usr/lib/{os.uname().machine}-linux-gnu"

OPEN = frozenset({22, 443})
BEHIND_TCP = (21, 80, 139, 445, 3306, 5432, 8080, 40000)
"""TCP ports that are listened at and that the policy does not open."""
BEHIND_UDP = (53, 67, 123, 161, 1900, 5353, 40000)
UNUSED = (23, 81, 1025, 65535)
"""Ports that nobody listens at: the host would refuse what reaches them."""
SAMPLE = (*sorted(OPEN), *BEHIND_TCP, *UNUSED)
SAMPLE_UDP = (*BEHIND_UDP, *UNUSED)

POLICY = """policy: {name}
rules:
  - rule: Nothing gets in unasked
    action: block
    when: opening
    filters: ["*=0"]
  - rule: Services
    action: permit
    filters: ["*=0:22,443:TCP"]
{more}"""

SERVICES = """
import select, socket, sys
tcp, udp = (list(map(int, word.split(","))) for word in sys.argv[1:])
poll, sockets = select.poll(), {}
for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    for kind, ports in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
        for port in ports:
            sock = socket.socket(family, kind)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            if kind == socket.SOCK_STREAM:
                sock.listen(1024)
            sock.setblocking(False)
            sockets[sock.fileno()] = sock
            poll.register(sock, select.POLLIN)
print("ready", flush=True)
while True:
    for number, _ in poll.poll():
        sock = sockets[number]
        try:
            if sock.type == socket.SOCK_STREAM:
                sock.accept()[0].close()
            else:
                data, sender = sock.recvfrom(65535)
                sock.sendto(b"hello", sender)
        except OSError:
            pass
"""


def program(name: str) -> str:
    """The path of a program of the laboratory; the test is skipped without it, and fails in CI."""
    needs_isolation()
    directories = [str(UNPACKED / part) for part in ("usr/bin", "usr/sbin")]
    path = shutil.which(name, path=os.pathsep.join(directories))
    if path is None:
        reason = f"{name} is not here: make base-system"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def services(
    where: Namespace = HOST,
    tcp: Sequence[int] = (*sorted(OPEN), *BEHIND_TCP),
    udp: Sequence[int] = BEHIND_UDP,
) -> AbstractContextManager[object]:
    """Services, IPv4 and IPv6, that answer whoever reaches them."""
    words = (",".join(map(str, ports)) for ports in (tcp, udp))
    return serving(where, SERVICES, *words)


class Found(NamedTuple):
    """What a scan tells of ports: numbers by state, and states that it only counts ports of."""

    ports: dict[str, frozenset[int]]
    others: dict[str, int]

    @property
    def states(self) -> frozenset[str]:
        """Every state that some port was found in."""
        return frozenset(self.ports) | frozenset(self.others)


def scan(address: str, *words: str) -> Found:
    """What nmap in the namespace of the peer finds; `words` say how it shall scan.

    It sends far faster than it would by itself, since nothing is lost on this wire, and what does
    not answer is asked once more.
    """
    family = ("-6",) if ":" in address else ()
    paths = f"{LIBRARIES}:{LIBRARIES / 'blas'}"
    environment = ("env", f"LD_LIBRARY_PATH={paths}", f"NMAPDIR={UNPACKED / 'usr/share/nmap'}")
    speed = ("--min-rate", "20000", "--max-retries", "1", "--max-rtt-timeout", "300ms")
    how = (*family, "--privileged", "-n", "-Pn", "-T4", *speed)
    return read(run(*OUTSIDE, *environment, program("nmap"), *how, "-oX", "-", *words, address))


def read(text: str) -> Found:
    """What a report of nmap, in XML, says of the one host that was scanned."""
    (host,) = ET.fromstring(text).iter("host")
    ports: dict[str, set[int]] = defaultdict(set)
    for port in host.iter("port"):
        state = port.find("state")
        assert state is not None
        ports[state.attrib["state"]].add(int(port.attrib["portid"]))
    others = {
        group.attrib["state"]: int(group.attrib["count"]) for group in host.iter("extraports")
    }
    return Found({state: frozenset(numbers) for state, numbers in ports.items()}, others)


def listed(ports: Sequence[int]) -> str:
    """Ports as nmap takes them."""
    return ",".join(map(str, ports))
