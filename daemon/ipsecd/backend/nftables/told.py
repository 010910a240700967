"""Owns how the rules tell of the packets that they drop; must not know who listens.

Every drop then goes to one chain, which counts exactly, and tells of no more than a budget. A
limited rule costs a drop a few hundredths of its time, and one that tells of all a third.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.looks import Ruleset
from ipsecd.backend.nftables.messages import DROP, GOTO
from ipsecd.backend.nftables.naming import DROPPED
from ipsecd.backend.reporting import SNAP_BYTES

AT_ONCE = 64
"""Packets of which the kernel tells in one message. It waits for as many, but not for long."""


@dataclass(frozen=True, slots=True)
class Told:
    """The group of ``nfnetlink_log`` that is told, and of how many packets a second."""

    group: int
    budget: int

    def ruleset(self) -> Ruleset:
        """Rules to begin with, in which a drop is told of."""
        rules = Ruleset(drop=ex.verdict(GOTO, DROPPED))
        counted = ex.counted_by(DROPPED)
        told = ex.limited(self.budget) + ex.logged(self.group, SNAP_BYTES, AT_ONCE)
        rules.add(DROPPED, counted, told, comment="told of to who watches")
        rules.add(DROPPED, ex.verdict(DROP))
        return rules
