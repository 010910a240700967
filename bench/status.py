"""``ipsecctl status``, ``block`` and ``unblock`` as processes, beside Python that does nothing.

The command is started as packages install it (``make install-programs``), by the system's Python.
Pairs of runs in turn, the ratio pair by pair. Run it with ``make bench``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.isolation import must_be_isolated

RUNS = 40
PYTHON = "/usr/bin/python3"
PLACES = [str(Path(__file__).parents[1] / name) for name in ("daemon", "ctl")]
PROGRAM = f"""#!{PYTHON} -I
import sys

sys.path += {PLACES}
from ipsecctl.__main__ import main

sys.exit(main())
"""


def seconds(*words: str) -> float:
    begun = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def pair(number: int, *words: str) -> tuple[float, float]:
    """The seconds of a command, with a number in the place of {}, and of nothing."""
    command = [word.format(number) for word in words]
    return seconds(*command), seconds(PYTHON, "-I", "-c", "pass")


def main() -> None:
    must_be_isolated()
    binaries = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        sock = path / "run/ipsecd.sock"
        os.environ["IPSECD_SOCKET"] = str(sock)
        (path / "run").mkdir()
        command = path / "ipsecctl"
        command.write_text(PROGRAM)
        command.chmod(0o755)
        places = {"config": "etc", "state": "lib", "runtime": "run"}
        words = [f"--{kind}-dir={path / short}" for kind, short in places.items()]
        daemon = subprocess.Popen([str(binaries / "ipsecd"), *words], stderr=subprocess.DEVNULL)
        try:
            while not sock.exists():
                time.sleep(0.05)
            print("whole processes, median milliseconds")
            lines = ("status", "block 10.0.0.{} --for 1h", "unblock 10.0.0.{}")
            for line in lines:
                pairs = [pair(number, str(command), *line.split()) for number in range(RUNS)]
                ratio = statistics.median(a / b for a, b in pairs)
                took = statistics.median(a for a, _ in pairs) * 1e3
                print(f"  ipsecctl {line:26} {took:6.1f}   {ratio:5.2f} times nothing")
            nothing = statistics.median(b for _, b in pairs) * 1e3
            print(f"  python3 -I -c pass                  {nothing:6.1f}   (promised: 2.5 times)")
        finally:
            daemon.terminate()
            daemon.wait()


if __name__ == "__main__":
    main()
