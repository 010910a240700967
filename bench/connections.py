"""What XDP would gain if it asked for a packet's connection: ``bpf_xdp_ct_lookup`` (Linux 5.18).

A flood of SYNs at a closed port of a host that nothing gets into unasked, in which every frame has
another source, is dropped by ipsecd as it is, by programs that ask, and by programs that drop at
once. Frames and rates are those of ``bench.opening``. Then what an answer costs: by the kernel's
own timer, of packets with an entry in the table of connections and without.
"""

from __future__ import annotations

import os
import socket
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from bench.classify import measure, timed
from bench.isolation import must_be_isolated
from bench.opening import CLOSED, OPEN, PERMIT, PERMITTED, ROUNDS, ground, ours, rate, stretches
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.host.interfaces import HostReader
from ipsecd.language.reading import parse_policy
from ipsecd.model.values import Store, filters_of
from tests.frames import frame_of
from tests.netns.scans import POLICY, services
from tests.netns.site import HERE4, HOST, PEER4

OBJECT = Path("build/connections.bpf.o")
XDP_DROP, XDP_PASS = 1, 2
ASKING = "ipsecd_then_ask"


def programs() -> Programs:
    """Programs that hold the policy of the host."""
    loaded = Programs(path=OBJECT, alone=False)
    loaded.set_host(HostReader()().host)
    policy = parse_policy(POLICY.format(name="Host", more=PERMIT))
    loaded.apply(compile_filters(filters_of(policy, Store.STATIC)), Volatile())
    return loaded


@contextmanager
def before_nftables(name: str) -> Iterator[None]:
    """A program of the bench, and behind it ipsecd with nftables."""
    with ours("nftables"):
        loaded = programs()
        where = socket.if_nametoindex("wire0")
        program = loaded.program(name)
        link = libbpf.create_link(program, where, libbpf.BPF_XDP, libbpf.XDP_FLAGS_DRV_MODE)
        try:
            yield
        finally:
            os.close(link)
            loaded.close()


WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "ipsecd, nftables": lambda: ours("nftables"),
    "ipsecd, XDP": lambda: ours("xdp"),
    "ipsecd, XDP that asks": lambda: before_nftables(ASKING),
    "nothing but asking": lambda: before_nftables("ask"),
    "dropped when parsed": lambda: before_nftables("drop_parsed"),
    "dropped at once": lambda: before_nftables("drop_at_once"),
}


def floods() -> None:
    """Print what becomes of a flood in each way."""
    sent = stretches(CLOSED, tcp=True)
    rates: dict[str, list[float]] = {}
    with ground(), services(HOST, (22, OPEN, CLOSED), (PERMITTED,)):
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                with way():
                    rates.setdefault(name, []).append(rate(sent))
    base = statistics.median(rates["ipsecd, XDP"])
    for name in WAYS:
        value = statistics.median(rates[name])
        print(
            f"SYN, closed port  {name:22} {value / 1e6:5.2f} M/s {1e9 / value:5.0f} ns"
            f" {value / base:5.2f} times XDP's",
            flush=True,
        )


def answers() -> None:
    """Print what the answer costs, of a connection and of nothing that is one."""
    with ground(), ours("nftables"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((PEER4, PERMITTED))
        sock.send(b"datagram")
        loaded = programs()
        ends = {"source": int(IPv4Address(PEER4)), "destination": int(IPv4Address(HERE4))}
        mine = int(sock.getsockname()[1])
        answer = frame_of(**ends, source_port=PERMITTED, port=mine)
        unasked = frame_of(**ends, source_port=PERMITTED + 1, port=mine)
        receive, ask = loaded.program("receive_lan"), loaded.program(ASKING)
        figures = measure(
            {
                "an answer, as it is": timed(receive, answer, XDP_PASS),
                "an answer, asked about": timed(ask, answer, XDP_PASS),
                "what nobody asked for, as it is": timed(receive, unasked, XDP_PASS),
                "what nobody asked for, asked about": timed(ask, unasked, XDP_DROP),
            }
        )
        loaded.close()
    for name, nanoseconds in figures.items():
        print(f"{name:36} {nanoseconds:5.0f} ns")


def main() -> None:
    must_be_isolated()
    answers()
    floods()


if __name__ == "__main__":
    main()
