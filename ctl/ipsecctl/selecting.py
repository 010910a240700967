"""Owns which packets filters on the command line select; must not know what is shown of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import UsageError
from ipsecd.errors import IpsecdError
from ipsecd.language.addresses import parse_address
from ipsecd.language.filters import join_arguments, parse_short
from ipsecd.language.packets import parse_packet
from ipsecd.language.seen import assumed_types, to_packet
from ipsecd.model.addresses import HostName, ListName, Network, Process, Selector
from ipsecd.model.decide import matches_of
from ipsecd.model.packets import Host
from ipsecd.model.values import Action, Filter, InForce, Origin
from ipsecd.quoting import quote

_NOBODY = Origin("", "", "")


def selection(client: Client, texts: Sequence[str]) -> Callable[[dict[str, Any]], bool]:
    """What tells whether any of the filters matches a packet that the daemon told of.

    Raises ``UsageError`` for filters that only the daemon can judge by.
    """
    filters = [_in_force(text) for text in join_arguments(texts)]
    host = _host(client)

    def shows(seen: dict[str, Any]) -> bool:
        try:
            parsed = parse_packet(seen["packet"])
            packet = to_packet(parsed, host, assumed_types(parsed.interface))
        except IpsecdError:
            # What could not be read has no ports, and no filter matches it.
            return False
        return any(any(matches_of(each, packet, host)) for each in filters)

    return shows


def _in_force(text: str) -> InForce:
    rule_filter: Filter = parse_short(text)
    for side in (rule_filter.source.address, rule_filter.destination.address):
        if isinstance(side, ListName | HostName | Selector | Process):
            raise UsageError(
                f"{quote(text)} goes by a name, and only the daemon knows what that stands for",
                "name the rule that blocks it: --rule NAME; or give addresses",
            )
    return InForce(_NOBODY, rule_filter, Action.BLOCK)


def _host(client: Client) -> Host:
    """The addresses of the host, as the daemon knows them."""
    own = set()
    for interface in client.call("ListInterfaces")["interfaces"]:
        for text in interface["addresses"]:
            own_text = text.partition("/")[0]
            address = parse_address(f"[{own_text}]" if ":" in own_text else own_text)
            if isinstance(address, Network):
                own.add((address.family, address.address))
    return Host(frozenset(own))
