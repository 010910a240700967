"""Owns what has to be known of a configuration of firewalld besides its order; knows no packets."""

from __future__ import annotations

from collections.abc import Iterator

from ipsecctl.importing.firewalld import (
    ANY_ZONE,
    HOST_ZONE,
    Configuration,
    Named,
    Traffic,
    Zone,
)
from ipsecctl.importing.source import Kind, Line, Note
from ipsecd.quoting import few, quote

_OTHER = {
    "masquerade": (
        "masquerading translates addresses",
        "keep it in nftables or firewalld; permit what passes through here, if it should",
    ),
    "forward-port": (
        "forwarding a port translates addresses, after a policy has judged the packet",
        "keep it in nftables or firewalld, and permit the port that packets are sent to",
    ),
    "tcp-mss-clamp": ("it changes packets", "keep it in nftables or firewalld"),
    "mark": ("marking decides nothing", "keep it in nftables or firewalld"),
    "log": ("a log decides nothing", "ipsecctl monitor shows what is dropped"),
    "nflog": ("a log decides nothing", "ipsecctl monitor shows what is dropped"),
    "audit": ("a log decides nothing", "ipsecctl monitor shows what is dropped"),
}
_OFF = frozenset({"no", "false", "0"})


def used_zones(configuration: Configuration) -> tuple[Zone, ...]:
    """The zones that packets get into."""
    return tuple(
        zone
        for zone in configuration.zones.values()
        if zone.interfaces or zone.sources or zone.name == configuration.default_zone
    )


def notes_of(configuration: Configuration) -> Iterator[Note]:
    """What is not about blocking, is not known, or was taken for true."""
    yield from _of_zones(configuration)
    used = used_zones(configuration)
    traffics = [zone.traffic for zone in used]
    traffics += [policy.traffic for policy in configuration.policies]
    for traffic in traffics:
        yield from _of_traffic(configuration, traffic)
    yield from _of_policies(configuration)
    for rule in configuration.direct:
        yield Note(
            rule.line,
            Kind.LEFT_OUT,
            "a direct rule stands outside of zones and policies, and comes before them",
            "write it as a rich rule and import again, or import it from iptables-save",
            weaker=True,
        )
    yield from _of_settings(configuration)
    if configuration.from_table:
        yield Note(
            Line("firewalld", 0, f"services {few(sorted(configuration.from_table))}"),
            Kind.ASSUMED,
            "no file describes these services, so their usual ports are taken",
            "give /usr/lib/firewalld of the host too, if its services may differ",
        )


def _of_zones(configuration: Configuration) -> Iterator[Note]:
    used = used_zones(configuration)
    for zone in used:
        if zone.stock:
            yield Note(
                zone.line,
                Kind.ASSUMED,
                f"no file describes zone {quote(zone.name)}, so it is as firewalld brings it",
                "give /usr/lib/firewalld of the host too, if the zone may differ",
            )
    idle = sorted(set(configuration.zones) - {zone.name for zone in used})
    if idle:
        yield Note(
            Line("firewalld", 0, f"zones {few(idle, 12)}"),
            Kind.NO_BLOCKING,
            "no link and no source is in these zones, so they judge no packet",
            "nothing; if NetworkManager puts a link into one, name it there and import again",
        )
    default = configuration.zones[configuration.default_zone]
    yield Note(
        Line("firewalld", 0, f"default zone {default.name}"),
        Kind.ASSUMED,
        "links that no zone names are taken to be in the default zone",
        "if NetworkManager puts links into zones, name them in the files of these zones",
    )


def _of_traffic(configuration: Configuration, traffic: Traffic) -> Iterator[Note]:
    for named in traffic.services:
        if not configuration.service(named.name):
            yield _unknown_service(named, weaker=False)
    for rule in traffic.rich:
        name = rule.element.service
        if name and not configuration.service(name):
            weaker = rule.action in {"reject", "drop"}
            yield _unknown_service(Named(name, rule.line), weaker=weaker)
        for other in rule.other:
            yield _other(Named(other, rule.line))
    yield from map(_other, traffic.other)


def _unknown_service(named: Named, *, weaker: bool) -> Note:
    return Note(
        named.line,
        Kind.LEFT_OUT,
        f"service {quote(named.name)} is not known",
        "give the directory that describes it, such as /usr/lib/firewalld, or name its ports",
        weaker,
    )


def _other(named: Named) -> Note:
    if named.name in _OTHER:
        return Note(named.line, Kind.NO_BLOCKING, *_OTHER[named.name])
    return Note(
        named.line,
        Kind.LEFT_OUT,
        f"{named.name} is not known",
        "write what it does with services, ports, protocols or rich rules",
        weaker=True,
    )


def _of_policies(configuration: Configuration) -> Iterator[Note]:
    for policy in configuration.policies:
        unknown = set(policy.ingress + policy.egress) - set(configuration.zones)
        for name in sorted(unknown - {ANY_ZONE, HOST_ZONE}):
            yield Note(
                policy.line,
                Kind.LEFT_OUT,
                f"zone {quote(name)} of policy {quote(policy.name)} is not described",
                "give the directory that describes it, such as /usr/lib/firewalld",
                weaker=True,
            )


def _of_settings(configuration: Configuration) -> Iterator[Note]:
    backend = configuration.settings.get("FirewallBackend")
    if backend and backend.name.lower() == "iptables":
        yield Note(
            backend.line,
            Kind.ASSUMED,
            "the rules are read as firewalld makes them with nftables",
            "import iptables-save of the host as well, and compare",
        )
    check = configuration.settings.get("IPv6_rpfilter")
    if not check or check.name.lower() not in _OFF:
        yield Note(
            check.line if check else Line("firewalld", 0, "IPv6_rpfilter, which is on by default"),
            Kind.LEFT_OUT,
            "whether a route leads back to a source is not part of a policy",
            "keep the check in nftables or firewalld",
            weaker=True,
        )
    drifting = configuration.settings.get("AllowZoneDrifting")
    if drifting and drifting.name.lower() not in _OFF:
        yield Note(
            drifting.line,
            Kind.LEFT_OUT,
            "a packet goes on from a zone of its source into that of its link",
            "firewalld has given that up; put what both zones permit into one",
        )
