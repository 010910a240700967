"""What it costs a flood's drops that somebody watches: with nobody, a watcher, and ten of them.

One core sends frames to this host over a wire, and receives and drops them: what is printed is how
many of them in a second of its own time, so that what else the machine does is left out. Nobody and
somebody take turns, so that both meet the same machine. What the daemon takes of its own time to
find out what decided is printed beside it. It needs namespaces of its own. Arguments: backends.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.isolation import must_be_isolated
from bench.opening import STRETCHES, ground, sender, stretches
from bench.stretches import FRAMES, Stretches
from tests.netns.site import Daemon, run

ROUNDS, TIMES = 4, 20
PORT = 1434
POLICY = """\
policy: Worms
rules:
  - rule: No worm
    action: block
    filters: ["*=0:1434:UDP"]
"""
TICKS = os.sysconf("SC_CLK_TCK")
KINDS = {
    "nobody": (),
    "a watcher": (("--rate", "1000"),),
    "a watcher, rate 10,000": (("--rate", "10000"),),
    "ten watchers": (("--rate", "1000"),) * 10,
}


@contextmanager
def watched(daemon: Daemon, *watchers: tuple[str, ...]) -> Iterator[None]:
    """So many ``ipsecctl monitor``, each ready."""
    with ExitStack() as stack:
        for options in watchers:
            process = subprocess.Popen(
                [sys.executable, "-m", "ipsecctl", "monitor", "--json", *options],
                env=daemon.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stderr is not None
            assert process.stderr.readline()
        yield
    # Who has gone is noticed, and the rules are those of before again.
    end = time.monotonic() + 20
    while "chain dropped" in run("nft", "list", "table", "inet", "ipsecd"):
        assert time.monotonic() < end, daemon.log()
        time.sleep(0.02)


def rate(sent: Stretches) -> float:
    """Frames that are dropped in a second of this core's own time.

    It is the mean: the kernel tells of some packets and not of others, and each second anew.
    """
    with sender() as sock:
        before = time.thread_time()
        for _ in range(TIMES):
            for stretch in range(STRETCHES):
                sent.send(sock, stretch)
        return TIMES * STRETCHES * FRAMES / (time.thread_time() - before)


def processor_s(daemon: Daemon) -> float:
    """The processor time that the daemon has taken, in seconds."""
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def main(backends: list[str]) -> None:
    """Print a line for each backend and kind of watcher."""
    must_be_isolated()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sent = stretches(PORT, tcp=False)
    for backend in backends or ["nftables", "xdp"]:
        with ground(), TemporaryDirectory() as directory:
            daemon = Daemon(Path(directory), backend)
            # The flight recorder would watch all the time.
            settings = Path(directory) / "ipsecd.yaml"
            settings.write_text("recorder: off\n")
            daemon.options = ("--config", str(settings))
            daemon.start()
            try:
                daemon.put(POLICY)
                rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
                costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
                for _ in range(ROUNDS):
                    for kind, watchers in KINDS.items():
                        with watched(daemon, *watchers):
                            begun, before = time.monotonic(), processor_s(daemon)
                            rates[kind].append(rate(sent))
                            took = time.monotonic() - begun
                            costs[kind].append((processor_s(daemon) - before) / took)
                for kind in KINDS:
                    pairs = zip(rates[kind], rates["nobody"], strict=True)
                    share = statistics.median(one / other for one, other in pairs)
                    print(
                        f"{backend}, {kind}: {statistics.median(rates[kind]) / 1e6:.2f} million "
                        f"dropped a second, {share:.2f} of the rate with nobody; the daemon takes "
                        f"{statistics.median(costs[kind]):.2f} of a core",
                        flush=True,
                    )
            finally:
                daemon.end()


if __name__ == "__main__":
    main(sys.argv[1:])
