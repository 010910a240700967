"""What the tags of a filter come to, which filters they find again, and where servers are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsecctl.netsh.failing import Failure, NotDoneHere
from ipsecctl.netsh.filters import Agreement, filter_of
from ipsecctl.netsh.servers import servers_of_this_host
from ipsecctl.netsh.table import BY_CONTEXT
from ipsecctl.netsh.words import given_to
from ipsecd.errors import InvalidInput
from ipsecd.language.filters import format_filter
from ipsecd.language.shared_filters import format_shared_filter
from ipsecd.model.shared_filters import ServerKind, SharedFilter
from tests.ctl.netsh_host import NetshHost, found_servers, words_of


def made(tags: str, notes: list[str] | None = None) -> SharedFilter:
    given = given_to(BY_CONTEXT["static"]["add filter"], words_of(f"filterlist=L {tags}"))
    return filter_of(given, (notes if notes is not None else []).append, found_servers)


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ("srcaddr=any dstaddr=me dstport=445 protocol=TCP", "*+0:445:TCP"),
        ("srcaddr=me dstaddr=any", "0+*"),
        ("srcaddr=me dstaddr=any dstport=22 protocol=TCP mirrored=no", "0=*:22:TCP"),
        ("srcaddr=192.168.0.1 srcmask=255.255.255.0 dstaddr=me", "192.168.0.0/24+0"),
        ("srcaddr=me srcport=68 dstaddr=any dstport=67 protocol=udp", "0:68+*:67:UDP"),
        ("srcaddr=any dstaddr=me protocol=47", "*+0::GRE"),
        ("srcaddr=Any srcmask=32 dstaddr=ME dstmask=255.255.255.0", "*+0"),
        ("srcaddr=any srcmask=0.0.0.0 dstaddr=me", "*+0"),
        ("srcaddr=198.51.100.7 srcmask=24 dstaddr=me", "198.51.100.0/24+0"),
        ("srcaddr=198.51.100.7/255.255.255.0 dstaddr=me", "198.51.100.0/24+0"),
        ("srcaddr=0.0.0.0 dstaddr=me", "*+0"),
        ("srcaddr=0.0.0.0 srcmask=0.0.0.0 dstaddr=me", "*+0"),
        ("srcaddr=0.0.0.0/8 dstaddr=me", "0.0.0.0/8+0"),
        ("srcaddr=2001:db8::7 dstaddr=me", "[2001:db8::7]+0"),
        ("srcaddr=2001:db8::7/32 dstaddr=me", "[2001:db8::]/32+0"),
        ("srcaddr=2001:db8::7 srcmask=64 dstaddr=me", "[2001:db8::]/64+0"),
        ("srcaddr=www.example.com dstaddr=me", "www.example.com+0"),
        ("srcaddr=10.0.0.1-10.0.0.9 dstaddr=me mirrored=no", "10.0.0.1-10.0.0.9=0"),
        ("srcaddr=2001:db8::1-2001:db8::9 dstaddr=me", "[2001:db8::1]-[2001:db8::9]+0"),
        ("srcaddr=me dstaddr=dns dstport=53 protocol=udp", "0+dns(192.0.2.1):53:UDP"),
        ("srcaddr=GATEWAY dstaddr=me", "gateway(192.0.2.4)+0"),
        ("srcaddr=any dstaddr=me protocol=1", "*+0::ICMP"),
        ("srcaddr=any dstaddr=me protocol=0", "*+0"),
        ("srcaddr=any dstaddr=me protocol=icmp srcport=0 dstport=0", "*+0::ICMP"),
        ("srcaddr=any dstaddr=me protocol=raw", "*+0::RAW"),
        ("srcaddr=any dstaddr=any", "*+*"),
    ],
)
def test_tags_make_a_filter(tags: str, wanted: str) -> None:
    """As the tool of old meant them; host bits are cut off, and a mask of ``me`` does not count."""
    notes: list[str] = []
    assert format_shared_filter(made(tags, notes)) == wanted
    assert not notes


@pytest.mark.parametrize(
    ("tags", "wanted", "said"),
    [
        ("srcaddr=me dstaddr=localhost dstmask=255.255.255.0", "0+127.0.0.0/24", "localhost"),
        ("srcaddr=198.51.100.0/24 srcmask=255.255.0.0 dstaddr=me", "198.51.100.0/24+0", "its mask"),
        ("srcaddr=10.0.0.1-10.0.0.2 srcmask=24 dstaddr=me", "10.0.0.1-10.0.0.2+0", "its own ends"),
        ("srcaddr=any dstaddr=me protocol=tcp dstport=any", "*+0::TCP", "dstport=0"),
    ],
)
def test_what_does_not_count_is_said(tags: str, wanted: str, said: str) -> None:
    """It is accepted, as scripts have it."""
    notes: list[str] = []
    assert format_shared_filter(made(tags, notes)) == wanted
    assert len(notes) == 1
    assert said in notes[0]


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ("srcaddr=any dstaddr=me dstport=80", "TCP or UDP"),
        ("srcaddr=any dstaddr=me dstport=80 protocol=icmp", "TCP or UDP"),
        ("srcaddr=any dstaddr=me dstport=80-90 protocol=tcp", "'80-90' is not a port"),
        ("srcaddr=any dstaddr=me dstport=65536 protocol=tcp", "is not a port"),
        ("srcaddr=any dstaddr=me dstport=http protocol=tcp", "is not a port"),
        ("srcaddr=any dstaddr=me protocol=tpc", "'tpc' is not a protocol"),
        ("srcaddr=any dstaddr=me protocol=256", "is not a protocol"),
        ("srcaddr=10.0.0.300 dstaddr=me", "'10.0.0.300' is not an address"),
        ("srcaddr=@bans dstaddr=me", "of ipsecctl"),
        ("srcaddr=container:web dstaddr=me", "of ipsecctl"),
        ("srcaddr=10.0.0.1 srcmask=33 dstaddr=me", "srcmask='33' is not a mask"),
        ("srcaddr=10.0.0.1 srcmask=0 dstaddr=me", "is not a mask"),
        ("srcaddr=10.0.0.1 srcmask=255.0.255.0 dstaddr=me", "has gaps"),
        ("srcaddr=0.0.0.0 srcmask=32 dstaddr=me", "0.0.0.0 with the mask of one host"),
        ("srcaddr=10.0.0.9-10.0.0.1 dstaddr=me", "is not a range"),
        ("srcaddr=10.0.0.9-::1 dstaddr=me", "is not a range"),
        ("srcaddr=dns dstaddr=any", "needs this host"),
        ("srcaddr=10.0.0.1 dstaddr=2001:db8::1", "make no filter"),
        ("srcaddr=10.0.0.1“ dstaddr=me", "word processors"),
        ("srcaddr=::ffff:10.0.0.1 dstaddr=me", "is not an address"),
    ],
)
def test_what_is_no_filter_is_refused(tags: str, said: str) -> None:
    """With its tag and its value."""
    with pytest.raises((Failure, InvalidInput), match=said):
        made(tags)


def test_a_mirrored_filter_of_any_is_one() -> None:
    """``any`` and ``me`` are of both IP versions, so one filter is all."""
    assert [format_filter(flt) for flt in made("srcaddr=any dstaddr=any").filters()] == ["*+*"]


@pytest.mark.parametrize(
    ("there", "asked", "agrees"),
    [
        ("srcaddr=203.0.113.9 dstaddr=me", "srcaddr=203.0.113.9 dstaddr=me", True),
        ("srcaddr=203.0.113.9 dstaddr=me", "srcaddr=203.0.113.9 srcmask=32 dstaddr=me", True),
        ("srcaddr=203.0.113.0/24 dstaddr=me", "srcaddr=203.0.113.9 dstaddr=me", False),
        ("srcaddr=203.0.113.0/24 dstaddr=me", "srcaddr=203.0.113.0 dstaddr=me", True),
        ("srcaddr=203.0.113.0/24 dstaddr=me", "srcaddr=203.0.113.0/25 dstaddr=me", False),
        ("srcaddr=203.0.113.0/24 dstaddr=me", "srcaddr=203.0.113.7/24 dstaddr=me", True),
        ("srcaddr=any dstaddr=me protocol=tcp", "srcaddr=any dstaddr=me", True),
        ("srcaddr=any dstaddr=me protocol=tcp", "srcaddr=any dstaddr=me protocol=any", False),
        ("srcaddr=any dstaddr=me protocol=tcp dstport=80",
         "srcaddr=any dstaddr=me protocol=tcp", True),
        ("srcaddr=any dstaddr=me protocol=tcp dstport=80",
         "srcaddr=any dstaddr=me protocol=tcp dstport=0", False),
        ("srcaddr=any dstaddr=me mirrored=no", "srcaddr=any dstaddr=me", True),
        ("srcaddr=any dstaddr=me mirrored=no", "srcaddr=any dstaddr=me mirrored=yes", False),
        ("srcaddr=any dstaddr=me", "srcaddr=me dstaddr=any", False),
        ("srcaddr=10.0.0.1-10.0.0.9 dstaddr=me", "srcaddr=10.0.0.1-10.0.0.9 dstaddr=me", True),
        ("srcaddr=10.0.0.1-10.0.0.9 dstaddr=me", "srcaddr=10.0.0.1-10.0.0.8 dstaddr=me", False),
        ("srcaddr=A.example dstaddr=me", "srcaddr=a.EXAMPLE dstaddr=me", True),
        ("srcaddr=dns dstaddr=me", "srcaddr=DNS dstaddr=me", True),
        ("srcaddr=dns dstaddr=me", "srcaddr=wins dstaddr=me", False),
    ],
)  # fmt: skip
def test_filters_are_found_by_all_that_is_given(there: str, asked: str, agrees: bool) -> None:
    """The rest may be anything; an address without a mask finds it with any."""
    host = NetshHost()
    assert host.line(f"ipsec static add filter filterlist=L {there}").code == 0
    answer = host.line(f"ipsec static delete filter filterlist=L {asked}")
    assert (answer.code == 0) is agrees
    assert bool(host.shared.lists["L"].filters) is not agrees


def test_every_filter_that_agrees_is_deleted() -> None:
    """And no other."""
    host = NetshHost()
    for tags in ("dstport=80", "dstport=443", "dstport=80 mirrored=no"):
        host.line(f"ipsec static add filter L any me protocol=tcp {tags}")
    assert host.line("ipsec static delete filter L any me dstport=80").code == 0
    assert [flt.destination.ports[0].first for flt in host.shared.lists["L"].filters] == [443]


def test_agreement_needs_the_same_places() -> None:
    """What is looked for by addresses is where filters with these addresses are kept."""
    given = given_to(BY_CONTEXT["static"]["delete filter"], words_of("L 10.0.0.7/24 me"))
    agreement = Agreement(given, lambda _: None, found_servers)
    assert agreement.is_with(made("srcaddr=10.0.0.0/24 dstaddr=me"))


def test_servers_of_a_host(tmp_path: Path) -> None:
    """They are what the files of a host say; a resolver on loopback is none."""
    files = {
        "etc/resolv.conf": "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n"
        "nameserver 2001:db8::53%eth0\nnameserver rubbish\n",
        "etc/samba/smb.conf": "[global]\n  wins server = 192.0.2.7, 192.0.2.8\n",
        "var/lib/dhcp/dhclient.eth0.leases": "  option dhcp-server-identifier 192.0.2.67;\n",
        "run/systemd/netif/leases/2": "SERVER_ADDRESS=192.0.2.68\n",
        "proc/net/route": "Iface\tDestination\tGateway\tFlags\n"
        "eth0\t00000000\t010200C0\t0003\neth0\t000200C0\t00000000\t0001\n",
        "proc/net/ipv6_route": f"{'0' * 32} 00 {'0' * 32} 00 20010db8{'0' * 23}1 "
        "00000400 00000001 00000000 00000003 eth0\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = {
        kind: format_shared_filter(
            filter_of(
                given_to(
                    BY_CONTEXT["static"]["add filter"], ["L", f"srcaddr={kind.value}", "dstaddr=me"]
                ),
                lambda _: None,
                lambda kind: servers_of_this_host(kind, tmp_path),
            )
        )
        for kind in ServerKind
    }
    assert found == {
        ServerKind.DNS: "dns(192.0.2.53, [2001:db8::53])+0",
        ServerKind.WINS: "wins(192.0.2.7, 192.0.2.8)+0",
        ServerKind.DHCP: "dhcp(192.0.2.67, 192.0.2.68)+0",
        ServerKind.GATEWAY: "gateway(192.0.2.1, [2001:db8::1])+0",
    }
    with pytest.raises(NotDoneHere, match="knows no WINS server"):
        servers_of_this_host(ServerKind.WINS, tmp_path / "etc")
