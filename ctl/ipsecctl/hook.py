"""Owns what is done before a container starts: its addresses go to the daemon first.

An OCI runtime runs this with the container's state on standard input (config.md of the runtime
specification, createRuntime), when its network is there and nothing in it runs yet. A container
that uses the network of this host has no addresses of its own, and is not announced. No container
is ever kept from starting: it starts even if there is no daemon, or one that does not know it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from ipsecctl.client import Client
from ipsecd.errors import IpsecdError, NotFound
from ipsecd.output import begin, complain_text, finish

PATIENCE_S, PAUSE_S = 1.5, 0.02
ANSWER_S = 2.0
"""PATIENCE_S and ANSWER_S are together less than the time after which a runtime gives up a hook."""
PROCESSES = Path("/proc")
_LOOPBACK = "lo"
_LINK_LOCAL = "20"
"""The scope of addresses that no engine lists, in the hexadecimal of if_inet6 (linux/ipv6.h)."""


def main() -> int:
    """Announce the container; the exit code is 0 in any case."""
    begin()
    try:
        state = json.load(sys.stdin)
        process = PROCESSES / str(int(state["pid"]))
        others = sharing(process)
        if os.getpid() not in others:
            addresses = [*ipv4(process / "net"), *ipv6(process / "net")]
            client = Client(timeout_s=ANSWER_S)
            announce(client, str(state["id"]), addresses, shared=bool(others))
    except (IpsecdError, OSError, ValueError, KeyError, TypeError) as error:
        complain_text(f"ipsecd: the container starts without being announced: {error}")
    return finish(0, "ipsecctl")


def announce(client: Client, identity: str, addresses: list[str], *, shared: bool) -> None:
    """Tell the daemon, and again while it does not know the container; raises ``IpsecdError``."""
    parameters = {"id": identity, "addresses": addresses, "shared": shared}
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            client.call("AnnounceContainer", parameters)
        except NotFound:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)
        else:
            return


def sharing(process: Path) -> set[int]:
    """The ids of the other processes in the network namespace of `process`, as in a pod."""
    namespace = (process / "ns/net").stat().st_ino
    sharers = set()
    for entry in PROCESSES.glob("[0-9]*"):
        # Processes end at any time.
        with suppress(OSError):
            if entry != process and (entry / "ns/net").stat().st_ino == namespace:
                sharers.add(int(entry.name))
    return sharers


def ipv4(network: Path) -> list[str]:
    """The IPv4 addresses in a network namespace, but for 127.0.0.0/8 (fib_trie of proc(5))."""
    addresses: dict[str, None] = {}
    address = ""
    for line in (network / "fib_trie").read_text(encoding="ascii").splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            address = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"] and not address.startswith("127."):
            addresses[address] = None
    return list(addresses)


def ipv6(network: Path) -> list[str]:
    """The IPv6 addresses in a network namespace, but for loopback and link-local (if_inet6)."""
    try:
        lines = (network / "if_inet6").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    addresses = []
    for line in lines:
        digits, _, _, scope, _, name = line.split()
        if name != _LOOPBACK and scope != _LINK_LOCAL:
            addresses.append(":".join(digits[n : n + 4] for n in range(0, 32, 4)))
    return addresses


if __name__ == "__main__":
    sys.exit(main())
