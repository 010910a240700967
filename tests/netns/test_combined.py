"""nftables with programs beside it: each holds while the other is away."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ipsecd.backend.choice import withdraw_all
from ipsecd.backend.combined import NftablesWithPrograms
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp import abi, libbpf
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import BackendFailed
from ipsecd.language.filters import parse_filter
from ipsecd.model.values import Action, InForce, Origin
from tests.netns import site
from tests.netns.site import BPFFS, HERE4, HERE6, PEER4, delivered, eventually, run

pytestmark = pytest.mark.netns

MUTATING = ("update", "delete", "create", "pin", "load", "freeze", "attach", "get")


def in_force(text: str, action: Action = Action.BLOCK) -> InForce:
    return InForce(Origin("static", "P", text), parse_filter(text), action)


def policy(*filters: str) -> Classifier:
    return compile_filters([in_force(text) for text in filters])


POLICY = policy("*=0:1434:UDP", "0=*:1434:UDP")


@pytest.fixture(params=["tc", "xdp"])
def backend(request: pytest.FixtureRequest) -> Iterator[NftablesWithPrograms]:
    """As on a kernel that lets everybody change our table."""
    site.needs_isolation()
    with site.wire():
        combined = NftablesWithPrograms(
            "nftables",
            NftablesBackend(protect=False),
            lambda: XdpBackend(BPFFS, alone=False, xdp=request.param == "xdp"),
            required=True,
        )
        yield combined
        combined.remove()
        combined.close()


def holds(*, blocked: int = 1434, open_port: int = 1435) -> bool:
    """Whether the blocked port is closed, and the other open, both ways."""
    return [
        delivered(HERE4, blocked),
        delivered(HERE6, blocked),
        delivered(PEER4, blocked, to_peer=True),
        delivered(HERE4, open_port),
        delivered(PEER4, open_port, to_peer=True),
    ] == [0, 0, 0, 5, 5]


def follows(backend: NftablesWithPrograms, name: str) -> bool:
    """Whether programs are on an interface, after a look at the news."""
    backend.changed()
    return name in " ".join(backend.probe())


def test_programs_hold_while_the_table_is_away(backend: NftablesWithPrograms) -> None:
    """A flush of all rules opens nothing, with a daemon that sees to it and with a dead one."""
    backend.apply(POLICY, Volatile())
    assert backend.failures == ()
    run("nft", "flush", "ruleset")
    assert holds()
    assert backend.changed()
    assert backend.observe().drift
    backend.apply(POLICY, Volatile())
    assert backend.observe().drift == ()
    backend._close_programs()
    run("nft", "flush", "ruleset")
    assert holds()


class Refusals:
    """Has the kernel refuse the call of a number, counted from 0, that changes something."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls_left = -1
        self._call = libbpf._call
        monkeypatch.setattr(libbpf, "_call", self.call)

    def call(self, name: str, *arguments: Any) -> int:
        if self.calls_left >= 0 and any(word in name for word in MUTATING):
            self.calls_left -= 1
            if self.calls_left < 0:
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), name)
        return self._call(name, *arguments)


