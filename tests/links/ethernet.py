"""Owns links with an Ethernet header, and what is made of them: VLANs, bridges, bonds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.links import devices
from tests.links.ground import PORT, Ground, Kind, at_host, at_peer, scripts

PLAIN_PEER = at_peer("port1")
TAGGED_PEER = f"""
    link set port1 up
    link add link port1 name link0 type vlan id 5
    {at_peer("link0")}
"""


def tags(*protocols: str) -> str:
    """Lines that put a VLAN on another, from the wire upwards; the last one is ``link0``."""
    lines, below = [], "{wire}"
    for number, protocol in enumerate(protocols):
        name = "link0" if number == len(protocols) - 1 else f"tag{number}"
        lines.append(
            f"link add link {below} name {name} type vlan protocol {protocol} id {number + 5}"
        )
        lines.append(f"link set {name} up")
        below = name
    return "\n".join(lines)


def vlans(title: str, protocols: Sequence[str]) -> Kind:
    lines = tags(*protocols)
    here, there = (lines.replace("{wire}", wire) for wire in ("wire0", "wire1"))
    return Kind(
        title,
        scripts(here + at_host("link0"), there + at_peer("link0")),
    )


@contextmanager
def filtering_bridge(ground: Ground) -> Iterator[None]:
    """The bridge takes the tag off: its host is in VLAN 5 without one."""
    ground.host(f"""
        {PORT}
        link add link0 type bridge vlan_filtering 1 vlan_default_pvid 0
        link set port0 master link0
        {at_host("link0")}
    """)
    ground.bridge("""
        vlan add vid 5 dev port0
        vlan add vid 5 dev link0 self pvid untagged
    """)
    ground.peer(TAGGED_PEER)
    yield


@contextmanager
def vlan_on_filtering_bridge(ground: Ground) -> Iterator[None]:
    """The tag stays on through the bridge, and a device above takes it off."""
    ground.host(f"""
        {PORT}
        link add bridge0 type bridge vlan_filtering 1
        link set port0 master bridge0
        link set bridge0 up
        link add link bridge0 name link0 type vlan id 5
        {at_host("link0")}
    """)
    ground.bridge("""
        vlan add vid 5 dev port0
        vlan add vid 5 dev bridge0 self
    """)
    ground.peer(TAGGED_PEER)
    yield


@contextmanager
def team(ground: Ground) -> Iterator[None]:
    ground.host(f"{PORT}\nlink set port0 down\nlink add link0 type team")
    devices.set_team_mode("link0", "roundrobin")
    ground.settle()
    ground.host(f"link set port0 master link0\n{at_host('link0')}")
    ground.peer(PLAIN_PEER)
    yield


def bond(mode: str) -> Kind:
    return Kind(
        f"bond, {mode}",
        scripts(
            f"""
            {PORT}
            link add link0 type bond mode {mode} miimon 10
            {at_host("link0")}
            settle
            link set port0 down
            link set port0 master link0
            link set port0 up
            """,
            PLAIN_PEER,
        ),
        ordered=True,
    )


NETKIT = """
    link add link0 type netkit
    link set nk0 netns peer name link0
"""
MACSEC_PORT = """
    link add port0 address 02:00:00:00:00:0a type veth peer name port1 address 02:00:00:00:00:0b netns peer
    link set port0 up
