"""How long it takes to say which open connections a change would cut, and what bans wait meanwhile.

Tracked connections to a published port are put into the kernel's table, as many as the arguments
say, and are judged by a policy of eight filters, which cuts a third of them; bans are made in the
engine's line all the while. Run it in namespaces of its own:

    tests/isolated .venv/bin/python -m bench.live 10000 100000
"""

from __future__ import annotations

import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from bench.isolation import must_be_isolated
from ipsecd.backend.memory import MemoryBackend
from ipsecd.config import Config, Directories
from ipsecd.control import Control, live
from ipsecd.engine import Engine
from ipsecd.host.conntrack import NETLINK_NETFILTER
from ipsecd.host.netlink import HEADER, NLM_F_ACK, NLM_F_REQUEST, attribute
from ipsecd.language.documents import parse_policy
from ipsecd.service.engine_lines import EngineLines

POLICY = b"""policy: P
rules:
  - rule: R
    action: block
    filters: ["*=0:22:TCP", "*=0:25:TCP", "10.0.128.0/17=0:8080:TCP", "*=0:1-1023:UDP",
              "0=*:25:TCP", "203.0.113.0/24=0"]
  - rule: S
    action: permit
    filters: ["*=0:443:TCP", "192.0.2.0/24=0:22:TCP"]
"""
HERE, BOX = socket.inet_aton("198.51.100.1"), socket.inet_aton("10.88.0.5")
NEW, NLM_F_CREATE = 1 << 8, 0x400
NESTED = 0x8000
ANSWERED_AND_TRANSLATED = 2 | 4 | 8 | 1 << 5 | 1 << 7 | 1 << 8
"""``IPS_SEEN_REPLY``, ``IPS_ASSURED``, ``IPS_CONFIRMED``, and those of translated destinations."""
BATCH, PAUSE_S, BEFORE = 5000, 0.05, 60


def way(kind: int, source: bytes, destination: bytes, ports: tuple[int, int]) -> bytes:
    addresses = attribute(1, source) + attribute(2, destination)
    protocol = attribute(1, bytes((socket.IPPROTO_TCP,)))
    protocol += b"".join(attribute(n, port.to_bytes(2, "big")) for n, port in enumerate(ports, 2))
    return attribute(
        kind | NESTED, attribute(1 | NESTED, addresses) + attribute(2 | NESTED, protocol)
    )


def track(number: int) -> None:
    """Put so many connections into the table, each of another client."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        for n in range(number):
            client, port = (0x0A000100 + n).to_bytes(4, "big"), 1024 + n % 60000
            body = bytes((socket.AF_INET, 0, 0, 0))
            body += way(1, client, HERE, (port, 8080)) + way(2, BOX, client, (8000, port))
            body += attribute(3, ANSWERED_AND_TRANSLATED.to_bytes(4, "big"))
            body += attribute(7, (100_000).to_bytes(4, "big"))
            established = attribute(1 | NESTED, attribute(1, b"\3"))
            body += attribute(4 | NESTED, established)
            asks = n % BATCH == 0
            flags = NLM_F_REQUEST | NLM_F_CREATE | (NLM_F_ACK if asks else 0)
            netlink.send(HEADER.pack(HEADER.size + len(body), NEW, flags, n, 0) + body)
            if asks:
                netlink.recv(4096)


def judged(waiting: live.Unjudged) -> tuple[float, dict[str, int]]:
    """The seconds of the processor that it takes, and what is said."""
    begun = time.thread_time()
    reply = {"live": waiting}
    live.judge(reply)
    said: dict[str, int] = reply["live"]  # type: ignore[assignment]
    return time.thread_time() - begun, said


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def main(numbers: list[int]) -> None:
    must_be_isolated()
    run("ip", "link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
    run("ip", "address", "add", "198.51.100.1/24", "dev", "wire0")
    for name in ("wire0", "wire1"):
        run("ip", "link", "set", name, "up")
    run("ip", "route", "add", "default", "via", "198.51.100.2")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        directories = Directories(path / "etc", path / "lib", path / "run")
        engine = Engine(Config(), directories, MemoryBackend)
        control = Control(engine)
        lines = EngineLines(control)
        lines.at_once(engine.start)
        bans = count()

        def ban() -> float:
            begun, n = time.perf_counter(), next(bans)
            given = {"filters": [f"203.0.{n >> 8}.{n & 255}=0"], "action": "block", "name": str(n)}
            lines.at_once(lambda: control.call("AddDynamic", given, "bench", {}, None))
            time.sleep(PAUSE_S)
            return (time.perf_counter() - begun - PAUSE_S) * 1000

        alone = [ban() for _ in range(BEFORE)]
        print(f"a ban alone: {statistics.median(alone):.1f} ms, the longest {max(alone):.0f}")
        for number in numbers:
            track(number)
            after = engine.outlook.assumed(engine.state, parse_policy(POLICY), {})
            waiting = live.Unjudged(engine.state, after, frozenset({22}))
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(judged, waiting)
                beside = []
                while not answer.done():
                    beside.append(ban())
            seconds, said = answer.result()
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            print(
                f"{said['looked_at']:,} connections, {said['cut']:,} cut: {seconds:.1f} s of a "
                f"processor, {memory} MiB in all; a ban beside it: {statistics.median(beside):.1f} "
                f"ms, the longest {max(beside):.0f} of {len(beside)}"
            )
        lines.shut_down()


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [10_000, 100_000])
