"""The second look: what the stack delivers here is judged as this host's, whatever was foreseen."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.exemptions import ESSENTIALS
from ipsecd.model.values import Action, InForce, Origin
from tests.counts import counts_of
from tests.netns import site
from tests.netns.deliveries import (
    ANYWHERE4,
    ANYWHERE6,
    BRIDGED,
    heard_from_first_machine,
    local_by,
    machines,
)
from tests.netns.site import (
    HERE4,
    HERE6,
    HOST,
    OUTSIDE,
    PEER4,
    PEER6,
    delivered,
    eventually,
    hearing,
    run,
    send,
)

pytestmark = pytest.mark.netns

EXEMPT = tuple(exemption.name for exemption in ESSENTIALS)


@pytest.fixture
def backend() -> Iterator[NftablesBackend]:
    site.needs_isolation()
    with site.wire():
        nftables = NftablesBackend()
        yield nftables
        nftables.remove()
        nftables.close()


def written(address: str) -> str:
    """The address as filters write it."""
    return f"[{address}]" if ":" in address else address


def rule(action: Action, text: str, name: str = "R", store: str = "static") -> InForce:
    origin = Origin(store, "P" if store == "static" else "", name)
    return InForce(origin, parse_filter(text), action)


def blocked(*texts: str) -> list[InForce]:
    return [rule(Action.BLOCK, text) for text in texts]


def permitted(*texts: str) -> list[InForce]:
    return [rule(Action.PERMIT, text, f"permit {text}") for text in texts]


def enforce(backend: NftablesBackend, *filters: InForce) -> None:
    backend.apply(compile_filters(filters, EXEMPT), Volatile())


def nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def arrives(address: str, port: int) -> int:
    """How many of five datagrams from the peer to `address` reach a listener for any address."""
    with hearing(HOST, "::", port) as heard:
        send(OUTSIDE, address, port)
        return heard()


@pytest.mark.parametrize(("address", "peer"), [(ANYWHERE4, PEER4), (ANYWHERE6, PEER6)])
def test_what_is_delivered_here_is_to_me(backend: NftablesBackend, address: str, peer: str) -> None:
    """Although nothing foresaw it when the packet arrived; ranks are as always, and counts too."""
    with local_by("iif wire0"):
        assert arrives(address, 1434) == 5
        enforce(backend, *blocked("*=0:1434:UDP"))
        assert arrives(address, 1434) == 0
        assert counts_of(backend)[Origin("static", "P", "R")].packets == 5
        assert arrives(address, 1435) == 5
        enforce(backend, *blocked("*=0:1434:UDP"), *permitted(f"{written(peer)}=0:1434:UDP"))
        assert arrives(address, 1434) == 5
        enforce(backend, *blocked("*=0"), *permitted("*=0:1434:UDP"))
        assert arrives(address, 1434) == 5
        assert arrives(address, 1435) == 0
        enforce(backend, *blocked("*=0"), *permitted(f"{written(peer)}={written(address)}"))
        assert arrives(address, 1434) == 5


@pytest.mark.parametrize("address", [ANYWHERE4, ANYWHERE6])
def test_a_dynamic_block_holds_for_what_is_delivered(
    backend: NftablesBackend, address: str
) -> None:
    """The sets of dynamic rules are looked into at the second look too."""
    volatile = Volatile()
    with local_by("iif wire0"):
        backend.apply(compile_filters([]), volatile)
        added = rule(Action.BLOCK, "*=0:1434:UDP", "d", "dynamic")
        backend.change(volatile.change(add=rows_of([added])), volatile)
        assert arrives(address, 1434) == 0
        assert [count.packets for count in backend.volatile_counts().values()].count(5) == 1
        backend.change(volatile.change(remove=[added.origin]), volatile)
        assert arrives(address, 1434) == 5


@pytest.mark.parametrize("address", [ANYWHERE4, ANYWHERE6])
def test_what_a_transparent_proxy_takes_is_for_others(
    backend: NftablesBackend, address: str
) -> None:
    """It bears a mark and no address of this host; a mark alone makes nothing pass."""
    nft(
        "table inet marks { chain pre { type filter hook prerouting priority -150;"
        " iif wire0 meta mark set 1; }\n}"
    )
    own = HERE6 if ":" in address else HERE4
    with local_by("fwmark 1"):
        enforce(backend, *blocked("*=0:1434:UDP"))
        assert arrives(address, 1434) == 5
        assert arrives(own, 1434) == 0
        enforce(backend, *blocked(f"*={written(address)}:1434:UDP"))
        assert arrives(address, 1434) == 0
    run("nft", "delete table inet marks")


def test_what_was_translated_is_not_judged_by_its_new_addresses(backend: NftablesBackend) -> None:
    """A redirected port is judged as it arrived, also if somebody begins with that later."""
    enforce(backend, *blocked("*=0:1434:UDP"))
    assert not backend.is_stale()
    nft(
        "table ip nat { chain pre { type nat hook prerouting priority -100;"
        " iif wire0 udp dport 7000 redirect to 1434; }\n}"
    )

    def redirected() -> int:
        with hearing(HOST, HERE4, 1434) as heard:
            send(OUTSIDE, HERE4, 7000)
            return heard()

    assert eventually(backend.is_stale)
    enforce(backend, *blocked("*=0:1434:UDP"))
    assert not backend.is_stale()
    assert redirected() == 5
    assert delivered(HERE4, 1434) == 0
    enforce(backend, *blocked("*=0:7000:UDP"))
    assert redirected() == 0
    run("nft", "delete table ip nat")
    assert eventually(backend.is_stale)


def test_a_chain_that_translates_nothing_does_not_turn_tracking_on(
    backend: NftablesBackend,
) -> None:
    """Connection tracking costs more than all else; only rules can translate."""
    nft("table ip nat { chain pre { type nat hook prerouting priority -100; }\n}")
    enforce(backend, *blocked("*=0:1434:UDP"))
    assert "ct status" not in run("nft", "list", "chain", "inet", "ipsecd", "delivered")
    run("nft", "delete table ip nat")


def test_a_permit_counts_once(backend: NftablesBackend) -> None:
    """Looked at twice, with a rule's counter, a rule's in a map, and an element's own."""
    volatile = Volatile()
    static = permitted("*=0:1001:UDP", "*=0:1002:UDP", "*=0:1003-1009:UDP")
    backend.apply(compile_filters([*blocked("*=0"), *static], EXEMPT), volatile)
    dynamic = rule(Action.PERMIT, "*=0:1010:UDP", "d", "dynamic")
    backend.change(volatile.change(add=rows_of([dynamic])), volatile)
    for port in (1001, 1002, 1004, 1010):
        assert delivered(HERE4, port) == 5
        assert delivered(HERE6, port) == 5
    counts = {origin.rule: count.packets for origin, count in counts_of(backend).items()}
    for permit in static:
        assert counts[permit.origin.rule] == 10
    counted = {t.family: c.packets for (t, _), c in backend.volatile_counts().items() if c.packets}
    assert list(counted.values()) == [5, 5]
    backend.change(volatile.change(remove=[dynamic.origin]), volatile)
    assert delivered(HERE4, 1010) == 0
    assert backend.observe().drift == ()
    assert "dynamic_" not in run("nft", "list", "sets")