"""  # noqa: E501


def macsec(lower: str, remote: str, keys: tuple[str, str]) -> str:
    """Lines for one end, with the keys for what it sends and for what it takes."""
    key, other_key = (digit * 32 for digit in keys)
    return f"""
        link set {lower} up
        link add link {lower} name link0 type macsec encrypt on
        macsec add link0 tx sa 0 pn 1 on key 01 {key}
        macsec add link0 rx port 1 address {remote}
        macsec add link0 rx port 1 address {remote} sa 0 pn 1 on key 02 {other_key}
    """


KINDS = (
    Kind(
        "veth",
        scripts(
            "link add link0 type veth peer name link0 netns peer" + at_host("link0"),
            at_peer("link0"),
        ),
    ),
    vlans("VLAN (802.1Q)", ["802.1Q"]),
    vlans("QinQ (802.1ad, 802.1Q)", ["802.1ad", "802.1Q"]),
    vlans("two tags (802.1Q)", ["802.1Q"] * 2),
    vlans("three tags", ["802.1ad", "802.1Q", "802.1Q"]),
    vlans("four tags", ["802.1ad", "802.1ad", "802.1Q", "802.1Q"]),
    Kind(
        "bridge",
        scripts(
            f"{PORT}\nlink add link0 type bridge\nsettle\nlink set port0 master link0"
            + at_host("link0"),
            PLAIN_PEER,
        ),
    ),
    Kind(
        "bridge with VLAN filtering",
        scripts(
            f"{PORT}\nlink add link0 type bridge vlan_filtering 1\nlink set port0 master link0"
            + at_host("link0"),
            PLAIN_PEER,
        ),
    ),
    Kind("bridge with VLAN filtering, that takes the tag off", filtering_bridge),
    Kind(
        "VLAN on a bridge",
        scripts(
            f"""
            {PORT}
            link add bridge0 type bridge
            link set bridge0 up
            link set port0 master bridge0
            settle
            link add link bridge0 name link0 type vlan id 5
            {at_host("link0")}
            """,
            TAGGED_PEER,
        ),
    ),
    Kind("VLAN on a bridge with VLAN filtering", vlan_on_filtering_bridge),
    Kind(
        "VLAN on a link that enters a bridge later",
        scripts(
            f"""
            {PORT}
            link add link port0 name link0 type vlan id 5
            {at_host("link0")}
            link add bridge0 type bridge
            link set bridge0 up
            settle
            link set port0 master bridge0
            """,
            TAGGED_PEER,
        ),
    ),
    Kind(
        "VLAN on a port of a bridge",
        scripts(
            f"""
            {PORT}
            link add bridge0 type bridge
            link set bridge0 up
            link set port0 master bridge0
            settle
            link add link port0 name link0 type vlan id 5
            {at_host("link0")}
            """,
            TAGGED_PEER,
        ),
    ),
    bond("active-backup"),
    bond("balance-rr"),
    Kind(
        "VLAN on a bond",
        scripts(
            f"""
            {PORT}
            link add bond0 type bond mode active-backup miimon 10
            link set bond0 up
            link add link bond0 name link0 type vlan id 5
            {at_host("link0")}
            settle
            link set port0 down
            link set port0 master bond0
            link set port0 up
            """,
            TAGGED_PEER,
        ),
        ordered=True,
    ),
    Kind("team", team),
    *(
        Kind(
            f"{kind}, {mode}",
            scripts(
                f"link add link wire0 name link0 type {kind} mode {mode}" + at_host("link0"),
                f"link add link wire1 name link0 type {kind} mode {mode}" + at_peer("link0"),
            ),
        )
        for kind, mode in (("macvlan", "bridge"), ("macvlan", "passthru"), ("ipvlan", "l2"))
    ),
    Kind("tap", devices.relayed(tap=True)),
    Kind(
        "MACsec",
        scripts(
            MACSEC_PORT + macsec("port0", "02:00:00:00:00:0b", ("1", "2")) + at_host("link0"),
            macsec("port1", "02:00:00:00:00:0a", ("2", "1")) + at_peer("link0"),
        ),
    ),
    Kind(
        "VRF",
        scripts(
            f"""
            {PORT}
            link add vrf0 type vrf table 77
            link set vrf0 up
            settle
            link set port0 master vrf0
            {at_host("port0")}
            """,
            PLAIN_PEER,
        ),
        bound_to="vrf0",
        ordered=True,
    ),
    Kind("netkit", scripts(NETKIT + at_host("link0"), at_peer("link0")), since=(6, 7)),
)
