"""One backend takes over from the other while the daemon runs: what is blocked stays so."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from ipsecd.backend.base import Backend
from ipsecd.backend.choice import exchange_backend, make_ready, withdraw_all
from ipsecd.backend.combined import NftablesWithPrograms
from ipsecd.backend.lines import at_once
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.engine.accounts import read_anew, total
from ipsecd.errors import BackendFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from ipsecd.sources.counters_file import KeptCount
from tests.netns import site
from tests.netns.site import BPFFS, HERE4, PEER4, Daemon, Flood, block, delivered, run
from tests.netns.test_combined import Refusals

pytestmark = pytest.mark.netns


def blocks(store: str, *texts: str) -> list[InForce]:
    return [InForce(Origin(store, "P", text), parse_filter(text), Action.BLOCK) for text in texts]


def policy(*texts: str) -> Classifier:
    return compile_filters(blocks("static", *texts))


def banned(address: str) -> Volatile:
    volatile = Volatile()
    volatile.carry_out([], [(row, inf) for row in rows_of(blocks("dynamic", f"{address}=0:1436"))])
    return volatile


ORIGINS = [Origin("static", "P", text) for text in ("*=0:1434:UDP", "0=*:1434:UDP")]
CLASSIFIER = policy(*(origin.rule for origin in ORIGINS))
STATE = (CLASSIFIER, Volatile())


def attached() -> list[str]:
    """What is pinned of links, and "xdp" if a program is on the wire there."""
    pinned = sorted(path.name for path in (BPFFS / "links").glob("*"))
    link = json.loads(run("ip", "-j", "link", "show", "wire0"))[0]
    return [*pinned, *(["xdp"] if "xdp" in link else [])]


@pytest.fixture(params=[True, False], ids=["protected", "guarded"])
def nftables(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """As on a kernel that keeps others from our table, and on one that does not."""
    site.needs_isolation()
    with site.wire():
        nft = NftablesBackend(protect=request.param)
        backend: Backend = nft
        if not nft.is_protected:
            backend = NftablesWithPrograms(
                "nftables",
                nft,
                lambda: XdpBackend(BPFFS, alone=False, xdp=False),
                required=False,
            )
        backend.apply(*STATE)
        yield backend
        backend.close()
        withdraw_all(BPFFS)


def closed() -> bool:
    return (delivered(HERE4, 1434), delivered(PEER4, 1434, to_peer=True)) == (0, 0)


def counted(backend: Backend, kept: dict[Origin, KeptCount]) -> int:
    """How many packets the rules have matched, also by programs that have gone since."""
    kept |= read_anew(kept, backend.readings(kept), (), 1.0)
    return sum(total(kept[origin]).packets for origin in ORIGINS)


def test_programs_come_and_go_beside_the_same_table(nftables: Backend) -> None:
    """It is there and judges all the while, and counts of the policy's rules go on."""
    guard, kept = attached(), dict[Origin, KeptCount]()
    assert closed()
    before = counted(nftables, kept)
    xdp = exchange_backend(nftables, "xdp", BPFFS, STATE)
    assert (xdp.name, "xdp" in attached(), xdp.observe().drift) == ("xdp", True, ())
    assert closed()
    assert counted(xdp, kept) >= before + 10
    before = counted(xdp, kept)
    again = exchange_backend(xdp, "nftables", BPFFS, STATE)
    assert (again.name, attached(), again.observe().drift) == ("nftables", guard, ())
    assert BPFFS.exists() == bool(guard)
    assert counted(again, kept) >= before
    assert closed()
    once_more = exchange_backend(again, "xdp", BPFFS, STATE)
    assert "xdp" in attached()
    assert counted(once_more, kept) >= before + 10
    exchange_backend(once_more, "nftables", BPFFS, None)


