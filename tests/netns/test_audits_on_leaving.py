"""What leaves under this host's address counts for one audit: on arrival, or when it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.engine.test_lists import entries
from tests.equality.wire import make
from tests.netns import site
from tests.netns.audited import AUDIT, BLOCK, PERMIT, Enforced, as_blocks, dynamic, of_audits, rule
from tests.netns.site import HERE4, OUTSIDE, PEER, PEER4, hearing, inside, run, send

pytestmark = pytest.mark.netns

BOX, BOX4, GATE4 = "box", "10.88.0.5", "10.88.0.1"
SILENCE_S = 0.2
LISTS = {"box": entries(BOX4, "10.88.0.0/24"), "far": entries(PEER4), "here": entries(HERE4)}
NAT = f"""
table ip nat {{
  chain post {{
    type nat hook postrouting priority 100;
    oif wire0 masquerade;
    oif bridge0 udp dport 1434 ip saddr {PEER4} masquerade;
  }}
  chain pre {{
    type nat hook prerouting priority -100;
    iif wire0 udp dport 8080 dnat to {BOX4}:1434;
  }}
}}
"""


@pytest.fixture(scope="module", params=site.BACKENDS)
def enforced(request: pytest.FixtureRequest) -> Iterator[Enforced]:
    """A host between a peer and a box, each of which sees the other's packets as this host's."""
    site.needs_isolation()
    with ExitStack() as stack:
        stack.enter_context(site.wire())
        run("ip", "netns", "add", BOX)
        stack.callback(run, "ip", "netns", "delete", BOX)
        run("ip", "link", "add", "bridge0", "type", "veth", "peer", "name", "eth0", "netns", BOX)
        stack.callback(run, "ip", "link", "delete", "bridge0")
        run("ip", "address", "add", f"{GATE4}/24", "dev", "bridge0")
        run("ip", "link", "set", "bridge0", "up")
        run("ip", "-n", BOX, "address", "add", f"{BOX4}/24", "dev", "eth0")
        run("ip", "-n", BOX, "link", "set", "eth0", "up")
        run("ip", "-n", BOX, "route", "add", "default", "via", GATE4)
        run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        run("nft", NAT)
        stack.callback(run, "nft", "delete table ip nat")
        made = make(request.param)
        stack.callback(made.close)
        stack.callback(made.remove)
        yield Enforced(made, LISTS)


def passed() -> int:
    """How many of ten datagrams arrive: from the box to the peer, and to what the box publishes."""
    with (
        hearing(OUTSIDE, PEER4, 1434, silence_s=SILENCE_S) as out,
        hearing(inside(BOX), BOX4, 1434, silence_s=SILENCE_S) as published,
    ):
        send(inside(BOX), PEER4, 1434)
        send(inside(PEER), HERE4, 8080)
        return out() + published()


POLICIES = {
    "when it leaves": [(AUDIT, "0=*:1434:UDP")],
    "on arrival": [(AUDIT, f"{BOX4}=*:1434:UDP"), (AUDIT, f"*={HERE4}:8080:UDP")],
    "an audit of each": [
        (AUDIT, "0=*:1434:UDP"),
        (AUDIT, f"{BOX4}=*"),
        (AUDIT, "*=0:8080:UDP"),
    ],
    "a permit on arrival": [
        (AUDIT, "0=*:1434:UDP"),
        (PERMIT, "*=0:8080:UDP"),
        (AUDIT, f"{PEER4}=0"),
        (PERMIT, f"10.88.0.0/24={PEER4}:1434:UDP"),
        (AUDIT, "*=*"),
    ],
    "entries of lists": [
        (AUDIT, "0=@far:1434:UDP"),
        (AUDIT, "@box=@far"),
        (AUDIT, "@far=0:8080:UDP"),
        (PERMIT, "@far=@here"),
    ],
    "entries of lists when it leaves": [
        (AUDIT, "0=@far:1434:UDP"),
        (AUDIT, "0=@box"),
        (PERMIT, "@far=@here"),
        (PERMIT, "@box=@far"),
    ],
    "a block below": [(AUDIT, f"{BOX4}=*"), (AUDIT, f"0={BOX4}"), (BLOCK, "0=*:1434:UDP")],
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_forwarded_packet_counts_once(enforced: Enforced, name: str) -> None:
    """Where the same policy as blocks drops it; it passes later looks without any audit."""
    policy = [(rule, dynamic)[n % 2](*each) for n, each in enumerate(POLICIES[name])]
    enforced.put(as_blocks(policy))
    not_dropped = passed()
    dropped = of_audits(policy, enforced.counted())
    assert enforced.entries_are_right()
    assert not_dropped + dropped.total() == 10 > not_dropped
    enforced.put(policy)
    assert passed() == (0 if name == "a block below" else 10)
    assert enforced.entries_are_right()
    assert of_audits(policy, enforced.counted()) == dropped
