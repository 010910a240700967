"""Runs a command in a guest: ``python -m tests.kernels.run 6.1 -- COMMAND…``.

Its output comes as it is made; its exit code is the exit code. ``/lab`` in the guest is the
directory given with ``--share``, or one that goes when the command has ended.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.kernels.guest import Guest, GuestFailed, missing
from tests.kernels.packages import KERNELS, Kernel, NoKernel


def main() -> int:
    """Boot one guest for one command."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernels.run")
    parser.add_argument("kernel", choices=KERNELS)
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="where to run it")
    parser.add_argument("--share", type=Path, help="directory that is /lab in the guest")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if needed := missing():
        print(f"this host has no guests, for want of {needed}: run make kernels", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="ipsecd-guest-") as scratch:
        share = options.share or Path(scratch)
        share.mkdir(exist_ok=True)
        try:
            with Guest(Kernel(options.kernel), share) as guest:
                guest.start(options.command, options.directory.absolute())
                _follow(guest, share / "output")
                return guest.wait(options.timeout)
        except (GuestFailed, NoKernel) as error:
            print(error, file=sys.stderr)
            return 1


def _follow(guest: Guest, output: Path) -> None:
    """Print what the command says until the guest ends."""
    while (guest.running or guest.boot_again()) and not output.exists():
        time.sleep(0.1)
    if not output.exists():
        return
    with output.open(errors="replace") as file:
        while True:
            ended = not guest.running
            print(file.read(), end="", flush=True)
            if ended:
                return
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
