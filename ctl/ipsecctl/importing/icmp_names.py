"""Owns the names of ICMP's types and codes that netfilter's tools write; must not know rules."""

from __future__ import annotations

import re

from ipsecctl.importing.regions import Spans
from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import Family
from ipsecd.model.icmp import NAMES
from ipsecd.quoting import quote

_CODES: dict[str, tuple[Family, int, int | None]] = {
    "network-unreachable": (Family.IPV4, 3, 0),
    "host-unreachable": (Family.IPV4, 3, 1),
    "protocol-unreachable": (Family.IPV4, 3, 2),
    "port-unreachable": (Family.IPV4, 3, 3),
    "fragmentation-needed": (Family.IPV4, 3, 4),
    "source-route-failed": (Family.IPV4, 3, 5),
    "network-unknown": (Family.IPV4, 3, 6),
    "host-unknown": (Family.IPV4, 3, 7),
    "network-prohibited": (Family.IPV4, 3, 9),
    "host-prohibited": (Family.IPV4, 3, 10),
    "communication-prohibited": (Family.IPV4, 3, 13),
    "ttl-exceeded": (Family.IPV4, 11, None),
    "ttl-zero-during-transit": (Family.IPV4, 11, 0),
    "ttl-zero-during-reassembly": (Family.IPV4, 11, 1),
    "ping": (Family.IPV4, 8, None),
    "pong": (Family.IPV4, 0, None),
}
_SPELLINGS = {
    "neighbour-solicitation": "neighbor-solicitation",
    "neighbour-advertisement": "neighbor-advertisement",
    "router-solicit": "router-solicitation",
    "router-advert": "router-advertisement",
    "nd-router-solicit": "router-solicitation",
    "nd-router-advert": "router-advertisement",
    "nd-neighbor-solicit": "neighbor-solicitation",
    "nd-neighbor-advert": "neighbor-advertisement",
    "nd-redirect": "redirect",
    "mld-listener-query": "multicast-listener-query",
    "mld-listener-report": "multicast-listener-report",
    "mld-listener-done": "multicast-listener-done",
    "mld-listener-reduction": "multicast-listener-done",
    "mld2-listener-report": "version-2-multicast-listener-report",
    "ind-neighbor-solicit": "inverse-neighbor-discovery-solicitation",
    "ind-neighbor-advert": "inverse-neighbor-discovery-advertisement",
    "info-request": "information-request",
    "info-reply": "information-reply",
}


def icmp_spans(text: str, family: Family) -> Spans:
    """The types and codes, as 16 bits, that a name or numbers stand for.

    Raises ``InvalidInput`` for what is neither.
    """
    name = text.lower()
    if name == "any":
        return ((0, 65535),)
    name = _SPELLINGS.get(name, name)
    numbers = re.fullmatch(r"([0-9]{1,3})(?:/([0-9]{1,3}))?", name)
    number, code = None, None
    if numbers:
        number = int(numbers[1])
        code = int(numbers[2]) if numbers[2] else None
    elif name in NAMES:
        number = NAMES[name][0 if family is Family.IPV4 else 1]
    elif name in _CODES and _CODES[name][0] is family:
        _, number, code = _CODES[name]
    if number is None or number > 255 or (code or 0) > 255:
        raise InvalidInput(
            f"{quote(text)} is no type of ICMP in IPv{int(family)}", "give its number"
        )
    first = number << 8
    return ((first, first + 255),) if code is None else ((first + code, first + code),)
