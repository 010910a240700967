"""What a packet costs in ipsecd's XDP program and in xdp-filter, on the same rule.

Both are loaded as a user would load them, on a veth pair, and run by the kernel's test run: the
program that is attached, which for xdp-filter is the dispatcher that libxdp puts before it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench.classify import HOST, ME_ADDRESS, measure, ports_blocked, timed
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.volatile import Volatile
from tests.frames import frame_of

DROP, PASS = 1, 2


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@contextmanager
def link() -> Iterator[str]:
    run("ip", "link", "add", "bench0", "type", "veth", "peer", "name", "bench1")
    try:
        yield "bench0"
    finally:
        run("ip", "link", "delete", "bench0")


def main() -> None:
    if shutil.which("xdp-filter") is None:
        print("xdp-filter is not installed (Debian: xdp-tools); nothing to compare with")
        return
    hit = frame_of(source=0xC0000201, destination=ME_ADDRESS, source_port=4000, port=1434)
    miss = frame_of(source=0xC0000201, destination=ME_ADDRESS, source_port=4000, port=53)
    programs = Programs()
    programs.set_host(HOST)
    programs.apply(ports_blocked(1), Volatile())
    ours = programs.program("receive_lan")
    # As it is loaded by default, and with the one feature that this rule needs.
    for features in ("all", "udp"):
        with link() as name:
            run("xdp-filter", "load", "--mode", "native", "--features", features, name)
            run("xdp-filter", "port", "--mode", "dst", "--proto", "udp", "1434")
            number = json.loads(run("ip", "-j", "link", "show", name))[0]["xdp"]["prog"]["id"]
            theirs = libbpf.program_by_id(number)
            for what, frame, verdict in (("dropped", hit, DROP), ("passed", miss, PASS)):
                rows = measure(
                    {"ipsecd": timed(ours, frame, verdict), "filter": timed(theirs, frame, verdict)}
                )
                print(
                    f"{what:8} ipsecd {rows['ipsecd']:5.0f} ns"
                    f"   xdp-filter ({features}) {rows['filter']:5.0f} ns"
                    f"   ratio {rows['ipsecd'] / rows['filter']:.2f} (at most 1)"
                )
            run("xdp-filter", "unload", name)


if __name__ == "__main__":
    main()
