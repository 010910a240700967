"""What the daemon costs while nothing happens: per cent of one core, with few links and with many.

A whole daemon with `backend: xdp`, beside the same with `backend: nftables`. Arguments: seconds of
each measurement, and numbers of links. More than a hundred are refused: Linux 6.18 can hang when a
thousand links of programs are released at once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.isolation import must_be_isolated

SECONDS, LINKS = 4.0, (2, 40)
MOST_LINKS = 100
SETTLED_S = 1.5
BPFFS = Path("/sys/fs/bpf/bench-idle")


@contextmanager
def links(number: int) -> Iterator[None]:
    """So many links that carry nothing, in pairs."""
    names = [f"idle{n}" for n in range(0, number, 2)]
    try:
        for name in names:
            words = ("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}b")
            subprocess.run(words, check=True)
        yield
    finally:
        for name in names:
            subprocess.run(("ip", "link", "del", name), check=False)


class Running(NamedTuple):
    """A daemon: the number of its process, and its socket."""

    pid: int
    socket: Path


@contextmanager
def daemon(backend: str) -> Iterator[Running]:
    """A daemon that serves, with a policy of one rule."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        (path / "etc/policies").mkdir(parents=True)
        (path / "etc/ipsecd.yaml").write_text(f"backend: {backend}\n", encoding="ascii")
        (path / "etc/policies/p.yaml").write_text(
            'policy: P\nrules:\n- {rule: R, action: block, filters: ["*+0:1434:UDP"]}\n',
            encoding="ascii",
        )
        (path / "etc/assigned").symlink_to("policies/p.yaml")
        places = {"config": path / "etc", "state": path / "lib", "runtime": path / "run"}
        words = [f"--{kind}-dir={place}" for kind, place in places.items()]
        words += [f"--config={path / 'etc/ipsecd.yaml'}", f"--bpffs-dir={BPFFS}"]
        binary = Path(sys.executable).parent / "ipsecd"
        process = subprocess.Popen([str(binary), *words], stderr=subprocess.DEVNULL)
        try:
            running = Running(process.pid, path / "run/ipsecd.sock")
            while not running.socket.exists() and process.poll() is None:
                time.sleep(0.05)
            yield running
        finally:
            process.terminate()
            process.wait()


def cpu_seconds(pid: int) -> float:
    """What the threads of a process have run so far, to the nanosecond (proc_pid_schedstat(5)).

    The times that the kernel counts in ticks miss a thread that wakes up for less than a tick.
    """
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return (
        sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks)
        / 1e9
    )


def idle(backend: str, seconds: float) -> float:
    """Per cent of one core that a daemon takes."""
    with daemon(backend) as running:
        time.sleep(SETTLED_S)
        begun, before = time.monotonic(), cpu_seconds(running.pid)
        time.sleep(seconds)
        return 100 * (cpu_seconds(running.pid) - before) / (time.monotonic() - begun)


def main() -> None:
    must_be_isolated()
    seconds = float(sys.argv[1]) if sys.argv[1:] else SECONDS
    numbers = [int(word) for word in sys.argv[2:]] or list(LINKS)
    if max(numbers) > MOST_LINKS:
        sys.exit(f"at most {MOST_LINKS} links")
    print("per cent of a core, idle")
    for number in numbers:
        with links(number):
            for backend in ("nftables", "xdp"):
                print(f"  {backend:8} {number:3} links {idle(backend, seconds):6.2f}", flush=True)


if __name__ == "__main__":
    main()
