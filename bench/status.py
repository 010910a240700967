"""``ipsecctl status`` as a whole process, beside the interpreter that does nothing.

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

RUNS = 40


def seconds(*words: str) -> float:
    begun = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def main() -> None:
    binaries = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        sock = path / "run/ipsecd.sock"
        os.environ["IPSECD_SOCKET"] = str(sock)
        (path / "run").mkdir()
        places = {"config": "etc", "state": "lib", "runtime": "run"}
        words = [f"--{kind}-dir={path / short}" for kind, short in places.items()]
        daemon = subprocess.Popen([str(binaries / "ipsecd"), *words], stderr=subprocess.DEVNULL)
        try:
            while not sock.exists():
                time.sleep(0.05)
            status = (str(binaries / "ipsecctl"), "status")
            nothing = (str(binaries / "python3"), "-I", "-c", "pass")
            seconds(*status)
            seconds(*nothing)
            pairs = [(seconds(*status), seconds(*nothing)) for _ in range(RUNS)]
        finally:
            daemon.terminate()
            daemon.wait()
    print("whole processes, median milliseconds")
    print(f"  ipsecctl status     {statistics.median(a for a, _ in pairs) * 1e3:6.1f}")
    print(f"  python3 -I -c pass  {statistics.median(b for _, b in pairs) * 1e3:6.1f}")
    print(f"  ratio, pair by pair {statistics.median(a / b for a, b in pairs):6.2f} (promised: 3)")


main()
