"""What the second look costs a packet that is delivered here: measured with it and without it.

A veth carries datagrams from another namespace to a socket here. What a send takes is all that
happens to the datagram, the receiving stack and the rules too, so the difference is the second
look. The least of many rounds counts: the machine may do other things meanwhile.
"""

from __future__ import annotations

import socket
import subprocess
import time

from pyroute2 import netns

from bench.isolation import must_be_isolated
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.values import Action, InForce, Origin
from tests.netns.site import HERE4, PEER, wire

ROUNDS, PACKETS, PORT = 40, 5_000, 5000
POLICIES = {
    "one port blocked": (Action.BLOCK, ("*=0:1434:UDP",), ()),
    "one port audited": (Action.AUDIT, ("*=0:1434:UDP",), ()),
    "an exact port permitted, the rest blocked": (Action.BLOCK, ("*=0",), (f"*=0:{PORT}:UDP",)),
    "all but twenty sources blocked": (
        Action.BLOCK,
        ("*=0",),
        (*(f"203.0.113.{n}=0:{PORT}:UDP" for n in range(20)), "192.168.1.0/24=0"),
    ),
}


def sending(port: int) -> socket.socket:
    """A socket in the peer's namespace, connected to a port here."""
    netns.pushns(PEER)
    try:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.connect((HERE4, port))
    finally:
        netns.popns()
    return sender


def nanoseconds(sender: socket.socket, receiver: socket.socket) -> float:
    """The mean time of a packet in one round, in nanoseconds; `receiver` is empty afterwards."""
    total = 0.0
    for _ in range(PACKETS // 100):
        before = time.perf_counter()
        for _ in range(100):
            sender.send(b"worm")
        total += time.perf_counter() - before
        for _ in range(100):
            receiver.recv(16)
    return total / PACKETS * 1e9


def main() -> None:
    """Print a line for each policy."""
    must_be_isolated()
    with (
        wire(),
        sending(PORT) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind((HERE4, PORT))
        receiver.settimeout(1)
        bare = min(nanoseconds(sender, receiver) for _ in range(ROUNDS))
        print(f"no rules: {bare:.0f} ns")
        for name, (stop, stops, permits) in POLICIES.items():
            # A table that others may change, so that its second look can be taken away.
            backend = NftablesBackend(protect=False)
            filters = [
                InForce(Origin("static", "P", f"{action.value} {text}"), parse_filter(text), action)
                for action, texts in ((stop, stops), (Action.PERMIT, permits))
                for text in texts
            ]
            policy = compile_filters(filters, [exemption.name for exemption in ESSENTIALS])
            best = {"with": float("inf"), "without": float("inf")}
            for _ in range(ROUNDS):
                backend.apply(policy, Volatile())
                best["with"] = min(best["with"], nanoseconds(sender, receiver))
                subprocess.run(["nft", "flush", "chain", "inet", "ipsecd", "delivered"], check=True)
                best["without"] = min(best["without"], nanoseconds(sender, receiver))
                assert backend.observe().drift
            backend.remove()
            backend.close()
            print(f"{name}: {best['without']:.0f} ns, {best['with']:.0f} ns with the second look")


if __name__ == "__main__":
    main()