def test_programs_that_fail_open_nothing(
    backend: NftablesWithPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever call the kernel refuses the programs, nftables enforces; they are tried again."""
    refusals = Refusals(monkeypatch)
    failed = 0
    for number in range(200):
        blocked = 1434 + number % 2
        wanted = policy(f"*=0:{blocked}:UDP", f"0=*:{blocked}:UDP")
        refusals.calls_left = number
        backend.apply(wanted, Volatile())
        done, refusals.calls_left = refusals.calls_left >= 0, -1
        failed += bool(backend.failures)
        if backend.failures:
            assert "nftables judges everything" in backend.failures[0]
        if number % 32 == 0 or done:
            assert holds(blocked=blocked, open_port=2869 - blocked)
        if done:
            break
    assert failed > 10
    assert backend.failures == ()
    assert backend.observe().drift == ()


def test_too_many_addresses_take_the_programs_away(
    backend: NftablesWithPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What programs cannot hold opens and closes nothing, and is said."""
    backend.apply(POLICY, Volatile())
    monkeypatch.setattr(abi, "HOST_PROBES", 0)
    run("ip", "address", "add", "192.168.1.200/24", "dev", "wire0")
    assert eventually(lambda: (backend.changed(), bool(backend.failures))[1])
    assert "more IPv" in backend.failures[0]
    assert holds()
    assert delivered("192.168.1.200", 1435) == 5
    monkeypatch.undo()
    backend.apply(POLICY, Volatile())
    assert backend.failures == ()
    assert holds()


def test_a_link_that_moved_away_is_let_go(backend: NftablesWithPrograms) -> None:
    """A pin of a link that is in another network namespace now does not stop the next process."""
    backend.apply(POLICY, Volatile())
    run("ip", "link", "add", "gone0", "type", "veth", "peer", "name", "gone1")
    assert eventually(lambda: follows(backend, "gone0"))
    index = str(socket.if_nametoindex("gone0"))
    backend._close_programs()
    run("ip", "link", "set", "gone0", "netns", site.PEER)
    following = NftablesWithPrograms(
        "nftables",
        NftablesBackend(protect=False),
        lambda: XdpBackend(BPFFS, alone=False),
        required=True,
    )
    try:
        following.apply(POLICY, Volatile())
        assert following.failures == ()
        assert not list((BPFFS / "links").glob(f"{index}-*"))
        run("ip", "link", "add", "new0", "index", index, "type", "veth", "peer", "name", "new1")
        assert eventually(lambda: follows(following, "new0: native"))
    finally:
        following.remove()
        following.close()
        for name in ("gone1", "new0"):
            subprocess.run(["ip", "link", "delete", name], check=False)


def test_filters_without_pins_are_withdrawn_by_another_process() -> None:
    """As before Linux 6.6, where a tc filter outlives its process and nothing tells of it."""
    site.needs_isolation()
    with site.wire():
        unpinned = NftablesWithPrograms(
            "nftables",
            NftablesBackend(protect=False),
            lambda: XdpBackend(BPFFS, alone=False, xdp=False, tcx=False),
            required=True,
        )
        unpinned.apply(POLICY, Volatile())
        unpinned.close()
        assert delivered(HERE4, 1434) == 0
        withdraw_all(BPFFS)
        assert delivered(HERE4, 1434) == 5
        assert delivered(PEER4, 1434, to_peer=True) == 5


def test_news_are_heard_after_a_stop(backend: NftablesWithPrograms) -> None:
    """The descriptor that is waited on stays the same, and is quiet when all is read."""
    descriptor = backend.watch_fd()
    backend.apply(POLICY, Volatile())
    backend.remove()
    backend.changed()
    assert backend.watch_fd() == descriptor
    backend.apply(POLICY, Volatile())
    backend.changed()
    run("ip", "address", "add", "192.168.1.200/24", "dev", "wire0")
    assert select.select([descriptor], [], [], 0.9)[0]
    backend.changed()
    assert backend.failures == ()
    assert delivered("192.168.1.200", 1434) == 0


def test_datagrams_in_fragments_pass_where_they_may(backend: NftablesWithPrograms) -> None:
    """Connection tracking puts them together before nftables sees them; programs see pieces."""
    run("nft", "add", "table", "inet", "tracking")
    hook = "{ type filter hook prerouting priority -150; }"
    run("nft", "add", "chain", "inet", "tracking", "seen", hook)
    run("nft", "add", "rule", "inet", "tracking", "seen", "ct", "state", "new", "counter")
    try:
        rules = [in_force("*=0::UDP"), in_force("*=0:1435:UDP", Action.PERMIT)]
        backend.apply(compile_filters(rules), Volatile())
        assert backend.failures == ()
        assert delivered(HERE4, 1435, size=4000) == 5
        assert delivered(HERE4, 1434, size=4000) == 0
    finally:
        run("nft", "delete", "table", "inet", "tracking", check=False)


def test_what_is_translated_on_its_way_out_is_judged_before(backend: NftablesWithPrograms) -> None:
    """A permit for the address that a program wrote holds, whatever the packet leaves as."""
    run("ip", "address", "add", "10.77.0.9/32", "dev", "wire0")
    run("nft", "add", "table", "ip", "translating")
    hook = "{ type nat hook postrouting priority 100; }"
    run("nft", "add", "chain", "ip", "translating", "out", hook)
    rule = f"ip saddr 10.77.0.9 snat to {HERE4}"
    run("nft", "add", "rule", "ip", "translating", "out", *rule.split())
    try:
        rules = [in_force("0=*::UDP"), in_force(f"10.77.0.9={PEER4}::UDP", Action.PERMIT)]
        backend.apply(compile_filters(rules), Volatile())
        assert backend.failures == ()
        with site.listening(site.OUTSIDE, PEER4, 1435) as heard:
            code = (
                "import socket, sys\n"
                "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.77.0.9', 0))\n"
                "for _ in range(5): s.sendto(b'x', (sys.argv[1], 1435))"
            )
            run(*site.python(site.HOST, code, PEER4))
            assert heard() == 5
        assert delivered(PEER4, 1435, to_peer=True) == 0
    finally:
        run("nft", "delete", "table", "ip", "translating", check=False)


def test_files_of_others_among_the_pins_are_left_alone(backend: NftablesWithPrograms) -> None:
    """They stop neither a start nor a withdrawal."""
    backend.apply(POLICY, Volatile())
    for name in ("other", "3-x"):
        (BPFFS / "links" / name).mkdir()
    backend._close_programs()
    backend.apply(POLICY, Volatile())
    assert backend.failures == ()
    backend.remove()
    assert delivered(HERE4, 1434) == 5
    for name in ("other", "3-x"):
        (BPFFS / "links" / name).rmdir()
    (BPFFS / "links").rmdir()
    BPFFS.rmdir()


class Dead(BaseException):
    """In the place of the signal that ends a process."""


OTHER_POLICY = policy("*=0:1436:UDP", "0=*:1436:UDP")


def test_who_dies_in_a_change_leaves_one_state(
    backend: NftablesWithPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs do not go on dropping by the old policy what nftables permits by the new one."""

    def die(_: object) -> None:
        raise Dead

    backend.apply(POLICY, Volatile())
    with monkeypatch.context() as patch:
        patch.setattr(backend, "_with_programs", die)
        with pytest.raises(Dead):
            backend.apply(OTHER_POLICY, Volatile())
    assert holds(blocked=1436, open_port=1434)
    backend.apply(OTHER_POLICY, Volatile())
    assert backend.observe().drift == ()
    assert holds(blocked=1436, open_port=1434)


def test_programs_judge_again_when_nftables_takes_nothing(
    backend: NftablesWithPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stood aside for a change that was not made: what they hold alone, they hold again."""

    def refuse(*_: object) -> None:
        raise BackendFailed("no memory")

    backend.apply(POLICY, Volatile())
    with monkeypatch.context() as patch:
        patch.setattr(backend._nftables, "apply", refuse)
        with pytest.raises(BackendFailed):
            backend.apply(OTHER_POLICY, Volatile())
    assert backend.observe().drift == ()
    run("nft", "flush", "ruleset")
    assert holds()
