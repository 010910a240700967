"""Time and memory to load a million prefixes: the programs, beside ``nft -f``, as whole processes.

Both read the same list, a prefix a line, and have it enforced at the end: nft as an interval
set, ipsecd as the image that its programs look into.
"""

from __future__ import annotations

import os
import random
import sys
import time
from array import array
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.classify import HOST, list_blocked, prefix_list
from bench.isolation import must_be_isolated


def load(path: str) -> None:
    """What the measured process does: read the list, compile it, and enforce it."""
    from ipsecd.backend.xdp.programs import Programs  # noqa: PLC0415 - only the child needs it
    from ipsecd.compiler.volatile import Volatile  # noqa: PLC0415

    prefixes: dict[int, array[int]] = {}
    with Path(path).open("rb") as file:
        for line in file:
            address, _, length = line.partition(b"/")
            a, b, c, d = address.split(b".")
            number = int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)
            prefixes.setdefault(int(length), array("I")).append(number)
    programs = Programs()
    programs.set_host(HOST)
    programs.program("receive_lan")
    programs.apply(list_blocked(prefixes), Volatile())


def measured(*words: str) -> tuple[float, float]:
    """The seconds that a process takes, and the most MiB that it holds."""
    begun = time.monotonic()
    child = os.posix_spawn(words[0], words, os.environ)
    _, status, usage = os.wait4(child, 0)
    assert status == 0, words
    return time.monotonic() - begun, usage.ru_maxrss / 1024


def disjoint(prefixes: dict[int, set[int]]) -> list[tuple[int, int]]:
    """The prefixes that lie in no other prefix: nft refuses a list in which some do."""
    kept: list[tuple[int, int]] = []
    end = -1
    for address, length in sorted((a, n) for n, addresses in prefixes.items() for a in addresses):
        if address > end:
            end = address + (1 << (32 - length)) - 1
            kept.append((address, length))
    return kept


def make(directory: Path) -> None:
    """Write the list, for ipsecd and as a file of rules for nft."""
    kept = disjoint(prefix_list(random.Random(1434)))
    texts = [f"{a >> 24}.{a >> 16 & 255}.{a >> 8 & 255}.{a & 255}/{n}" for a, n in kept]
    (directory / "list").write_text("\n".join(texts), encoding="ascii")
    (directory / "rules").write_text(
        "table inet bench {\nset blocked { typeof ip saddr; flags interval;\nelements = {"
        + ",\n".join(texts)
        + "} }\nchain c {\ntype filter hook prerouting priority raw;\n"
        + "ip saddr @blocked drop;\n}\n}\n",
        encoding="ascii",
    )
    print(f"{len(kept)} prefixes")


def main() -> None:
    must_be_isolated()
    if sys.argv[1:2] == ["load"]:
        load(sys.argv[2])
        return
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]))
        return
    # A process begins with the peak of the one that started it, so the list is made in another.
    again = (sys.executable, "-m", "bench.load")
    with TemporaryDirectory() as directory:
        measured(*again, "make", directory)
        theirs = measured("/usr/sbin/nft", "-f", f"{directory}/rules")
        ours = measured(*again, "load", f"{directory}/list")
    for name, (seconds, mebibytes) in (("nft -f", theirs), ("ipsecd", ours)):
        print(f"{name:8} {seconds:6.1f} s   {mebibytes:6.0f} MiB")
    print(
        f"ratio    {ours[0] / theirs[0]:6.2f} (at most 0.33)   {ours[1] / theirs[1]:.2f}"
        " (at most 0.33)"
    )


if __name__ == "__main__":
    main()
