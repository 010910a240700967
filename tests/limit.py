"""Plugin of pytest: ends a run that takes too long, and says where it hangs.

``-p tests.limit --limit 4800`` gives the whole run so many seconds. Each test has a limit of its
own besides (pytest-timeout), which does not help where a process cannot be interrupted.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

LAST_WORDS_S = 5
"""How long each process has to write down where it is, before the next one begins to write."""

# Tests that run have their output captured, so the place for last words is kept before that.
_STDERR = os.fdopen(os.dup(2), "w", buffering=1)
faulthandler.register(signal.SIGUSR1, file=_STDERR, all_threads=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for how long a run may take."""
    parser.addoption("--limit", type=float, metavar="SECONDS", help="limit of the whole run")


def pytest_configure(config: pytest.Config) -> None:
    """Start the timer, in the process that controls the run and not in workers."""
    limit_s = config.getoption("--limit")
    if limit_s is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Limit(limit_s))


class _Limit:
    """Knows which tests run, and ends the run in time."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._running: dict[str, float] = {}
        self._timer = threading.Timer(limit_s, self._end)
        self._timer.daemon = True
        self._timer.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._running[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._running.pop(nodeid, None)

    def pytest_unconfigure(self) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        sys.stdout.flush()
        now = time.monotonic()
        print(f"\nthe limit of {self._limit_s:.0f} s is over; running tests:", file=_STDERR)
        for nodeid, since in dict(self._running).items():
            print(f"  {nodeid}, for {now - since:.0f} s", file=_STDERR)
        workers = _children(os.getpid())
        for pid in workers:
            print(f"process {pid}: {_command(pid)}", file=_STDERR)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
            time.sleep(LAST_WORDS_S)
        faulthandler.dump_traceback(file=_STDERR, all_threads=True)
        for pid in _below(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Without cleaning up, which might wait for a process that hangs in the kernel.
        os._exit(pytest.ExitCode.TESTS_FAILED)


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return children


def _below(pid: int) -> list[int]:
    """The ids of all processes that a process has started, directly or not."""
    descendants = _children(pid)
    for child in descendants:
        descendants += _children(child)
    return descendants


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")[:200]
    except OSError:
        return "?"
