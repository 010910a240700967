"""Owns that rules of netfilter are a source: who judges by them, and who translates them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ipsecctl.importing.netfilter import Ruleset
from ipsecctl.importing.netfilter_clauses import ordered
from ipsecctl.importing.netfilter_judge import Walker
from ipsecctl.importing.regions import Links
from ipsecctl.importing.source import Mention, Ordered


@dataclass(frozen=True, slots=True)
class Netfilter:
    """Rules of netfilter that were read, as a source."""

    ruleset: Ruleset

    @property
    def rules(self) -> int:
        """How many rules were read."""
        return self.ruleset.rules

    @property
    def links(self) -> Links:
        """The links that the rules tell apart."""
        return self.ruleset.links

    def evaluator(self) -> Walker:
        """Who judges packets as netfilter does."""
        return Walker(self.ruleset)

    def ordered(self) -> Ordered:
        """The chains as ordered clauses."""
        return ordered(self.ruleset)

    def mentions(self) -> Iterator[Mention]:
        """What each rule that a packet can come to asks for."""
        return self.ruleset.mentions()