@pytest.fixture
def bridge(backend: NftablesBackend) -> Iterator[NftablesBackend]:
    """The backend where there are virtual machines on a bridge."""
    with machines():
        yield backend


@pytest.mark.parametrize("address", BRIDGED)
def test_what_a_bridge_passes_on_is_not_to_me(bridge: NftablesBackend, address: str) -> None:
    """A block of what is for this host takes the copy for this host, and no machine's."""
    assert heard_from_first_machine(address) == (5, 5)
    enforce(bridge, *blocked("*=0"))
    assert heard_from_first_machine(address) == (5, 0)
    assert counts_of(bridge)[Origin("static", "P", "R")].packets >= 5
    enforce(bridge, *blocked("*=0:67:UDP"), *permitted(f"*={written(address)}:67:UDP"))
    assert heard_from_first_machine(address) == (5, 0)
    enforce(bridge, *blocked("*=0"), *permitted("*=0:67:UDP"))
    assert heard_from_first_machine(address) == (5, 5)
    enforce(bridge, *blocked("*=*:67:UDP"))
    assert heard_from_first_machine(address) == (0, 0)
    enforce(bridge, *blocked("*=*:67:UDP"), *permitted("*=0:67:UDP"))
    assert heard_from_first_machine(address) == (5, 5)


def test_without_a_block_to_me_nothing_is_looked_at_twice(backend: NftablesBackend) -> None:
    """The second look is for nothing else, and costs nothing then."""
    enforce(backend, *blocked("10.0.0.9=*"), *permitted("*=0:80:TCP"))
    listed = run("nft", "list", "chain", "inet", "ipsecd", "delivered")
    assert "accept" not in listed.replace("policy accept", "")
    assert "goto" not in listed
