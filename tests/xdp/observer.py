"""Finds out what the programs read in a frame, by what they drop and what they count."""

from __future__ import annotations

import struct
from dataclasses import replace
from math import inf

from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.model.addresses import Family, Network
from ipsecd.model.icmp import IcmpMessage
from ipsecd.model.packets import Host
from ipsecd.model.values import (
    ICMP,
    IPV6_EXTENSION_HEADERS,
    Action,
    Endpoint,
    Filter,
    InForce,
    Origin,
    PortRange,
)
from tests.xdp.reference_parser import Seen

DROPPED = {"receive": 1, "arrive": 2, "leave": 2}
LARGEST_XDP_FRAME = 3500
"""The longest frame that a test run of XDP takes: about a page."""
_NETWORK_HEADERS = {b"\x08\x00": 20, b"\x86\xdd": 40}


def takes(hook: str, frame: bytes) -> bool:
    """Whether a test run takes the frame; that of tc wants a whole header after an IP type."""
    if hook == "receive":
        return 14 <= len(frame) <= LARGEST_XDP_FRAME
    return len(frame) >= 14 + _NETWORK_HEADERS.get(frame[12:14], 1)


class Observer:
    """Programs under a policy that blocks nothing that is sent, so what is unreadable counts."""

    def __init__(self) -> None:
        self.programs = Programs()
        self.programs.set_host(Host())
        self._volatile = Volatile()
        never = Filter(
            Endpoint(Network(Family.IPV4, 0xF0F0F0F0, 32)), Endpoint(), 254, mirrored=False
        )
        policy = compile_filters([InForce(Origin("static", "P", "R"), never, Action.BLOCK)])
        self.programs.apply(policy, self._volatile)
        # So that a filter of one of these shapes can be added later as one entry in a map.
        for family in Family:
            first, second = (
                Endpoint(Network(family, 0xF0F0F0F0 + n, family.bits)) for n in range(2)
            )
            shapes = [
                Filter(
                    replace(first, ports=source_ports), replace(second, ports=destination_ports), 17
                )
                for source_ports in ((), (PortRange(1, 1),))
                for destination_ports in ((), (PortRange(1, 1),))
            ]
            shapes.append(Filter(first, second))
            shapes.append(Filter(first, second, ICMP, message=IcmpMessage(255, 255, 255)))
            for number, shape in enumerate(shapes):
                origin = Origin("dynamic", "", f"{family}-{number}")
                rows = rows_of([InForce(origin, shape, Action.BLOCK)])
                self.programs.change(self._volatile.change(add=rows), self._volatile)

    def run(self, hook: str, frame: bytes, *, bare: bool = False) -> bool:
        """Whether a program drops a frame."""
        context = None if hook == "receive" else struct.pack("=192x")
        name = f"{hook}_lan{'_bare' if bare else ''}"
        value, _ = libbpf.run_program(self.programs.program(name), frame, context=context)
        return value == DROPPED[hook]

    def result(self, hook: str, frame: bytes, *, bare: bool = False) -> str:
        """How a program reads a frame: the name of the parse result."""
        before = self.programs.parse_results()
        self.run(hook, frame, bare=bare)
        after = self.programs.parse_results()
        rose = [name for name in after if after[name] != before[name]]
        assert len(rose) <= 1
        return rose[0] if rose else "parsed"

    def sees(self, hook: str, frame: bytes, expected: Seen, *, bare: bool = False) -> bool:
        """Whether a program reads exactly what is `expected`: a filter for just that drops it."""
        volatile = self._volatile
        exact = InForce(Origin("dynamic", "", "exact"), exactly(expected), Action.BLOCK)
        self.programs.change(volatile.change(add=rows_of([exact]), deadline=inf), volatile)
        try:
            return self.run(hook, frame, bare=bare)
        finally:
            self.programs.change(volatile.change(remove=[exact.origin]), volatile)

    def close(self) -> None:
        self.programs.close()


def exactly(expected: Seen) -> Filter:
    """The filter for packets with just these addresses, this protocol and these ports."""
    ends = [
        Endpoint(
            Network(expected.family, address, expected.family.bits),
            (PortRange(port, port),) if port else (),
        )
        for address, port in (
            (expected.source, expected.source_port),
            (expected.destination, expected.destination_port),
        )
    ]
    hidden = expected.family is Family.IPV6 and expected.protocol in IPV6_EXTENSION_HEADERS
    message = IcmpMessage(expected.message[0], *expected.message) if expected.message else None
    return Filter(ends[0], ends[1], None if hidden else expected.protocol, message=message)
