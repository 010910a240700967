"""What this host cannot do without is found out: its addresses, gateways and name servers."""

from __future__ import annotations

from pathlib import Path

from ipsecd.host.needed import GATEWAY, OWN, RESOLVER, needed_addresses
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


def test_what_is_needed(tmp_path: Path) -> None:
    """All routes that lead everywhere count, in every table, and no other route."""
    needs_isolation()
    for line in LINKS.strip().splitlines():
        run("ip", *line.split())
    try:
        resolv_conf = tmp_path / "resolv.conf"
        resolv_conf.write_text(RESOLV)
        needed = {
            (format_value(n.family, n.address), n.what) for n in needed_addresses(resolv_conf)
        }
    finally:
        run("ip", "link", "del", "needed0")
    assert needed >= {
        ("192.0.2.2", OWN),
        ("2001:db8::2", OWN),
        *((f"192.0.2.{n}", GATEWAY) for n in (1, 5, 6, 9)),
        ("2001:db8::1", GATEWAY),
        ("192.0.2.53", RESOLVER),
        ("fe80::1", RESOLVER),
    }
    assert ("192.0.2.3", GATEWAY) not in needed
    assert not {address for address, _ in needed} & {"127.0.0.1", "::1"}


def test_a_host_without_name_servers(tmp_path: Path) -> None:
    """A file that is not there names none."""
    assert not [n for n in needed_addresses(tmp_path / "none") if n.what == RESOLVER]
