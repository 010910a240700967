"""Tests of the lock of a network namespace, under names of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from contextlib import closing

import pytest

from ipsecd.errors import Refused
from ipsecd.service import namespace_lock
from ipsecd.service.namespace_lock import NamespaceLock


@pytest.fixture(autouse=True)
def _own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace_lock, "NAME", f"\0ipsecd test {uuid.uuid4()}")
    monkeypatch.setattr(namespace_lock, "WAIT_S", 0.1)


def test_one_at_a_time() -> None:
    """The second is refused and told who the first is; when that ends, it is free."""
    with closing(NamespaceLock()), pytest.raises(Refused, match=f"as process {os.getpid()}"):
        NamespaceLock()
    NamespaceLock().close()


def test_many_rivals_are_refused() -> None:
    """However many have asked before, the next one is told who holds it."""
    with closing(NamespaceLock()):
        for _ in range(8):
            with pytest.raises(Refused, match=f"as process {os.getpid()}"):
                NamespaceLock()
    NamespaceLock().close()


def test_the_lock_ends_with_its_process() -> None:
    """A daemon that was killed keeps nobody from starting."""
    words = (
        "import sys; from ipsecd.service import namespace_lock as n; n.NAME = sys.argv[1]; "
        "lock = n.NamespaceLock(); print('held', flush=True); sys.stdin.read()"
    )
    name = namespace_lock.NAME.removeprefix("\0")
    words = words.replace("sys.argv[1]", "'\\0' + sys.argv[1]")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", words, name], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(Refused, match=f"as process {child.pid}"):
            NamespaceLock()
        child.kill()
        child.wait()
        NamespaceLock().close()


def test_a_stranger_keeps_no_rules_from_being_enforced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can take an abstract name: it counts only in the hands of root or oneself."""
    with closing(NamespaceLock()):
        monkeypatch.setattr(namespace_lock, "_holder", lambda: namespace_lock.Holder(4, 4242))
        NamespaceLock().close()
    assert "lock-held-by-stranger" in caplog.text


def test_a_name_that_nobody_listens_on_is_a_strangers() -> None:
    """After a moment, in which another daemon would have begun to listen."""
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(namespace_lock.NAME)
        NamespaceLock().close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network namespace")
def test_namespaces_share_nothing() -> None:
    """A daemon in another network namespace has a lock of its own."""
    words = (
        "import sys; from ipsecd.service import namespace_lock as n; n.NAME = '\\0' + sys.argv[1]; "
        "n.NamespaceLock()"
    )
    child = [sys.executable, "-c", words, namespace_lock.NAME.removeprefix("\0")]
    with closing(NamespaceLock()):
        assert subprocess.run(child, check=False, capture_output=True).returncode == 1
        subprocess.run(["unshare", "--net", *child], check=True)
