"""A switch in the namespace of the tests, with machines on it that can be cut off.

The machines are network namespaces: ``10.99.0.0/24``, and the tests themselves have an address
there too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.netns.site import Namespace, inside, needs_isolation, own_name, run

SWITCH = "switch"
NETWORK = "10.99.0"
HERE = f"{NETWORK}.254"


@dataclass
class Lab:
    """Machines by their addresses, each with the port of the switch that it is at."""

    ports: dict[str, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)

    def machine(self, number: int) -> tuple[str, Namespace]:
        """A new machine: its address, and what runs a command on it."""
        name = own_name(f"lab{number}")
        run("ip", "netns", "add", name)
        self.made.append(name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        return self.plug(name, number), inside(name)

    def plug(self, namespace: str, number: int) -> str:
        """Connect a network namespace to the switch; its address there."""
        port, address = f"port{number}", f"{NETWORK}.{number}"
        link = ("type", "veth", "peer", "name", "lab0", "netns", namespace)
        run("ip", "link", "add", port, *link)
        run("ip", "link", "set", port, "master", SWITCH, "up")
        run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "lab0")
        run("ip", "-n", namespace, "link", "set", "lab0", "up")
        self.ports[address] = port
        return address

    def cut(self, addresses: Iterable[str]) -> None:
        """Pull the cables of some machines."""
        for address in addresses:
            run("ip", "link", "set", self.ports[address], "down")

    def heal(self, addresses: Iterable[str]) -> None:
        """Put the cables back."""
        for address in addresses:
            run("ip", "link", "set", self.ports[address], "up")

    def close(self) -> None:
        """Remove the machines and the switch."""
        for name in self.made:
            run("ip", "netns", "delete", name)
        run("ip", "link", "delete", SWITCH)


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    needs_isolation()
    run("ip", "link", "add", SWITCH, "type", "bridge")
    run("ip", "address", "add", f"{HERE}/24", "dev", SWITCH)
    run("ip", "link", "set", SWITCH, "up")
    made = Lab()
    try:
        yield made
    finally:
        made.close()


def separate(where: Namespace, others: Iterable[str]) -> None:
    """Let a machine lose all packets from and to others; it hears everybody else."""
    listed = ", ".join(others)
    run(
        *(*where, "nft", "add table inet cut; "),
        "add chain inet cut in { type filter hook input priority 0; }; "
        "add chain inet cut out { type filter hook output priority 0; }; "
        f"add rule inet cut in ip saddr {{ {listed} }} drop; "
        f"add rule inet cut out ip daddr {{ {listed} }} drop",
    )


def unite(where: Namespace) -> None:
    """Let a machine hear all others again."""
    run(*where, "nft", "delete table inet cut")
