"""The independent reading of other firewalls' rules says what the kernel does with them.

Each rule set is loaded by the tool that it is of, in a network namespace of its own. Packets of all
classes that arrive come out of interfaces that this process holds, and a chain behind all others
writes down which of them came through.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ipsecctl.importing.cells import Cells, Place
from ipsecctl.importing.regions import Dim, spans
from ipsecctl.importing.source import Hook, SourcePacket, State
from ipsecd.model.addresses import Family
from ipsecd.model.kinds import Action
from ipsecd.model.packets import Packet, Point
from tests.containers.engines import needs
from tests.frames import encode
from tests.importing.corpus import DIRECTORY, load
from tests.netns.site import inside, own_name, run

HERE = IPv4Address("192.0.2.99")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
"""include/uapi/linux/if_tun.h"""
SEEN = """
table ip seen {
  set delivered { typeof ip id; size 65535; flags dynamic; }
  set forwarded { typeof ip id; size 65535; flags dynamic; }
  chain input { type filter hook input priority 5000; add @delivered { ip id }; }
  chain forward { type filter hook forward priority 5000; add @forwarded { ip id }; }
}
"""
REQUESTS = (8, 13, 15, 17)
"""Types of ICMP that open a connection; others are invalid unless something came before them."""
WITHOUT_WHOLE_HEADERS = (33, 132, 136)
"""DCCP, SCTP and UDP-Lite, which are invalid as ``encode`` writes them."""
MOST = 6_000


@contextmanager
def links(namespace: Sequence[str], names: Sequence[str]) -> Iterator[dict[str, int]]:
    """Interfaces of these names, each with a descriptor that packets are written to."""
    with ExitStack() as stack:
        found = {}
        for name in names:
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            stack.callback(os.close, descriptor)
            fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), 0x1001))
            run("ip", "link", "set", name, "netns", namespace[-1])
            run(*namespace, "ip", "link", "set", name, "up", "mtu", "1500")
            found[name] = descriptor
        yield found


@contextmanager
def host(names: Sequence[str]) -> Iterator[tuple[Sequence[str], dict[str, int]]]:
    """A namespace with these interfaces, which forwards whatever comes out by the first."""
    name = own_name("import")
    namespace = inside(name)
    run("ip", "netns", "add", name)
    try:
        with links(namespace, names) as descriptors:
            for setting in ("ip_forward=1", "conf.all.rp_filter=0", "conf.default.rp_filter=0"):
                run(*namespace, "sysctl", "-qw", f"net.ipv4.{setting}")
            run(*namespace, "ip", "link", "set", "lo", "up")
            for link in names:
                run(*namespace, "sysctl", "-qw", f"net.ipv4.conf.{link}.rp_filter=0")
            run(*namespace, "ip", "address", "add", f"{HERE}/32", "dev", "lo")
            run(*namespace, "ip", "route", "add", "default", "dev", names[0])
            yield namespace, descriptors
    finally:
        run("ip", "netns", "delete", name)


def sent(one: SourcePacket, number: int) -> bytes:
    """A packet as it is on the link, with a number of its own."""
    message = one.message
    return encode(
        Packet(
            *(Point.ARRIVING, one.family, one.source, one.destination, one.protocol),
            *(one.source_port, one.destination_port),
            icmp_type=None if message is None else message >> 8,
            icmp_code=0 if message is None else message & 255,
        ),
        number,
    )


def opens(one: SourcePacket) -> bool:
    """Whether connection tracking calls it new, as it is written here."""
    whole = one.protocol not in WITHOUT_WHOLE_HEADERS
    return (
        one.state is State.NEW and whole and (one.message is None or one.message >> 8 in REQUESTS)
    )


@pytest.mark.parametrize(
    ("name", "loader"),
    [
        ("workstation", ("iptables-restore",)),
        ("router", ("iptables-restore",)),
        ("fail2ban", ("iptables-restore",)),
        ("docker-host", ("iptables-restore",)),
        ("libvirt", ("iptables-restore",)),
        ("nft-server", ("nft", "-f", "-")),
        ("nft-two-tables", ("nft", "-f", "-")),
    ],
)
def test_the_kernel_agrees(name: str, loader: tuple[str, ...]) -> None:
    """What arrives is let through, or not, as the reading says."""
    needs(loader[0], "nft")
    if not Path("/dev/net/tun").exists() and "CI" not in os.environ:
        pytest.skip("needs /dev/net/tun")
    parsed, _ = load(name)
    own = {Family.IPV4: spans([(int(HERE), int(HERE))]), Family.IPV6: ()}
    place = Place(own, dict.fromkeys(Family, ()), parsed.links, {})
    mentions = list(parsed.mentions())
    chosen = [
        one
        for hook in (Hook.IN, Hook.FORWARD)
        for one in Cells(hook, Family.IPV4, mentions, place).all()
        if opens(one) and one.link != "lo" and one.source >> 24 not in (0, 240)
        if hook is Hook.FORWARD or one.destination == int(HERE)
    ][:MOST]
    out = parsed.links.names[1]
    chosen = [one for one in chosen if one.hook is Hook.IN or one.out_link == out]
    assert not any(Dim.SOURCE_PORT in mention.region for mention in mentions)
    # An answer to a packet would make the next one of the same ports part of a connection.
    chosen = [
        replace(one, source_port=one.source_port and 20_000 + number)
        for number, one in enumerate(chosen)
    ]
    assert len(chosen) > 12
    (file,) = DIRECTORY.glob(name.removeprefix("nft-") + (".nft" if "nft" in name else ".v4"))
    names = parsed.links.names[1:]
    with host(names) as (namespace, descriptors):
        rules = file.read_text(encoding="utf-8")
        subprocess.run([*namespace, *loader], input=rules, text=True, check=True)
        run(*namespace, "nft", SEEN)
        # The packets have no sums, and would be invalid.
        run(*namespace, "sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=0")
        for number, one in enumerate(chosen, 1):
            os.write(descriptors[one.link], sent(one, number))
        listed = [
            subprocess.run(
                [*namespace, "nft", "list", "set", "ip", "seen", where],
                capture_output=True, text=True, check=True,
            ).stdout
            for where in ("delivered", "forwarded")
        ]  # fmt: skip
    passed = {
        int(each)
        for text in listed
        for each in re.findall(r"\d+", text.partition("elements = {")[2])
    }
    evaluator = parsed.evaluator()
    wrong = []
    for number, one in enumerate(chosen, 1):
        expected = evaluator.judge(one).actions
        found = Action.PERMIT if number in passed else Action.BLOCK
        if found not in expected:
            wrong.append((one, found))
    assert not wrong, wrong[:5]
    assert passed
