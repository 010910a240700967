"""Owns the zones and policies that firewalld brings; must not know files.

They are in force where no file of the host describes them.
"""

from __future__ import annotations

from ipsecctl.importing.firewalld import (
    ACCEPT,
    ANY_ZONE,
    CONTINUE,
    DEFAULT,
    DROP,
    HOST_ZONE,
    REJECT,
    Element,
    Named,
    Policy,
    RichRule,
    Traffic,
    Zone,
)
from ipsecctl.importing.firewalld_icmp import icmp_named
from ipsecctl.importing.source import Line

_STOCK = {
    "block": (REJECT, ()),
    "dmz": (DEFAULT, ("ssh",)),
    "drop": (DROP, ()),
    "external": (DEFAULT, ("ssh",)),
    "home": (DEFAULT, ("ssh", "mdns", "samba-client", "dhcpv6-client")),
    "internal": (DEFAULT, ("ssh", "mdns", "samba-client", "dhcpv6-client")),
    "public": (DEFAULT, ("ssh", "dhcpv6-client")),
    "trusted": (ACCEPT, ()),
    "work": (DEFAULT, ("ssh", "dhcpv6-client")),
}


def stock_zone(name: str) -> Zone | None:
    """The zone called `name` as firewalld brings it; None if it brings none."""
    if name not in _STOCK:
        return None
    target, services = _STOCK[name]
    line = Line("firewalld", 0, f"zone {name}: target {target}")
    traffic = Traffic(
        services=tuple(
            Named(service, Line("firewalld", 0, f"zone {name}: service name={service}"))
            for service in services
        )
    )
    return Zone(
        name,
        line,
        target,
        traffic=traffic,
        forward=Line("firewalld", 0, f"zone {name}: forward"),
        stock=True,
    )


def _icmp_of_ipv6() -> Policy:
    """What hosts need of ICMPv6 comes before all zones."""
    line = Line("firewalld", 0, "policy allow-host-ipv6")
    names = (
        *("neighbour-advertisement", "neighbour-solicitation"),
        *("router-advertisement", "redirect"),
    )
    rules = tuple(
        RichRule(line, version=6, element=Element(icmp=icmp_named(name)), action="accept")
        for name in names
    )
    return Policy(
        *("allow-host-ipv6", line, CONTINUE, -15000, (ANY_ZONE,), (HOST_ZONE,)),
        traffic=Traffic(rich=rules),
    )


STOCK_POLICIES = {"allow-host-ipv6": _icmp_of_ipv6()}
"""Those that are in force on every host."""
