"""Owns how the rules tell of the packets that they drop; must not know who listens.

Every drop then goes to one chain, which counts exactly, and tells of no more than a budget.

To see whether a packet is within the budget takes a look at the clock, which costs a drop in a
flood a tenth of its time. To choose one of many by chance costs a quarter of that. So in a flood of
many times the budget few are chosen in that way, and these are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.looks import Ruleset
from ipsecd.backend.nftables.messages import DROP, GOTO
from ipsecd.backend.nftables.naming import AUDITED, DROPPED
from ipsecd.backend.reporting import SNAP_BYTES

AT_ONCE = 64
"""Packets of which the kernel tells in one message. It waits for as many, but not for long."""

ENOUGH, MANY = 2, 4
"""How many times the budget is chosen by chance at least; what is another order of magnitude."""


@dataclass(frozen=True, slots=True)
class Told:
    """The group of ``nfnetlink_log`` that is told, and of how many packets a second.

    Only one packet of ``one_in`` may be told of, chosen by chance.
    """

    group: int
    budget: int
    one_in: int = 1

    def suited(self, packets_per_second: float) -> Told:
        """The same, for so many drops a second: of those chosen there are enough for the budget.

        It changes only for another order of magnitude, since the rules are written anew for it.
        """
        wanted = 1
        while packets_per_second > wanted * self.budget * ENOUGH * 2:
            wanted *= 2
        if wanted < MANY:
            wanted = 1
        is_far = wanted >= self.one_in * MANY or self.one_in >= wanted * MANY
        return replace(self, one_in=wanted) if is_far else self

    def ruleset(self) -> Ruleset:
        """Rules to begin with, in which a drop is told of."""
        rules = Ruleset(drop=ex.verdict(GOTO, DROPPED), told=True)
        counted = ex.counted_by(DROPPED)
        chosen = ex.one_in(self.one_in) if self.one_in > 1 else b""
        limited = counted + chosen + ex.limited(self.budget)
        for name, prefix in ((DROPPED, ""), (AUDITED, AUDITED)):
            told = ex.logged(self.group, SNAP_BYTES, AT_ONCE, prefix)
            rules.add(name, limited, told, comment="told of to who watches")
        rules.add(DROPPED, ex.verdict(DROP))
        return rules
