"""Seconds until the daemon is ready with a list of a million entries, and its memory, beside nft.

As at a boot: nothing is in the kernel, and the list has been read before. After a kill: all of it
is there. nft restores the same set (``nft -f``), of prefixes those that lie in no other. Beside the
seconds that pass stands the processor time, which other work on the machine leaves alone.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.classify import prefix_list
from bench.isolation import must_be_isolated
from bench.lists import ENTRIES, addresses, texts

POLICY = 'policy: P\nrules:\n  - {rule: drop, action: block, filters: ["@drop=0"]}\n'
BPFFS = "/sys/fs/bpf/ipsecd-bench"
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE_S = 120


class Host:
    """A directory with all that one daemon after the other needs."""

    def __init__(self, path: Path, backend: str, by_length: Mapping[int, set[int]]) -> None:
        self._path, self._backend = path, backend
        for name in ("etc/lists", "etc/policies", "lib", "run"):
            (path / name).mkdir(parents=True)
        with (path / "etc/lists/drop").open("w", encoding="ascii") as file:
            for length, drawn in by_length.items():
                file.writelines(f"{socket.inet_ntoa(a.to_bytes(4))}/{length}\n" for a in drawn)
        (path / "etc/policies/P.yaml").write_text(POLICY, encoding="ascii")
        (path / "etc/assigned").symlink_to("policies/P.yaml")

    def start(self, what: str, end: signal.Signals) -> None:
        """Print what a start costs, and end the daemon."""
        notify, log = self._path / "notify", self._path / "log"
        notify.unlink(missing_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
            log.open("w", encoding="utf-8") as errors,
        ):
            manager.bind(str(notify))
            manager.settimeout(PATIENCE_S)
            begun = time.perf_counter()
            daemon = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ipsecd", "--backend", self._backend),
                    *("--config-dir", str(self._path / "etc")),
                    *("--state-dir", str(self._path / "lib")),
                    *("--runtime-dir", str(self._path / "run")),
                    *("--bpffs-dir", BPFFS),
                ],
                env={**os.environ, "NOTIFY_SOCKET": str(notify)},
                stderr=errors,
            )
            while b"READY=1" not in manager.recv(4096):
                pass
            seconds = time.perf_counter() - begun
            line = f"ready {seconds:6.2f} s, {processor_s(daemon.pid):5.2f} s of a processor"
            if self._backend == "xdp":
                while "programs-in-force" not in log.read_text(encoding="utf-8"):
                    assert time.perf_counter() < begun + PATIENCE_S, log.read_text(encoding="utf-8")
                    time.sleep(0.1)
                seconds = time.perf_counter() - begun
                line += f"; programs {seconds:6.2f} s, {processor_s(daemon.pid):5.2f} s"
            now, most = memory_mb(daemon.pid)
            print(f"  ipsecd, {self._backend:9} {what:13} {line}; {now} MB, at most {most} MB")
            daemon.send_signal(end)
            daemon.wait(PATIENCE_S)


def processor_s(pid: int) -> float:
    """The seconds that a process has used of a processor, in itself and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid: int) -> tuple[int, int]:
    """The memory that a process has, and the most that it had."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    values = {
        name: int(rest.split()[0])
        for name, _, rest in (x.partition(":") for x in lines)
        if name.startswith("Vm")
    }
    return values["VmRSS"] // 1024, values["VmHWM"] // 1024


def add_link() -> None:
    """Have a link there, so that programs have something to be attached to."""
    subprocess.run(["ip", "link", "add", "bench0", "type", "veth", "peer", "bench1"], check=True)
    for name in ("bench0", "bench1"):
        subprocess.run(["ip", "link", "set", name, "up"], check=True)


def theirs(by_length: Mapping[int, set[int]], path: Path) -> None:
    """Print what nft takes to restore the set."""
    flags = "flags interval" if len(by_length) > 1 else f"size {2 * ENTRIES}"
    rules = path / "rules"
    rules.write_text(
        f"table inet bench {{\nset listed {{ type ipv4_addr; {flags};\nelements = {{"
        + ",\n".join(texts(by_length))
        + "} }\nchain c { type filter hook prerouting priority -301; ip saddr @listed drop\n}\n}\n",
        encoding="ascii",
    )
    begun = time.perf_counter()
    process = subprocess.Popen(["nft", "-f", str(rules)])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    seconds, processor = time.perf_counter() - begun, usage.ru_utime + usage.ru_stime
    most = f"at most {usage.ru_maxrss // 1024} MB"
    line = f"ready {seconds:6.2f} s, {processor:5.2f} s of a processor"
    print(f"  nft -f{'':26}{line}; {most}")
    subprocess.run(["nft", "delete table inet bench"], check=True)


def main() -> None:
    must_be_isolated()
    chance = random.Random(1434)
    backends = sys.argv[1:] or ["nftables", "xdp"]
    add_link()
    for title, drawn in (("addresses", addresses), ("prefixes of 24 lengths", prefix_list)):
        by_length = drawn(chance)
        print(f"{sum(map(len, by_length.values())):,} {title}")
        for backend in backends:
            with TemporaryDirectory() as directory:
                host = Host(Path(directory), backend, by_length)
                host.start("text read", signal.SIGTERM)
                host.start("boot", signal.SIGKILL)
                host.start("after a kill", signal.SIGKILL)
                host.start("after a kill", signal.SIGTERM)
        with TemporaryDirectory() as directory:
            theirs(by_length, Path(directory))


if __name__ == "__main__":
    main()
