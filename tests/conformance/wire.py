"""Real packets for backends that the kernel carries out: a link to a peer, and what arrived.

A datagram is sent by a socket of one side and received by one of the other. After it goes a
frame that is not IP, which no filter looks at: a datagram that has not arrived before this frame
was dropped.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from pyroute2 import netns

from ipsecd.model.addresses import Family
from tests.netns.site import PATIENCE, run

PEER = "conformance"
NEAR_LINK, FAR_LINK = "near0", "far0"
ME = {Family.IPV4: "10.9.0.1", Family.IPV6: "fd09::1"}
PEERS = {Family.IPV4: ("10.9.0.2", "10.9.0.3"), Family.IPV6: ("fd09::2", "fd09::3")}
_LENGTHS = {Family.IPV4: 24, Family.IPV6: 64}
_AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
_LAST = 0x88B5
"""The type of the frame that comes last: one that IEEE 802 leaves to experiments."""
_SOURCE_PORT = 40_000
SO_RCVBUFFORCE = 33
"""Not in the socket module (asm-generic/socket.h)."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram between this host and one of the peer's addresses."""

    port: int
    family: Family = Family.IPV4
    peer: int = 0
    outgoing: bool = False

    @property
    def ends(self) -> tuple[str, str]:
        """The addresses of the sender and of the receiver."""
        peer = PEERS[self.family][self.peer]
        return (ME[self.family], peer) if self.outgoing else (peer, ME[self.family])


@dataclass
class Flood:
    """Datagrams that are sent until the end of a block, and how many of them there were."""

    sent: int = 0
    received: int = 0


