"""Owns what rules depend on and what changes without any news; must not know the rules.

That is which control groups the named processes have, and whether somebody translates addresses;
and, what never changes, what the kernel can be asked about.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ipsecd.backend.nftables import cgroups
from ipsecd.backend.nftables.features import can_see_sockets, finds_addresses_in_vrf
from ipsecd.backend.nftables.looks import KernelTable
from ipsecd.backend.nftables.translation import is_translated
from ipsecd.backend.nftables.wire import KernelError, NftSocket

TRANSLATION_S = 1.0
"""How often to ask whether somebody translates addresses: that takes a dump of all chains."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What rules are rendered for.

    ``groups`` has the control groups of the processes that tables name; processes without a group
    send nothing. ``translated`` says that somebody may translate addresses, ``sees_sockets`` that
    the kernel can be asked about the socket that a packet is sent from, and ``finds_in_vrf`` that
    it finds the addresses of this host in a VRF.
    """

    groups: Mapping[str, cgroups.Group | None] = field(default_factory=dict)
    translated: bool = False
    sees_sockets: bool = True
    finds_in_vrf: bool = True


class Surveyor:
    """Finds out the surroundings, and asks about translation as seldom as it can."""

    def __init__(self, socket: NftSocket, clock: Callable[[], float]) -> None:
        self._socket = socket
        self._clock = clock
        self._asked = 0.0
        self._sees_sockets = can_see_sockets(socket)
        self._finds_in_vrf = finds_addresses_in_vrf(os.uname().release)

    def look(self, tables: Iterable[KernelTable], last: Surroundings) -> Surroundings:
        """The surroundings of `tables`; translation is as it was `last` if asking fails."""
        return Surroundings(
            cgroups.find_all(tables),
            self._is_translated(last),
            self._sees_sockets,
            self._finds_in_vrf,
        )

    def has_changed(self, last: Surroundings) -> bool:
        """Whether anything differs from `last`; asks about translation once a second."""
        if any(cgroups.find(name) != group for name, group in last.groups.items()):
            return True
        if self._clock() < self._asked + TRANSLATION_S:
            return False
        return self._is_translated(last) != last.translated

    def _is_translated(self, last: Surroundings) -> bool:
        self._asked = self._clock()
        try:
            return is_translated(self._socket)
        except KernelError:
            return last.translated
