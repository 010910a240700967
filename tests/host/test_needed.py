"""What this host cannot do without is found out: its addresses, gateways and name servers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ipsecd.host import needed
from ipsecd.host.interfaces import read_host
from ipsecd.host.needed import GATEWAY, OWN, RESOLVER, HostNeeds
from ipsecd.language.addresses import format_value
from tests.netns.site import needs_isolation, run

LINKS = """
link add needed0 type veth peer name needed1
link set needed0 up
link set needed1 up
address add 192.0.2.2/24 dev needed0
address add 2001:db8::2/64 dev needed0 nodad
route add default via 192.0.2.1
route add default via 192.0.2.9 table 77
route add 198.51.100.0/24 via 192.0.2.3
route add default metric 5 nexthop via 192.0.2.5 nexthop via 192.0.2.6
-6 route add default via 2001:db8::1
"""
RESOLV = """# written by hand
nameserver 192.0.2.53
nameserver fe80::1%needed0
nameserver nonsense
search example
nameserver
"""


def said(needs: HostNeeds) -> set[tuple[str, str]]:
    return {(format_value(n.family, n.address), n.what) for n in needs.addresses()}


def test_what_is_needed(tmp_path: Path) -> None:
    """All routes that lead everywhere count, in every table, and no other route."""
    needs_isolation()
    for line in LINKS.strip().splitlines():
        run("ip", *line.split())
    try:
        resolv_conf = tmp_path / "resolv.conf"
        resolv_conf.write_text(RESOLV)
        wanted = said(HostNeeds(resolv_conf))
    finally:
        run("ip", "link", "del", "needed0")
    assert wanted >= {
        ("192.0.2.2", OWN),
        ("2001:db8::2", OWN),
        *((f"192.0.2.{n}", GATEWAY) for n in (1, 5, 6, 9)),
        ("2001:db8::1", GATEWAY),
        ("192.0.2.53", RESOLVER),
        ("fe80::1", RESOLVER),
    }
    assert ("192.0.2.3", GATEWAY) not in wanted
    assert not {address for address, _ in wanted} & {"127.0.0.1", "::1"}


def test_a_host_without_name_servers(tmp_path: Path) -> None:
    """A file that is not there names none."""
    assert not [n for n in HostNeeds(tmp_path / "none").addresses() if n.what == RESOLVER]


def test_the_kernel_is_asked_again_only_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of change counts at once, also of the file of name servers."""
    needs_isolation()
    resolv_conf = tmp_path / "resolv.conf"
    asked: list[None] = []
    read = read_host

    def noted() -> object:
        asked.append(None)
        return read()

    monkeypatch.setattr(needed, "read_host", noted)
    needs = HostNeeds(resolv_conf)
    before = said(needs)
    changes = [
        ("link add needed0 type veth peer name needed1", None),
        ("link set needed0 up", None),
        ("link set needed1 up", None),
        ("address add 192.0.2.2/24 dev needed0", ("192.0.2.2", OWN)),
        ("address add 2001:db8::2/64 dev needed0 nodad", ("2001:db8::2", OWN)),
        ("route add default via 192.0.2.1", ("192.0.2.1", GATEWAY)),
        ("-6 route add default via 2001:db8::1", ("2001:db8::1", GATEWAY)),
    ]
    try:
        for line, expected in changes:
            run("ip", *line.split())
            after = said(needs)
            assert expected is None or expected in after - before, line
            before = after
        # An IPv6 address of the link itself may come to be used by now.
        settled = said(needs)
        count = len(asked)
        resolv_conf.write_text("nameserver 192.0.2.53\n")
        assert said(needs) - settled <= {("192.0.2.53", RESOLVER)}
        assert ("192.0.2.53", RESOLVER) in said(needs)
        run("ip", "route", "replace", "default", "via", "192.0.2.9")
        assert ("192.0.2.9", GATEWAY) in said(needs)
        assert ("192.0.2.1", GATEWAY) not in said(needs)
        assert len(asked) > count
    finally:
        run("ip", "link", "del", "needed0")
    assert not {address for address, what in said(needs) if what != RESOLVER} & {"192.0.2.2"}
    # Where nothing changes, the answer is given without a question.
    for _ in range(100):
        count = len(asked)
        settled = said(needs)
        if len(asked) == count:
            break
    assert len(asked) == count
    assert said(needs) == settled


def test_news_that_were_lost_count() -> None:
    """The kernel says only that there were more than there was room for."""
    needs_isolation()
    needs = HostNeeds()
    before = needs.addresses()
    assert needs._news
    needs._news.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    addresses = [f"192.0.2.{number}" for number in range(1, 60)]
    try:
        for address in addresses:
            run("ip", "address", "add", f"{address}/32", "dev", "lo")
        assert said(needs) >= {(address, OWN) for address in addresses}
    finally:
        for address in addresses:
            run("ip", "address", "del", f"{address}/32", "dev", "lo", check=False)
    assert needs.addresses() == before
