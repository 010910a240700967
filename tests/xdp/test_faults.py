"""What becomes of enforcement when the kernel refuses a call, or the daemon dies at one."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsecd.backend.base import Count
from ipsecd.backend.xdp import libbpf
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import IpsecdError
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from tests.counts import counts_of
from tests.descriptors import open_descriptors, open_descriptors_at_first
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
        self.calls_left = -1
        self.error: BaseException | None = None
        self._call = libbpf._call
        self._map_lines = libbpf.map_lines
        monkeypatch.setattr(libbpf, "_call", self.call)
        monkeypatch.setattr(libbpf, "map_lines", self.map_lines)

    def call(self, name: str, *arguments: Any) -> int:
        self._count(name)
        return self._call(name, *arguments)

    def map_lines(self, descriptor: int, lines: int, *, writable: bool = True) -> mmap.mmap:
        if writable:
            self._count("create memory")
        return self._map_lines(descriptor, lines, writable=writable)

    def _count(self, name: str) -> None:
        if self.calls_left >= 0 and any(word in name for word in MUTATING):
            if self.calls_left == 0:
                assert self.error is not None
                self.calls_left = -1
                raise self.error
            self.calls_left -= 1


def policy(*filters: str) -> Classifier:
    return compile_filters(
        [InForce(Origin("static", "P", text), parse_filter(text), Action.BLOCK) for text in filters]
    )


OLD = policy("*=0:1434:UDP")
NEW = policy("*=0:1434:UDP", "*=0:1435:UDP", "10.0.0.0/8=0", "10.1.0.0/16=0")


@pytest.fixture
def link() -> Iterator[None]:
    needs_isolation()
    run("ip", "link", "add", "fault0", "type", "veth", "peer", "name", "fault1")
    yield
    run("ip", "link", "delete", "fault0")
    XdpBackend(DIRECTORY).remove()


def judged_by(backend: XdpBackend) -> str | None:
    """The digest of what the kernel holds, which must be in step."""
    observation = backend.observe()
    assert observation.drift == ()
    return observation.digest


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
        faults.calls_left, faults.error = number, Crash()
        try:
            dying.apply(NEW, Volatile())
        except Crash:
            crashes += 1
            faults.calls_left = -1
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
    faults.calls_left = -1
    assert crashes > 10
    assert judged_by(dying) == NEW.digest
    dying.close()


def rules(**filters: str) -> Classifier:
    return compile_filters(
        [
            InForce(Origin("static", "P", name), parse_filter(text), Action.BLOCK)
            for name, text in filters.items()
        ]
    )


@pytest.mark.usefixtures("link")
def test_a_take_over_that_fails_leaves_nothing_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the links still judge by is what the next process finds."""
    first = XdpBackend(DIRECTORY)
    first.apply(OLD, Volatile())
    first.close()
    second = XdpBackend(DIRECTORY)
    with monkeypatch.context() as patch:
        patch.setattr(libbpf, "update_link", _refuse)
        with pytest.raises(IpsecdError):
            second.apply(NEW, Volatile())
    assert second.observe().digest == OLD.digest
    assert len(list(DIRECTORY.glob("maps-*"))) == 1
    second.close()


@pytest.mark.usefixtures("link")
def test_counts_of_a_rule_that_came_back_are_its_own() -> None:
    """What it had counted before it went is not what a later process finds."""
    backend = XdpBackend(DIRECTORY)
    backend.apply(rules(a="*=0:1:UDP", b="*=0:2:UDP"), Volatile())
    b = Origin("static", "P", "b")
    programs = backend._programs
    assert programs is not None
    programs.rules.restore({b: Count(111, 111)})
    backend.apply(rules(c="*=0:3:UDP"), Volatile())
    backend.apply(rules(b="*=0:2:UDP"), Volatile())
    programs.rules.restore({b: Count(5, 5)})
    backend.close()
    following = XdpBackend(DIRECTORY)
    following.apply(rules(b="*=0:2:UDP"), Volatile())
    assert counts_of(following) == {b: Count(5, 5)}
    following.close()


@pytest.mark.usefixtures("link")
def test_refused_changes_cost_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the kernel refuses; and the policy in force is still known to be that."""
    backend = XdpBackend(DIRECTORY)
    backend.apply(OLD, Volatile())
    update = libbpf.update

    def refuse_state(descriptor: int, *arguments: Any) -> None:
        assert backend._programs is not None
        if descriptor == backend._programs.maps["state"]:
            _refuse()
        update(descriptor, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(libbpf, "update", refuse_state)
        before = open_descriptors_at_first()
        for _ in range(10):
            with pytest.raises(IpsecdError):
                backend.apply(NEW, Volatile())
        assert open_descriptors() == before
    backend.close()
    assert XdpBackend(DIRECTORY).observe().digest == OLD.digest


def _refuse(*_: Any) -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


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
    # Such programs leave what audits count to nftables, which there is not here.
    tried = InForce(Origin("static", "P", "R"), parse_filter("*=0:7:UDP"), Action.AUDIT)
    with pytest.raises(IpsecdError, match="audits without bpf_loop"):
        backend.check(compile_filters([tried]))
    backend.remove()
    assert "leave_lan" not in run("tc", "filter", "show", "dev", "fault0", "egress")
