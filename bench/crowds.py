"""How long ``ipsecctl status`` takes on hosts with very many links or addresses.

Whole processes, with `backend: nftables` and `backend: xdp`, while nothing happens and while an
address comes and goes. The many links are ports of bridges, which get no programs: Linux 6.18 can
hang when a thousand links of programs are released at once. It needs namespaces of its own.
Arguments: numbers of links, of links with programs, and of addresses.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.idle import daemon
from bench.isolation import must_be_isolated
from bench.timing import host_address

LINKS, WITH_PROGRAMS, ADDRESSES = 3000, 100, 100_000
MOST_WITH_PROGRAMS = 200
HOLDERS = 20
"""How many links the addresses are spread over."""
PORTS = 1000
"""How many ports a bridge gets; 1,024 are the most (BR_MAX_PORTS)."""
RUNS = 20
SETTLED_S = 3.0
PAUSE_S = 0.1
CHANGING = "198.51.100.1/32"


def ip(lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    subprocess.run(["ip", "-batch", "-"], input=text, text=True, check=True)


def pairs(number: int) -> list[str]:
    """Make so many links, in pairs; the names of their first ends."""
    names = [f"crowd{n}" for n in range(number // 2)]
    ip(f"link add {name} type veth peer name {name}b" for name in names)
    return names


def ports(number: int) -> list[str]:
    """Make so many ports of bridges; the names of what has to be deleted."""
    names = pairs(number)
    bridges = [f"bridge{n}" for n in range(1 + len(names) * 2 // PORTS)]
    ip(f"link add {name} type bridge" for name in bridges)
    ends = [f"{name}{end}" for name in names for end in ("", "b")]
    ip(f"link set {name} master bridge{n // PORTS}" for n, name in enumerate(ends))
    return [*names, *bridges]


def addresses(number: int) -> list[str]:
    """Make links, and add so many addresses to them, every fourth of IPv6."""
    names = pairs(2 * HOLDERS)
    ip(
        f"address add fd00::{n >> 16:x}:{n & 0xFFFF:x}/128 dev {names[n % HOLDERS]} nodad"
        if n // HOLDERS % 4 == 0
        else f"address add {host_address(n)}/32 dev {names[n % HOLDERS]}"
        for n in range(number)
    )
    return names


@contextmanager
def crowd(make: Callable[[int], list[str]], number: int) -> Iterator[None]:
    """A crowd of links or addresses, and nothing of it afterwards."""
    names = make(number)
    try:
        yield
    finally:
        ip(f"link delete {name}" for name in names)


@contextmanager
def changes() -> Iterator[None]:
    """An address comes and goes."""
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            for verb in ("add", "delete"):
                ip([f"address {verb} {CHANGING} dev lo"])
                over.wait(PAUSE_S)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def status_s(socket: Path) -> list[float]:
    """The seconds that each of some calls takes."""
    words = (str(Path(sys.executable).parent / "ipsecctl"), "status")
    taken = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        subprocess.run(
            words,
            env={**os.environ, "IPSECD_SOCKET": str(socket)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        taken.append(time.perf_counter() - begun)
        time.sleep(PAUSE_S)
    return taken


def say(what: str, taken: list[float]) -> None:
    median, longest = statistics.median(taken), max(taken)
    print(f"    {what:26} median {median * 1e3:7.1f}  longest {longest * 1e3:7.1f}", flush=True)


def main() -> None:
    must_be_isolated()
    asked = [int(word) for word in sys.argv[1:]]
    numbers = [*asked, *(LINKS, WITH_PROGRAMS, ADDRESSES)[len(asked) :]]
    if numbers[1] > MOST_WITH_PROGRAMS:
        sys.exit(f"at most {MOST_WITH_PROGRAMS} links with programs")
    print("ipsecctl status as a whole process, milliseconds")
    crowds = ((ports, "ports of bridges"), (pairs, "links with programs"), (addresses, "addresses"))
    for (make, what), number in zip(crowds, numbers, strict=True):
        with crowd(make, number):
            for backend in ("nftables", "xdp"):
                print(f"  {number:,} {what}, {backend}", flush=True)
                with daemon(backend) as running:
                    time.sleep(SETTLED_S)
                    say("while nothing happens", status_s(running.socket))
                    with changes():
                        say("while an address changes", status_s(running.socket))


if __name__ == "__main__":
    main()
