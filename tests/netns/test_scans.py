"""What a stranger with nmap finds of a host that nothing gets into unasked, on both backends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns import site
from tests.netns.scans import OPEN, POLICY, SAMPLE, SAMPLE_UDP, Found, listed, scan, services
from tests.netns.site import HERE4, HERE6, Daemon, run

pytestmark = pytest.mark.netns

TCP = f"-p{listed(SAMPLE)}"
KINDS = {
    "SYN": ("-sS", TCP),
    "SYN from port 20": ("-sS", TCP, "-g", "20"),
    "SYN from port 53": ("-sS", TCP, "-g", "53"),
    "SYN from port 443": ("-sS", TCP, "-g", "443"),
    "SYN among decoys": ("-sS", TCP, "-D", "{decoys},ME"),
    "ACK": ("-sA", TCP),
    "window": ("-sW", TCP),
    "FIN": ("-sF", TCP),
    "Xmas": ("-sX", TCP),
    "no flags": ("-sN", TCP),
    "SYN and ACK": ("-sA", TCP, "--scanflags", "SYNACK"),
    "UDP": ("-sU", f"-p{listed(SAMPLE_UDP)}"),
    "UDP from port 53": ("-sU", f"-p{listed(SAMPLE_UDP)}", "-g", "53"),
    "the usual UDP": ("-sU", "-F"),
}
DECOYS = {HERE4: "192.168.1.70,192.168.1.71", HERE6: "fd09::70,fd09::71"}
TELLING = {"ACK": "unfiltered", "SYN and ACK": "unfiltered", "window": "closed"}
"""In what state scans that are not for open ports find one whose packets reach the host."""
SILENT = frozenset({"filtered", "open|filtered"})
"""The states of ports that did not answer."""


@pytest.fixture(params=site.BACKENDS)
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with site.daemon(tmp_path, request.param) as running, services():
        yield running


def received() -> int:
    """How many packets the wire has brought to this host."""
    (link,) = json.loads(run("ip", "-json", "-stats", "link", "show", "wire0"))
    return int(link["stats64"]["rx"]["packets"])


def answering(found: Found) -> dict[str, frozenset[int]]:
    """The ports that answered, by state."""
    assert not found.others.keys() - SILENT, found
    return {state: ports for state, ports in found.ports.items() if state not in SILENT}


def expected(kind: str) -> dict[str, frozenset[int]]:
    """The ports that answer such a scan, if those that are meant to be open are the only ones."""
    state = TELLING.get(kind, "open" if kind.startswith("SYN") else None)
    return {state: OPEN} if state else {}


def test_of_all_tcp_ports_two_are_open(daemon: Daemon) -> None:
    """All others, 65,533, say nothing at all; and a single hole among many would be found."""
    daemon.put(POLICY.format(name="Host", more=""))
    before = received()
    found = scan(HERE4, "-sS", "-p-")
    assert answering(found) == {"open": OPEN}
    assert sum(found.others.values()) == 65535 - len(OPEN)
    assert received() - before > 2 * 65000, "not every port was asked twice"
    daemon.ctl("permit", "tcp/61234", "--opening")
    assert answering(scan(HERE4, "-sS", "-p60000-62000")) == {"closed": {61234}}


@pytest.mark.parametrize("address", [HERE4, HERE6])
def test_no_kind_of_scan_finds_more(daemon: Daemon, address: str) -> None:
    """Whatever flags, source ports, decoys and fragments are tried."""
    daemon.put(POLICY.format(name="Host", more=""))
    kinds = {**KINDS, "SYN in fragments": ("-sS", "-f", TCP)} if address == HERE4 else KINDS
    found = {
        kind: answering(scan(address, *(word.format(decoys=DECOYS[address]) for word in words)))
        for kind, words in kinds.items()
    }
    assert found == {kind: expected(kind) for kind in kinds}


def test_a_scan_finds_what_the_way_round_leaves_open(daemon: Daemon) -> None:
    """Answers permitted by their source port let anyone in who sends from it, as scans show."""
    daemon.put(
        'policy: Old\nrules:\n  - rule: All\n    action: block\n    filters: ["*=0"]\n'
        "  - rule: Answers\n    action: permit\n"
        '    filters: ["*:443=0:1024-65535:TCP", "*:53=0:1024-65535:UDP"]\n'
        '  - rule: SSH\n    action: permit\n    filters: ["*=0:22:TCP"]\n',
    )
    assert answering(scan(HERE4, *KINDS["SYN"])) == {"open": {22}}
    from_443 = answering(scan(HERE4, *KINDS["SYN from port 443"]))
    assert from_443 == {"open": {22, 3306, 5432, 8080, 40000}, "closed": {1025, 65535}}
    from_53 = answering(scan(HERE4, *KINDS["UDP from port 53"]))
    assert from_53 == {"open": {1900, 5353, 40000}, "closed": {1025, 65535}}
