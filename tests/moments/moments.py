"""Owns the moments: changes of links and addresses, there and back, and what is sent meanwhile.

A change is lines of text: a command of ``ip`` in the host's namespace, or one of these:
``peer …``, a command of ``ip`` in the namespace of the peer; ``sysctl NAME=VALUE``; ``join GROUP
LINK`` and ``leave GROUP LINK``, what the counters do.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tests.moments.flood import MAC, Counter, Target
from tests.netns.site import HERE4, HERE6, PEER

EVERYBODY = "ff:ff:ff:ff:ff:ff"
LINK_LOCAL_GROUP = "01:80:c2:00:00:0e"
"""A bridge hands what is sent to it to the stack on the port (IEEE 802.1D, table 7-10)."""
OTHER_MAC = "02:00:00:00:00:02"
REUSED = 910
"""The number that several interfaces have, one after another."""


@dataclass(frozen=True)
class Moment:
    """A change and its undoing; before the first, `prepare` is done with the daemon alive."""

    name: str
    targets: tuple[Target, ...]
    prepare: str
    there: str
    back: str
    needs: str = ""
    """A type of link that not every kernel has."""
    uninterrupted: bool = False
    """Whether permitted packets have a way all the time."""
    outward: str = ""
    """An address of the peer to which this host sends over the link."""


def perform(lines: str, counters: Sequence[Counter] = ()) -> None:
    """Do what the lines say, one after another."""
    words = [line.split() for line in lines.splitlines() if line.strip()]
    for verb, group in groupby(words, key=lambda line: line[0]):
        for line in _batches(verb, list(group)):
            _perform(verb, line, counters)


def _batches(verb: str, lines: list[list[str]]) -> list[list[list[str]]]:
    """Neighbouring commands of ``ip`` in one namespace are one process."""
    return [lines] if verb in ("ip", "peer") else [[line] for line in lines]


def _perform(verb: str, lines: list[list[str]], counters: Sequence[Counter]) -> None:
    if verb in ("ip", "peer"):
        words = ["ip", *(["-n", PEER] if verb == "peer" else []), "-batch", "-"]
        text = "".join(" ".join(line[1:]) + "\n" for line in lines)
        done = subprocess.run(words, input=text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, (text, done.stderr)
    elif verb == "sysctl":
        name, _, value = lines[0][1].partition("=")
        Path("/proc/sys", *name.split(".")).write_text(value)
    else:
        for counter in counters:
            (counter.join if verb == "join" else counter.leave)(*lines[0][1:])


def wire(name: str, *, here: str = "", there: str = "") -> str:
    """A link to the peer, up at both ends, with what is said about either end.

    The end of the peer is up first, so that packets come from the instant the other is.
    """
    return f"""
        ip link add {name} {here} address {MAC} type veth peer name {name}p {there} netns {PEER}
        peer link set {name}p up
        ip link set {name} up
    """


def _way_out(name: str, number: int) -> str:
    """The route over a link to an address of the peer, which nobody has to be asked for."""
    return f"""
        ip route replace 10.99.{number}.1 dev {name}
        ip neigh replace 10.99.{number}.1 dev {name} lladdr {EVERYBODY} nud permanent
    """


def _bridge(name: str) -> str:
    return f"""
        ip link add {name} address {MAC} type bridge
        ip link set {name} up
    """


def _moved_in(name: str, more: str = "") -> str:
    """A link whose both ends are up at the peer, and packets in it, moves to the host."""
    return f"""
        peer link add {name} {more} address {MAC} type veth peer name {name}p
        peer link set {name}p up
        peer link set {name} up
        peer link set {name} netns {os.getpid()}
    """


def _enslaved(kind: str, number: int) -> Moment:
    """A link enters and leaves an aggregate of links that the administrator has made."""
    link, master = f"m{kind}", f"{kind}0"
    mode = "mode active-backup" if kind == "bond" else ""
    return Moment(
        f"a link enters and leaves a {kind}",
        (Target(f"{link}p", HERE4), Target(f"{link}p", HERE6)),
        f"""
            ip link add {master} address {MAC} type {kind} {mode}
            ip link set {master} up
            {_way_out(master, number)}
            {wire(link)}
        """,
        f"""
            ip link set {link} down
            ip link set {link} master {master}
            ip link set {link} up
        """,
        f"""
            ip link set {link} nomaster
            ip link set {link} up
        """,
        needs=kind,
        # A team without a runner, which is a program of its own, sends nothing.
        outward=f"10.99.{number}.1" if kind == "bond" else "",
    )


def moments() -> tuple[Moment, ...]:
    """All of them; each has links and addresses of its own, so they can be prepared together."""
    return (*_addresses(), *_links(), *_stacked())


def _addresses() -> tuple[Moment, ...]:
    return (
        Moment(
            "an IPv4 address arrives and goes",
            (Target("ma4p", "10.1.1.1"),),
            wire("ma4"),
            "ip address add 10.1.1.1/24 dev ma4",
            "ip address del 10.1.1.1/24 dev ma4",
        ),
        Moment(
            "an IPv6 address arrives and goes",
            (Target("ma6p", "fd10:2::1"),),
            wire("ma6"),
            "ip address add fd10:2::1/64 dev ma6 nodad",
            "ip address del fd10:2::1/64 dev ma6",
        ),
        Moment(
            "a directed broadcast address arrives and goes",
            (Target("mbcp", "10.1.3.255", mac=EVERYBODY), Target("mbcp", "10.1.3.1")),
            wire("mbc"),
            "ip address add 10.1.3.1/24 dev mbc",
            "ip address del 10.1.3.1/24 dev mbc",
        ),
        Moment(
            "forwarding brings and takes IPv6 anycast addresses",
            (Target("macp", "fd10:4::"),),
            f"{wire('mac')}\nip address add fd10:4::1/64 dev mac nodad",
            "sysctl net.ipv6.conf.all.forwarding=1",
            "sysctl net.ipv6.conf.all.forwarding=0",
        ),
        Moment(
            "multicast groups are joined and left",
            (
                Target("mmcp", "239.1.5.1", mac="01:00:5e:01:05:01"),
                Target("mmcp", "ff05::1:5", mac="33:33:00:01:00:05"),
            ),
            f"{wire('mmc')}\nip address add 10.1.5.1/24 dev mmc",
            "join 239.1.5.1 mmc\njoin ff05::1:5 mmc",
            "leave 239.1.5.1 mmc\nleave ff05::1:5 mmc",
        ),
        Moment(
            "addresses move between links",
            tuple(Target(f"mm{n}p", to) for n in "ab" for to in ("10.1.6.1", "fd10:6::1")),
            f"""
                {wire("mma")}
                {wire("mmb")}
                ip address add 10.1.6.1/32 dev mma
                ip address add fd10:6::1/128 dev mma nodad
            """,
            """
                ip address del 10.1.6.1/32 dev mma
                ip address add 10.1.6.1/32 dev mmb
                ip address del fd10:6::1/128 dev mma
                ip address add fd10:6::1/128 dev mmb nodad
            """,
            """
                ip address del 10.1.6.1/32 dev mmb
                ip address add 10.1.6.1/32 dev mma
                ip address del fd10:6::1/128 dev mmb
                ip address add fd10:6::1/128 dev mma nodad
            """,
        ),
        Moment(
            "an address arrives on the loopback link",
            (Target("mlop", "10.1.7.1"), Target("mlop", "fd10:7::1")),
            wire("mlo"),
            "ip address add 10.1.7.1/32 dev lo\nip address add fd10:7::1/128 dev lo",
            "ip address del 10.1.7.1/32 dev lo\nip address del fd10:7::1/128 dev lo",
        ),
        Moment(
            "a network becomes local by a route",
            (Target("mrop", "10.1.8.7"), Target("mrop", "fd10:8::7")),
            wire("mro"),
            "ip route add local 10.1.8.0/24 dev lo\nip route add local fd10:8::/64 dev lo",
            "ip route del local 10.1.8.0/24 dev lo\nip route del local fd10:8::/64 dev lo",
        ),
    )


def _links() -> tuple[Moment, ...]:
    return (
        Moment(
            "a link comes and goes",
            (Target("mlcp", HERE4), Target("mlcp", HERE6), Target("mlcp", "10.1.9.1")),
            "",
            f"""
                ip link add mlc address {MAC} type veth peer name mlcp netns {PEER}
                ip address add 10.1.9.1/24 dev mlc
                peer link set mlcp up
                ip link set mlc up
                {_way_out("mlc", 9)}
            """,
            "ip link delete mlc",
            outward="10.99.9.1",
        ),
        Moment(
            "a link goes down and up",
            (Target("mdup", HERE4), Target("mdup", HERE6)),
            f"{wire('mdu')}\n{_way_out('mdu', 10)}",
            "ip link set mdu down",
            f"ip link set mdu up\n{_way_out('mdu', 10)}",
            outward="10.99.10.1",
        ),
        Moment(
            "a link is renamed",
            (Target("mrnp", HERE4), Target("mrnp", HERE6)),
            f"{wire('mrn')}\n{_way_out('mrn', 12)}",
            "ip link set mrn name mrnx",
            "ip link set mrnx name mrn",
            uninterrupted=True,
            outward="10.99.12.1",
        ),
        Moment(
            "a link moves between namespaces",
            (Target("mnsp", HERE4), Target("mnsp", HERE6), Target("mnsp", "10.1.11.1")),
            f"{_moved_in('mns')}\nip link set mns up",
            f"ip link set mns netns {PEER}\npeer link set mns up",
            f"""
                peer link set mns netns {os.getpid()}
                ip address add 10.1.11.1/24 dev mns
                ip link set mns up
                {_way_out("mns", 11)}
            """,
            outward="10.99.11.1",
        ),
        Moment(
            "the number of an interface is used again",
            (Target("mixp", HERE4), Target("mixp", HERE6)),
            wire("mix", here=f"index {REUSED}"),
            f"""
                ip link delete mix
                {wire("mix", here=f"index {REUSED}")}
                {_way_out("mix", 13)}
            """,
            f"""
                ip link delete mix
                {_moved_in("mix", f"index {REUSED}")}
                ip link set mix up
                {_way_out("mix", 13)}
            """,
            outward="10.99.13.1",
        ),
    )


def _stacked() -> tuple[Moment, ...]:
    return (
        Moment(
            "a port enters and leaves a bridge",
            (
                Target("mbrp", HERE4),
                Target("mbrp", HERE6),
                Target("mbrp", HERE4, mac=LINK_LOCAL_GROUP),
            ),
            f"{wire('mbr')}\n{_way_out('mbr', 14)}\n{_bridge('brp')}",
            "ip link set mbr master brp",
            "ip link set mbr nomaster",
            uninterrupted=True,
            outward="10.99.14.1",
        ),
        Moment(
            "the lower link of a VLAN enters and leaves a bridge",
            (Target("mvbp", HERE4, (5,)), Target("mvbp", HERE6, (5,))),
            f"""
                {wire("mvb")}
                ip link add link mvb name mvb.5 type vlan id 5
                ip link set mvb.5 up
                {_bridge("brv")}
            """,
            "ip link set mvb master brv",
            "ip link set mvb nomaster",
            needs="vlan",
            uninterrupted=True,
        ),
        Moment(
            "a VLAN comes and goes",
            (Target("mvlp", HERE4, (5,)), Target("mvlp", HERE6, (5,))),
            wire("mvl"),
            "ip link add link mvl name mvl.5 type vlan id 5\nip link set mvl.5 up",
            "ip link delete mvl.5",
            needs="vlan",
        ),
        Moment(
            "a VLAN in a VLAN comes and goes",
            (Target("mqqp", HERE4, (5, 6)), Target("mqqp", HERE6, (5, 6))),
            f"""
                {wire("mqq")}
                ip link add link mqq name mqq.5 type vlan id 5
                ip link set mqq.5 up
            """,
            "ip link add link mqq.5 name mqq.5.6 type vlan id 6\nip link set mqq.5.6 up",
            "ip link delete mqq.5.6",
            needs="vlan",
        ),
        Moment(
            "a macvlan comes and goes",
            (Target("mmvp", HERE4, mac=OTHER_MAC), Target("mmvp", HERE6, mac=OTHER_MAC)),
            wire("mmv"),
            f"ip link add link mmv name mv0 address {OTHER_MAC} type macvlan\nip link set mv0 up",
            "ip link delete mv0",
            needs="macvlan",
        ),
        _enslaved("bond", 15),
        _enslaved("team", 16),
    )


def possible(moment: Moment) -> bool:
    """Whether this kernel has the type of link that the moment is about; asked at the peer."""
    if not moment.needs:
        return True
    lower = {"vlan": "link wire1", "macvlan": "link wire1"}.get(moment.needs, "")
    number = "id 5" if moment.needs == "vlan" else ""
    words = f"link add {lower} asked0 type {moment.needs} {number}".split()
    if subprocess.run(["ip", "-n", PEER, *words], capture_output=True, check=False).returncode:
        return False
    subprocess.run(["ip", "-n", PEER, "link", "delete", "asked0"], check=True)
    return True
