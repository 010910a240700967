"""Ways in which packets are delivered here that nothing foresees when they arrive."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.netns.site import HERE4, HERE6, HOST, PEER, inside, listening, python, run

ANYWHERE4, ANYWHERE6 = "198.51.100.7", "2001:db8:7::7"
"""Addresses that the peer sends to this host, and that are not its own."""
MACHINES = ("machine1", "machine2")
BROADCAST = """
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
for n in range(5):
    sock.sendto(b"x", (address, port))
"""
BRIDGED = ("10.99.0.255", "255.255.255.255", "ff02::1")
"""Addresses of all on a link."""


@contextmanager
def local_by(selector: str) -> Iterator[None]:
    """Networks that are this host's in a table of routes of their own, by a rule.

    The routing type of their addresses, which looks into the local table, says nothing of that:
    so it is as with an address that arrives after the question.
    """
    commands = []
    for version, network, gateway in (
        ("-4", "198.51.100.0/24", HERE4),
        ("-6", "2001:db8:7::/64", HERE6),
    ):
        run("ip", version, "route", "add", "local", network, "dev", "lo", "table", "100")
        run("ip", version, "rule", "add", *selector.split(), "table", "100")
        run("ip", "-n", PEER, version, "route", "add", network, "via", gateway)
        commands.append(version)
    try:
        yield
    finally:
        for version in commands:
            run("ip", version, "rule", "delete", *selector.split(), "table", "100")
            run("ip", version, "route", "flush", "table", "100")


@contextmanager
def machines() -> Iterator[None]:
    """Two virtual machines on a bridge of this host, whose frames meet the firewall."""
    run("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    run("ip", "address", "add", "10.99.0.1/24", "brd", "+", "dev", "br0")
    run("ip", "link", "set", "br0", "up")
    for number, name in enumerate(MACHINES, 1):
        run("ip", "netns", "add", name)
        port = f"port{number}"
        run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", port, "master", "br0", "up")
        address = f"10.99.0.{number + 1}/24"
        run("ip", "-n", name, "address", "add", address, "brd", "+", "dev", "eth0")
        # Without duplicate address detection, for which the datagrams would have to wait.
        run("ip", "-n", name, "link", "set", "eth0", "addrgenmode", "none", "up")
        address = f"fe80::{number + 1}/64"
        run("ip", "-n", name, "address", "add", address, "dev", "eth0", "nodad")
    for version in ("ip", "ip6"):
        run("sysctl", "-qw", f"net.bridge.bridge-nf-call-{version}tables=1")
    try:
        yield
    finally:
        run("ip", "link", "delete", "br0")
        # A namespace goes some time after it was deleted, and its links with it.
        for number in range(1, len(MACHINES) + 1):
            run("ip", "link", "delete", f"port{number}")
        for name in MACHINES:
            run("ip", "netns", "delete", name)


def heard_from_first_machine(address: str) -> tuple[int, int]:
    """How many of five datagrams to all reach the other machine, and this host."""
    version = "::" if ":" in address else "0.0.0.0"
    first, second = map(inside, MACHINES)
    with listening(second, version, 67) as there, listening(HOST, version, 67) as here:
        subprocess.run(python(first, BROADCAST, address, "67"), check=True)
        return there(), here()
