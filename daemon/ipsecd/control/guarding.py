"""Owns which connections a change must spare, by who asks for it and how; must not change anything.

A ban by a program spares nothing: what it cuts is meant. What a person asks for spares the
connection that he works through and those of administration. A policy, whoever brings it, spares
these and the way to the source of policies as well.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from ipsecd.config.domain import DomainSettings
from ipsecd.control.method import Method, Names
from ipsecd.engine import Engine
from ipsecd.engine.caller import Caller
from ipsecd.engine.confirmation import Part
from ipsecd.engine.guard import Guarded
from ipsecd.host.needed import name_servers
from ipsecd.host.sessions import Sessions, claimed_way
from ipsecd.language.addresses import ipv4_value, ipv6_value
from ipsecd.log import record
from ipsecd.model.addresses import Family
from ipsecd.model.connections import Connection

HARMLESS = frozenset({"Confirm", "RefreshDomain", "SetBackend", "Stop", "TrustDomain"})
"""What takes the parameter ``change`` and blocks nothing."""
BY_ITSELF = frozenset({"Reload", "TakeDomain"})
"""What is guarded although the daemon does it by itself, or a program hands it over."""
_PORTS = {"https": 443, "http": 80}
_DNS = 53


def _is_guarded(engine: Engine, method: Method, caller: Caller) -> bool:
    """Whether a call has to spare any connection."""
    options = caller.options
    if not engine.config.guard or options.force or options.confirm_s is not None:
        return False
    if method.name in BY_ITSELF:
        return True
    if caller.pid == 0 or not method.takes_change or method.name in HARMLESS:
        return False
    return bool(options.connection) or _changes_policies(method)


def names_to_guard(engine: Engine, method: Method, caller: Caller) -> frozenset[str] | None:
    """The DNS names on the way to the source of policies, where that has to be spared.

    None if nothing has to be.
    """
    if not _is_guarded(engine, method, caller):
        return None
    if not _changes_policies(method):
        return frozenset()
    places = _places(engine.config.domain)
    return frozenset(place.host for place in places if _value(place.host) is None)


def guarded(engine: Engine, method: Method, caller: Caller, names: Names) -> Guarded | None:
    """What a call must spare; `names` has the addresses of ``names_to_guard``. For any thread."""
    try:
        with Sessions() as sessions:
            found = tuple(_connections(engine, method, caller, names, sessions))
            return Guarded(found, sessions.state.host, _way_out(method, caller))
    except OSError as error:
        # A host whose kernel does not tell its sockets must be one that can be changed.
        record(logging.WARNING, "nothing-guarded", method=method.name, reason=str(error))
        return None


def _changes_policies(method: Method) -> bool:
    """Whether it may put another policy in force."""
    stored = method.part is not None and Part.POLICIES in method.part
    return stored or method.name in (*BY_ITSELF, "Start", "Revert")


def _connections(
    engine: Engine, method: Method, caller: Caller, names: Names, sessions: Sessions
) -> Iterator[Connection]:
    claim = claimed_way(caller.options.connection)
    own = sessions.of_caller(claim) if claim else None
    if own:
        yield own
    ports = [*engine.config.guard_ports, *([claim.destination_port] if claim else [])]
    yield from sessions.of_administration(ports, claim)
    if _changes_policies(method):
        yield from _ways_to_source(engine, names, sessions)


class _Place(NamedTuple):
    """A host that policies come from, or come through, its port, and what it is."""

    host: str
    port: int
    name: str


def _places(settings: DomainSettings | None) -> Iterator[_Place]:
    """Where the source of policies lies; nothing if it is a directory of this host."""
    if settings is None:
        return
    url = urlsplit(settings.proxy or settings.source)
    if urlsplit(settings.source).scheme in _PORTS and url.hostname:
        name = "the proxy on the way to the domain" if settings.proxy else "the source of policies"
        yield _Place(url.hostname, url.port or _PORTS.get(url.scheme, 443), name)
    if settings.doorbell:
        # Of several hosts with IPv6 addresses urlsplit makes nothing.
        hosts = settings.doorbell.partition("://")[2].partition("/")[0].rpartition("@")[2]
        for text in hosts.split(","):
            host, _, port = text.rpartition(":")
            yield _Place(host.strip("[]"), int(port), "the doorbell of the domain")


def _ways_to_source(engine: Engine, names: Names, sessions: Sessions) -> Iterator[Connection]:
    asks_dns = False
    for place in _places(engine.config.domain):
        address = _value(place.host)
        addresses = [address] if address else []
        if address is None:
            asks_dns = True
            addresses = [(each.family, each.address) for each in names.get(place.host, ())]
        name = f"the way to {place.name} ({place.host}, port {place.port})"
        for each in addresses:
            yield sessions.way_to(name, socket.IPPROTO_TCP, each, place.port)
    if asks_dns:
        for server in name_servers():
            yield sessions.way_to("the way to a name server", socket.IPPROTO_UDP, server, _DNS)


def _value(host: str) -> tuple[Family, int] | None:
    ipv4, ipv6 = ipv4_value(host), ipv6_value(host)
    if ipv4 is not None:
        return Family.IPV4, ipv4
    return None if ipv6 is None else (Family.IPV6, ipv6)


def _way_out(method: Method, caller: Caller) -> str:
    if method.name == "TakeDomain":
        return "publish a policy that spares it, or set guard: off in ipsecd.yaml of this host"
    if caller.pid == 0:
        return "make it all the same with: ipsecctl reload --force"
    for_a_while = ", or for a while with --confirm 60s" if method.part else ""
    return (
        f"make it all the same with --force{for_a_while}; commands without options take "
        "IPSECD_FORCE=1"
    )
