"""A rule with a time to live, from a daemon whose clocks are not those of the machine."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.site import BACKENDS, HERE4, Daemon, Namespace, delivered, eventually

pytestmark = pytest.mark.netns

LIVES_S = (3, 30)
"""The second is for a machine that is too busy to look within the first."""


@contextmanager
def time_namespace(offset_s: int) -> Iterator[Namespace]:
    """How to run a command whose clocks are ahead of the machine's, or behind.

    A command that is run so becomes another program and no child, as a daemon must.
    """
    clocks = (f"--monotonic={offset_s}", f"--boottime={offset_s}")
    # The namespace is that of the children of unshare, which lasts as long as one of them.
    words = ["unshare", "--time", *clocks, "--fork", "--kill-child", "sh", "-c", "echo; cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n", "this kernel has no time namespaces"
        try:
            yield ("nsenter", "--no-fork", f"--time=/proc/{holder.pid}/ns/time_for_children")
        finally:
            holder.stdin.close()


def offset(sign: int) -> int:
    """An offset that no rule's life comes near, and that leaves a clock above zero."""
    return sign * min(100_000, int(time.clock_gettime(time.CLOCK_MONOTONIC) / 2))


@pytest.mark.parametrize("sign", [-1, 1], ids=["behind", "ahead"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_time_to_live_is_counted_by_the_clock_of_the_kernel(
    tmp_path: Path, backend: str, sign: int
) -> None:
    """Seconds are seconds, with the daemon or without."""
    site.needs_isolation()
    with time_namespace(offset(sign)) as where, site.wire():
        own = time.monotonic()
        theirs = float(site.run(*site.python(where, "import time; print(time.monotonic())")))
        assert abs(theirs - own - offset(sign)) < 10, "the clock has no offset"
        daemon = Daemon(tmp_path, backend, where)
        daemon.start()
        try:
            assert delivered(HERE4, 1434) == 5
            for life_s in LIVES_S:
                begun = time.monotonic()
                daemon.ctl("block", "udp/1434", "--for", f"{life_s}s")
                passed, shown = delivered(HERE4, 1434), daemon.ctl("show", "dynamic")
                if time.monotonic() < begun + life_s:
                    break
            assert passed == 0
            assert "1434" in shown
            # What a daemon that is alive ends by its own clock could hide what the kernel does.
            daemon.end(signal.SIGKILL)
            assert eventually(lambda: delivered(HERE4, 1434) == 5, life_s + 10)
            assert time.monotonic() > begun + life_s
            daemon.start()
        finally:
            daemon.end()
