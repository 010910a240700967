"""What becomes of enforcement when the kernel refuses a call, or the daemon dies at one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.tables import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import IpsecdError
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from tests.netns.site import needs_isolation, run

pytestmark = pytest.mark.netns

DIRECTORY = Path("/sys/fs/bpf/ipsecd-faults")
MUTATING = ("update", "delete", "create", "pin", "load", "freeze", "attach")
"""Words in the names of the calls that change something."""


class Crash(BaseException):
    """The process ends here; nothing after it is carried out."""


class Faults:
    """Lets so many mutating calls pass, and then fails one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.error: BaseException | None = None
        self._call = libbpf._call
        monkeypatch.setattr(libbpf, "_call", self.call)

    def call(self, name: str, *arguments: Any) -> int:
        if self.left >= 0 and any(word in name for word in MUTATING):
            if self.left == 0:
                assert self.error is not None
                self.left = -1
                raise self.error
            self.left -= 1
        return self._call(name, *arguments)


def policy(*filters: str) -> Classifier:
    return compile_filters(
        [InForce(Origin("static", "P", text), parse_filter(text), Action.BLOCK) for text in filters]
    )


OLD = policy("*=0:1434:UDP")
NEW = policy("*=0:1434:UDP", "*=0:1435:UDP", "10.0.0.0/8=0", "10.1.0.0/16=0")
DYNAMIC = [
    InForce(Origin("dynamic", "", "d"), parse_filter(text), Action.BLOCK)
    for text in ("203.0.113.7=0", "203.0.113.8=0", "203.0.113.0/28=0:80:TCP")
]


@pytest.fixture
def link() -> Iterator[None]:
    needs_isolation()
    run("ip", "link", "add", "fault0", "type", "veth", "peer", "name", "fault1")
    yield
    run("ip", "link", "delete", "fault0")
    XdpBackend(DIRECTORY).remove()


def judged_by(backend: XdpBackend) -> str | None:
    """The digest of what the kernel holds, which must be in step."""
    seen = backend.observe()
    assert seen.drift == ()
    return seen.digest


@pytest.mark.usefixtures("link")
@pytest.mark.timeout(280)
def test_a_refused_call_leaves_the_old_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever call of a policy change the kernel refuses, the old policy is in force, whole."""
    faults = Faults(monkeypatch)
    backend = XdpBackend(DIRECTORY)
    volatile = Volatile()
    backend.apply(OLD, volatile)
    failures = 0
    for number in range(100):
        faults.left, faults.error = number, OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        try:
            backend.apply(NEW, volatile)
        except (IpsecdError, OSError):
            failures += 1
            faults.left = -1
            assert judged_by(backend) == OLD.digest
        else:
            break
    faults.left = -1
    assert failures > 3
    assert judged_by(backend) == NEW.digest
    backend.close()


@pytest.mark.usefixtures("link")
@pytest.mark.timeout(280)
def test_a_refused_call_leaves_the_old_dynamic_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dynamic rule of several entries is there whole or not at all."""
    faults = Faults(monkeypatch)
    backend = XdpBackend(DIRECTORY)
    volatile = Volatile()
    backend.apply(OLD, volatile)
    failures = 0
    for number in range(100):
        delta = volatile.change(add=rows_of(DYNAMIC), deadline=inf)
        faults.left, faults.error = number, OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        try:
            backend.change(delta, volatile)
        except (IpsecdError, OSError):
            failures += 1
            faults.left = -1
            volatile.change(remove=[DYNAMIC[0].origin])
            assert judged_by(backend) == OLD.digest
            assert backend.volatile_counts() == {}
        else:
            break
    faults.left = -1
    assert failures > 3
    assert len(backend.volatile_counts()) == 3
    assert judged_by(backend) == OLD.digest
    backend.close()


@pytest.mark.usefixtures("link")
@pytest.mark.timeout(280)
def test_a_crash_at_any_call_leaves_something_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a starting daemon dies, the link stays attached, and the next one takes over."""
    faults = Faults(monkeypatch)
    first = XdpBackend(DIRECTORY)
    first.apply(OLD, Volatile())
    first.close()
    crashes = 0
    for number in range(200):
        dying = XdpBackend(DIRECTORY)
        faults.left, faults.error = number, Crash()
        try:
            dying.apply(NEW, Volatile())
        except Crash:
            crashes += 1
            faults.left = -1
            dying.close()
            assert "xdp" in run("ip", "link", "show", "fault0")
            if number % 5 == 0:
                following = XdpBackend(DIRECTORY)
                following.apply(OLD, Volatile())
                assert judged_by(following) == OLD.digest
                following.close()
                assert len(list(DIRECTORY.glob("maps-*"))) == 1
        else:
            break
    faults.left = -1
    assert crashes > 10
    assert judged_by(dying) == NEW.digest
    dying.close()


@pytest.mark.usefixtures("link")
def test_kernels_without_tcx_and_bpf_loop_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Linux 5.15: clsact instead of tcx, and programs whose loop is unrolled."""
    monkeypatch.setattr(libbpf, "has_helper", lambda *_: False)
    backend = XdpBackend(DIRECTORY, tcx=False)
    backend.apply(OLD, Volatile())
    assert backend.probe()[0] == "clsact"
    assert "ipsecd" in run("tc", "filter", "show", "dev", "fault0", "egress") or "leave_lan" in run(
        "tc", "filter", "show", "dev", "fault0", "egress"
    )
    assert judged_by(backend) == OLD.digest
    run("tc", "filter", "del", "dev", "fault0", "egress")
    assert "detached" in " ".join(backend.observe().drift)
    backend.apply(OLD, Volatile())
    assert judged_by(backend) == OLD.digest
    many = policy(*(f"*=0:{first}-{first + 5}:UDP" for first in range(1000, 1400, 10)))
    with pytest.raises(IpsecdError, match="look-ups"):
        backend.check(many)
    backend.remove()
    assert "leave_lan" not in run("tc", "filter", "show", "dev", "fault0", "egress")
