"""Owns the types of ICMP by the names that firewalld has for them; must not know XML or rules."""

from __future__ import annotations

from ipsecctl.importing.firewalld import IcmpOf

_Message = tuple[int, int | None]

_OTHER_SPELLINGS = {
    "neighbour-solicitation": "neighbor-solicitation",
    "neighbour-advertisement": "neighbor-advertisement",
}
_TYPES: dict[str, tuple[int | None, int | None]] = {
    "destination-unreachable": (3, 1),
    "echo-reply": (0, 129),
    "echo-request": (8, 128),
    "mld-listener-done": (None, 132),
    "mld-listener-query": (None, 130),
    "mld-listener-report": (None, 131),
    "mld2-listener-report": (None, 143),
    "neighbor-advertisement": (None, 136),
    "neighbor-solicitation": (None, 135),
    "packet-too-big": (None, 2),
    "parameter-problem": (12, 4),
    "redirect": (5, 137),
    "router-advertisement": (9, 134),
    "router-solicitation": (10, 133),
    "source-quench": (4, None),
    "time-exceeded": (11, 3),
    "timestamp-reply": (14, None),
    "timestamp-request": (13, None),
}
_CODES: dict[str, tuple[_Message | None, _Message | None]] = {
    "address-unreachable": (None, (1, 3)),
    "bad-header": (None, (4, 0)),
    "beyond-scope": (None, (1, 2)),
    "communication-prohibited": ((3, 13), None),
    "failed-policy": (None, (1, 5)),
    "fragmentation-needed": ((3, 4), None),
    "host-precedence-violation": ((3, 14), None),
    "host-prohibited": ((3, 10), None),
    "host-redirect": ((5, 1), None),
    "host-unknown": ((3, 7), None),
    "host-unreachable": ((3, 1), None),
    "ip-header-bad": ((12, 0), None),
    "network-prohibited": ((3, 9), None),
    "network-redirect": ((5, 0), None),
    "network-unknown": ((3, 6), None),
    "network-unreachable": ((3, 0), None),
    "no-route": (None, (1, 0)),
    "port-unreachable": ((3, 3), (1, 4)),
    "precedence-cutoff": ((3, 15), None),
    "protocol-unreachable": ((3, 2), None),
    "reject-route": (None, (1, 6)),
    "required-option-missing": ((12, 1), None),
    "source-route-failed": ((3, 5), None),
    "tos-host-redirect": ((5, 3), None),
    "tos-host-unreachable": ((3, 12), None),
    "tos-network-redirect": ((5, 2), None),
    "tos-network-unreachable": ((3, 11), None),
    "ttl-zero-during-reassembly": ((11, 1), (3, 1)),
    "ttl-zero-during-transit": ((11, 0), (3, 0)),
    "unknown-header-type": (None, (4, 1)),
    "unknown-option": (None, (4, 2)),
}


def icmp_named(name: str) -> IcmpOf | None:
    """The messages that `name` stands for in each IP version; None if it is not known."""
    if name in _CODES:
        return IcmpOf(name, *_CODES[name])
    types = _TYPES.get(_OTHER_SPELLINGS.get(name, name))
    if types is None:
        return None
    ipv4, ipv6 = ((number, None) if number is not None else None for number in types)
    return IcmpOf(name, ipv4, ipv6)