def test_what_was_made_ready_takes_what_has_changed_since(nftables: Backend) -> None:
    """It judges nothing before, and then by the state of now, dynamic rules and all."""
    guard = attached()
    bans = [banned(site.PEER4), banned("192.168.1.67")]
    before = (policy("*=0:1434:UDP", "10.1.0.0/16=0"), bans[0])
    ready = make_ready(nftables, "xdp", BPFFS, before, at_once)
    assert ready is not None
    assert (nftables.name, attached()) == ("nftables", guard)
    nftables.change(Volatile().difference(bans[1]), bans[1])
    xdp = exchange_backend(nftables, "xdp", BPFFS, (CLASSIFIER, bans[1]), ready)
    assert (xdp.name, "xdp" in attached(), xdp.observe().drift) == ("xdp", True, ())
    assert ready.digest() == CLASSIFIER.digest
    assert set(ready.entry_counts(bans[1].entries())) == {
        (e.table, e.key) for e in bans[1].entries()
    }
    assert closed()
    assert delivered(HERE4, 1435) == 5
    exchange_backend(xdp, "nftables", BPFFS, (CLASSIFIER, bans[1]))


def tried(backend: Backend, *, early: bool) -> Backend | BackendFailed:
    ready = None
    try:
        ready = make_ready(backend, "xdp", BPFFS, STATE, at_once) if early else None
        return exchange_backend(backend, "xdp", BPFFS, STATE, ready)
    except BackendFailed as error:
        if ready:
            ready.close()
        return error


@pytest.mark.parametrize("early", [True, False], ids=["made-ready", "at-once"])
def test_programs_that_fail_change_nothing(
    nftables: Backend, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    """Whatever call the kernel refuses, the backend is the one that it was, with what it had."""
    guard = attached()
    refusals = Refusals(monkeypatch)
    refused = 0
    for number in (*range(0, 24, 3), *range(24, 600, 13)):
        refusals.calls_left = number
        xdp = tried(nftables, early=early)
        if isinstance(xdp, BackendFailed):
            refused += 1
            refusals.calls_left = -1
            assert "nothing has changed" in xdp.hint
            assert (nftables.name, attached()) == ("nftables", guard)
            assert nftables.observe().drift == ()
            assert refused > 1 or closed()
            continue
        done, refusals.calls_left = refusals.calls_left >= 0, -1
        exchange_backend(xdp, "nftables", BPFFS, STATE)
        assert attached() == guard
        if done:
            break
    assert done
    assert refused > 8
    assert closed()


def test_nothing_passes_while_the_backend_of_a_daemon_changes(tmp_path: Path) -> None:
    """To and fro under a flood; the last choice is that of the next start."""
    with site.daemon(tmp_path, "auto") as daemon:
        block(daemon, "*=0:1434:UDP")
        with Flood() as flood:
            for _ in range(3):
                for name in ("xdp", "nftables"):
                    daemon.ctl("backend", name)
                    assert daemon.ctl("backend") == f"{name}\n"
                    assert BPFFS.exists() == (name == "xdp") or not protected(daemon)
            daemon.ctl("backend", "xdp")
            assert flood.received() == 0
        assert "in step" in daemon.ctl("status")
        daemon.end(signal.SIGKILL)
        daemon.start()
        assert daemon.ctl("backend") == "xdp\n"
        assert delivered(HERE4, 1434) == 0
        follow_a_new_link(daemon)
        daemon.ctl("backend", "nftables")
        assert run("nft", "list", "tables").splitlines() == ["table inet ipsecd"]


def protected(daemon: Daemon) -> bool:
    return "owned" in daemon.ctl("status", "--json")


def follow_a_new_link(daemon: Daemon) -> None:
    """After a change the daemon hears of links that come, with whichever backend it began."""
    daemon.ctl("backend", "nftables")
    daemon.ctl("backend", "xdp")
    run("ip", "link", "add", "br0", "type", "bridge")
    try:
        assert site.eventually(lambda: "br0: generic" in daemon.ctl("status", "--json"))
    finally:
        run("ip", "link", "delete", "br0")
