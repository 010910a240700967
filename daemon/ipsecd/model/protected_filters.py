"""Owns the filters that the settings protect: permits, in both directions, that nothing outranks.

Invariants:

1. A protected filter names only what this host or its administrator says: addresses, ``me`` and
   lists. Who answers for a DNS name or starts containers cannot choose what is protected.
2. There are so few of them that they can be compiled whatever they are, so nothing keeps a host
   from enforcing them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ipsecd.errors import InvalidInput
from ipsecd.model.addresses import HostName, Keyword, Process, Selector
from ipsecd.model.values import Action, Filter, InForce, Origin, Store

BY_SETTINGS = Origin(Store.CONFIGURATION.value, "", "protect")
"""Where protected filters are written: the key ``protect`` of the settings."""
MAX_FILTERS = 100
"""Every packet is compared with them before anything else."""
MAX_PORTS = 16
"""Ranges of ports on one side of a protected filter."""


def protected_filter(written: Filter) -> Filter:
    """The filter that is protected for what was written: that, in both directions.

    Raises ``InvalidInput`` for a filter that cannot be protected.
    """
    for end in (written.source, written.destination):
        if isinstance(end.address, HostName):
            raise InvalidInput(
                "a protected filter cannot name a DNS name: who answers for it could choose what "
                "nothing may block",
                "write its addresses, or put them into a list and name that: @office=0:22:TCP",
            )
        if isinstance(end.address, Selector):
            raise InvalidInput(
                "a protected filter cannot name containers: who starts them could choose what "
                "nothing may block",
                "write an address or a network",
            )
        if isinstance(end.address, Process):
            raise InvalidInput(
                "a protected filter cannot name a service or a control group: it holds in both "
                "directions, and what arrives has no sender",
                "write the address and the port that it uses: 0=192.0.2.7:443:TCP",
            )
        if len(end.ports) > MAX_PORTS:
            raise InvalidInput(
                f"a protected filter names {len(end.ports)} ranges of ports on one side, more than "
                f"{MAX_PORTS}",
                "use wider ranges",
            )
    if written.source.address is written.destination.address is Keyword.ME:
        raise InvalidInput(
            "a protected filter from this host to itself matches nothing: that is not filtered",
            "write * for any address: *=0:22:TCP",
        )
    return replace(written, mirrored=True)


def in_force(filters: Iterable[Filter]) -> tuple[InForce, ...]:
    """Protected filters as they are in force."""
    return tuple(InForce(BY_SETTINGS, each, Action.PERMIT) for each in filters)
