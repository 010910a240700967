"""Programs of somebody else on a link: what is blocked stays so, wherever they are put."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress

import pytest

from tests.moments import foreign
from tests.moments.flood import BLOCKED, OPEN, Target
from tests.moments.foreign import (
    BPF_F_AFTER,
    BPF_F_BEFORE,
    TC_VERDICTS,
    clsact,
    put_xdp,
    take_xdp,
    tcx,
)
from tests.moments.stage import Stage, stage
from tests.netns.site import BACKENDS, HERE4, HERE6, PEER, PEER4, PEER6, eventually, run

pytestmark = pytest.mark.netns

TARGETS = (Target("wire1", HERE4), Target("wire1", HERE6))
LOW, HIGH = 1, 60_000
"""Preferences of filters: the first of all, and one behind all others."""


class Host:
    """A stage with programs of others to put on its link; what it sends is counted at the peer."""

    def __init__(self, staged: Stage) -> None:
        self.stage = staged

    def restart_behind(self, programs: ExitStack, others: Others) -> None:
        """Stop the daemon, put programs of others on the link, and start it again."""
        self.stage.daemon.end()
        for program in others:
            programs.enter_context(program)
        self.stage.daemon.start()
        self.stage.settle()

    def holds(self, why: str, *, open_in: bool = True, open_out: bool = True) -> None:
        """Fail if anything blocked passes, or nothing permitted does where it should."""
        result = self.stage.under_flood(TARGETS, lambda: time.sleep(0.02))
        assert result.leaked == 0, f"{why}: {result}"
        assert result.passed > 0 or not open_in, f"{why}: {result}"
        blocked, permitted = self._sent(awaited=10 if open_out else 0)
        assert blocked == 0, f"{why}: {blocked} of 10 blocked ones left"
        assert permitted == 10 or not open_out, f"{why}: {permitted} of 10 permitted ones left"

    def _sent(self, awaited: int) -> tuple[int, int]:
        """How many of ten packets to each of the peer's ports arrive there."""
        before = [counter.value() for counter in self.stage.outside]
        for port in (BLOCKED, OPEN):
            for family, address in ((socket.AF_INET, PEER4), (socket.AF_INET6, PEER6)):
                with socket.socket(family, socket.SOCK_DGRAM) as sock:
                    for _ in range(5):
                        # A hook that drops may say so to who sends.
                        with suppress(OSError):
                            sock.sendto(b"moment", (address, port))
        eventually(lambda: self.stage.outside[1].value() - before[1] >= awaited, 0.5)
        blocked, permitted = (
            counter.value() - value
            for counter, value in zip(self.stage.outside, before, strict=True)
        )
        return blocked, permitted


Others = tuple[AbstractContextManager[None], ...]


@pytest.fixture(scope="module", params=BACKENDS)
def host(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("foreign")
    with stage(directory, request.param, seed=0) as staged:
        foreign.load(directory)
        # A packet that waits for an answer about its neighbour, which a program may drop, would be
        # counted late.
        mac = json.loads(run("ip", "-n", PEER, "-j", "link", "show", "wire1"))[0]["address"]
        for address in (PEER4, PEER6):
            neighbour = ("lladdr", mac, "dev", "wire0", "nud", "permanent")
            run("ip", "neigh", "replace", address, *neighbour)
        host = Host(staged)
        try:
            host.holds("without programs of others")
            yield host
        finally:
            foreign.unload()


def needs_tcx() -> None:
    """Skip on kernels before 6.6."""
    if not foreign.has_tcx():
        pytest.skip("this kernel has no tcx")


def opens(verdict: str) -> bool:
    """Whether what is permitted passes a program with this verdict."""
    return verdict in ("unspec", "ok", "pipe")


@pytest.mark.parametrize("verdict", TC_VERDICTS)
@pytest.mark.parametrize("order", [BPF_F_BEFORE, BPF_F_AFTER], ids=["before", "after"])
def test_a_tcx_program_that_comes_later_opens_nothing(host: Host, verdict: str, order: int) -> None:
    """In front of ours or behind, on either side."""
    needs_tcx()
    for side in ("ingress", "egress"):
        with tcx("wire0", verdict, side, order):
            host.holds(
                f"{side} {verdict}",
                open_in=side == "egress" or opens(verdict),
                open_out=side == "ingress" or opens(verdict),
            )
    host.holds("after they are gone")


@pytest.mark.parametrize("verdict", TC_VERDICTS)
@pytest.mark.parametrize("preference", [LOW, HIGH], ids=["before", "after"])
def test_a_clsact_filter_that_comes_later_opens_nothing(
    host: Host, verdict: str, preference: int
) -> None:
    """In front of ours or behind, on either side."""
    for side in ("ingress", "egress"):
        with clsact("wire0", verdict, side, preference):
            host.holds(
                f"{side} {verdict}",
                open_in=side == "egress" or opens(verdict),
                open_out=side == "ingress" or opens(verdict),
            )
    host.holds("after they are gone")


@pytest.mark.parametrize("verdict", ["unspec", "ok", "shot"])
@pytest.mark.parametrize("kind", ["tcx", "clsact"])
@pytest.mark.parametrize("with_xdp", [False, True], ids=["alone", "with XDP"])
def test_programs_that_were_there_first_open_nothing(
    host: Host, kind: str, verdict: str, with_xdp: bool
) -> None:
    """On both sides, and on the place of ours at XDP as well; then also when they are gone."""
    others: Others
    if kind == "tcx":
        needs_tcx()
        others = tuple(tcx("wire0", verdict, side, BPF_F_BEFORE) for side in foreign.SIDES)
    else:
        others = tuple(clsact("wire0", verdict, side, LOW) for side in foreign.SIDES)
    permitted = opens(verdict)
    try:
        if with_xdp:
            host.stage.daemon.end()
            assert put_xdp("wire0", "pass")
        with ExitStack() as programs:
            host.restart_behind(programs, others)
            host.holds("behind", open_in=permitted, open_out=permitted)
        host.holds("after they are gone")
    finally:
        take_xdp("wire0")
    host.holds("after the XDP program is gone")


@pytest.mark.parametrize("mode", ["xdp", "xdpdrv", "xdpgeneric"])
def test_an_xdp_program_that_comes_later_opens_nothing(host: Host, mode: str) -> None:
    """The kernel refuses it, or it stands beside ours."""
    for verdict in foreign.XDP_VERDICTS:
        put = put_xdp("wire0", verdict, mode)
        try:
            host.holds(f"{mode} {verdict}", open_in=verdict == "pass" or not put)
        finally:
            if put:
                run("ip", "link", "set", "wire0", mode, "off")
    host.holds("after they are gone")