@dataclass(eq=False)
class Side:
    """One end of the link: how its sockets are made, and the frames that come last."""

    link: str
    namespace: str
    sockets: dict[tuple[str, int], socket.socket] = field(default_factory=dict)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Run the block in the network namespace of this side."""
        if not self.namespace:
            yield
            return
        netns.pushns(self.namespace)
        try:
            yield
        finally:
            netns.popns()

    def open(self) -> None:
        """Open the socket for the frames that come last."""
        with self.inside():
            self.last = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self.last.bind((self.link, _LAST))
            self.last.settimeout(10 * PATIENCE)

    def at(self, address: str, port: int) -> socket.socket:
        """The socket of an address and port, which is made when it is first needed."""
        sock = self.sockets.get((address, port))
        if sock is None:
            with self.inside():
                sock = socket.socket(
                    socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM
                )
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
                sock.setblocking(False)
                sock.bind((address, port))
            self.sockets[address, port] = sock
        return sock

    def take(self, address: str, port: int) -> Counter[str]:
        """Read the datagrams that have come to an address and port; their number by sender."""
        by_sender: Counter[str] = Counter()
        while True:
            try:
                _, sender = self.at(address, port).recvfrom(64)
            except BlockingIOError:
                return by_sender
            by_sender[sender[0]] += 1

    def close(self) -> None:
        """Close every socket."""
        for sock in (self.last, *self.sockets.values()):
            sock.close()


class Wire:
    """The link, and both of its ends."""

    def __init__(self) -> None:
        self._near, self._far = Side(NEAR_LINK, ""), Side(FAR_LINK, PEER)
        self._cleanup = ExitStack()
        run("ip", "netns", "add", PEER)
        self._cleanup.callback(run, "ip", "netns", "delete", PEER)
        peer = ("peer", "name", FAR_LINK, "netns", PEER)
        run("ip", "link", "add", NEAR_LINK, "type", "veth", *peer)
        self._cleanup.callback(run, "ip", "link", "delete", NEAR_LINK)
        # Nothing may wait for a neighbour to answer: every packet goes out at once, or never.
        hardware = {NEAR_LINK: "02:00:00:00:00:01", FAR_LINK: "02:00:00:00:00:02"}
        for side, addresses, neighbours in (
            (self._near, [(f, ME[f]) for f in Family], PEERS),
            (self._far, [(f, a) for f in Family for a in PEERS[f]], {f: (ME[f],) for f in Family}),
        ):
            ip = ("ip", "-n", side.namespace) if side.namespace else ("ip",)
            # Without addresses of its own a link says nothing that a rule could count.
            run(*ip, "link", "set", side.link, "addrgenmode", "none")
            run(*ip, "link", "set", side.link, "address", hardware[side.link])
            run(*ip, "link", "set", side.link, "up")
            for family, address in addresses:
                whole = f"{address}/{_LENGTHS[family]}"
                nodad = ("nodad",) if family is Family.IPV6 else ()
                run(*ip, "address", "add", whole, "dev", side.link, *nodad)
            (opposite,) = set(hardware) - {side.link}
            for address in (address for of_family in neighbours.values() for address in of_family):
                words = ("lladdr", hardware[opposite], "dev", side.link, "nud", "permanent")
                run(*ip, "neigh", "replace", address, *words)
            side.open()
        self._cleanup.callback(self._near.close)
        self._cleanup.callback(self._far.close)

    def close(self) -> None:
        """Remove the link and the namespace of the peer."""
        self._cleanup.close()

    def passes(self, *datagrams: Datagram) -> list[bool]:
        """Send the datagrams; for each, whether it arrives."""
        for datagram in datagrams:
            self._receiver(datagram)
        # On one processor: of packets that are sent on two, a later one may overtake an earlier.
        processors = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(processors)})
        try:
            for datagram in datagrams:
                self._send(datagram)
            self._wait()
        finally:
            os.sched_setaffinity(0, processors)
        came = self._taken(datagrams)
        assert all(came[datagram] in {0, datagrams.count(datagram)} for datagram in datagrams)
        return [bool(came[datagram]) for datagram in datagrams]

    @contextmanager
    def flood(self, *datagrams: Datagram) -> Iterator[Flood]:
        """Send datagrams over and over while the block runs."""
        flood, over = Flood(), threading.Event()
        self.passes(*datagrams)

        def send() -> None:
            while not over.is_set():
                for datagram in datagrams:
                    self._send(datagram)
                    flood.sent += 1
                time.sleep(0.001)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield flood
        finally:
            over.set()
            sender.join()
        # Packets in the queue of another processor arrive in less time than this.
        time.sleep(0.02)
        self._wait()
        flood.received = self._taken(datagrams).total()

    def _taken(self, datagrams: Sequence[Datagram]) -> Counter[Datagram]:
        """Read what has come; how often each of the datagrams is in it."""
        places = {
            (self._receiver(datagram), datagram.ends[1], datagram.port) for datagram in datagrams
        }
        taken = {place: place[0].take(*place[1:]) for place in places}
        return Counter(
            {
                datagram: taken[self._receiver(datagram), datagram.ends[1], datagram.port][
                    datagram.ends[0]
                ]
                for datagram in datagrams
            }
        )

    def _sides(self, datagram: Datagram) -> tuple[Side, Side]:
        return (self._near, self._far) if datagram.outgoing else (self._far, self._near)

    def _receiver(self, datagram: Datagram) -> Side:
        side = self._sides(datagram)[1]
        side.at(datagram.ends[1], datagram.port)
        return side

    def _send(self, datagram: Datagram) -> None:
        source, target = datagram.ends
        # If the output hook drops a packet the kernel tells the sender: then it did not pass.
        with suppress(PermissionError):
            self._sides(datagram)[0].at(source, _SOURCE_PORT).sendto(b"x", (target, datagram.port))

    def _wait(self) -> None:
        """Return when all that was sent before has arrived or was dropped."""
        frame = b"\xff" * 12 + _LAST.to_bytes(2, "big") + bytes(46)
        for sender, receiver in ((self._near, self._far), (self._far, self._near)):
            sender.last.send(frame)
            receiver.last.recv(64)
