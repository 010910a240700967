"""Owns what ``ipsecctl import ipset`` reads, for the framework; must not know the command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ipsecctl.importing.ipset import Ipsets
from ipsecctl.importing.ipset_evaluating import IpsetEvaluator
from ipsecctl.importing.ipset_listing import clauses_of, lists_of, notes_of
from ipsecctl.importing.ipset_reading import read_ipsets
from ipsecctl.importing.regions import Links
from ipsecctl.importing.source import Given, Hook, InputFile, Mention, Ordered
from ipsecd.model.addresses import Family


def paths(argument: str) -> list[str]:
    """The file that an argument names."""
    return [argument]


def read(files: Sequence[InputFile], given: Given) -> IpsetSource:
    """The sets in what ``ipset save`` has printed; raises ``InvalidInput`` with file and line."""
    return IpsetSource(read_ipsets(files), given.block)


@dataclass(frozen=True, slots=True)
class IpsetSource:
    """Sets as the framework takes them: to be blocked, or only to be counted."""

    ipsets: Ipsets
    blocks: bool

    @property
    def rules(self) -> int:
        """How many sets there are."""
        return len(self.ipsets.sets)

    def evaluator(self) -> IpsetEvaluator:
        """Who judges packets by the sets."""
        return IpsetEvaluator(self.ipsets, blocks=self.blocks)

    def ordered(self) -> Ordered:
        """The clauses that block what comes from the sets, and what is not among these."""
        clauses = tuple(clauses_of(self.ipsets))
        return Ordered(
            clauses,
            self.links,
            frozenset((Hook.IN, family) for family in Family),
            tuple(notes_of(self.ipsets, blocks=self.blocks)),
            lists={name: entries for name, (_, entries) in lists_of(self.ipsets).items()},
            audit=not self.blocks,
        )

    def mentions(self) -> Iterator[Mention]:
        """The addresses of each set."""
        for clause in clauses_of(self.ipsets):
            yield Mention(clause.hook, clause.family, clause.region)

    @property
    def links(self) -> Links:
        """No set names a link."""
        return Links.of(())
