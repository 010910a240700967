"""Owns what ``ipsecctl import hosts.deny`` reads, for the framework; must not know the command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ipsecctl.importing.gathering import Gathered
from ipsecctl.importing.hosts_deny import AccessFiles
from ipsecctl.importing.hosts_deny_evaluating import AccessEvaluator
from ipsecctl.importing.hosts_deny_ordering import clauses_of, notes_of
from ipsecctl.importing.hosts_deny_reading import read_access
from ipsecctl.importing.regions import Links
from ipsecctl.importing.source import Given, Hook, InputFile, Mention, Ordered
from ipsecd.model.addresses import Family


def paths(argument: str) -> list[str]:
    """The file that an argument names."""
    return [argument]


def read(files: Sequence[InputFile], _: Given) -> AccessSource:
    """What hosts.allow and hosts.deny say, with the ports of a file of services.

    Raises ``InvalidInput`` with file and line.
    """
    return AccessSource(read_access(files))


@dataclass(frozen=True)
class AccessSource:
    """Both files as the framework takes them."""

    files: AccessFiles

    @property
    def rules(self) -> int:
        """How many lines are rules."""
        return len(self.files.rules)

    def evaluator(self) -> AccessEvaluator:
        """Who judges packets as a program does that asks both files."""
        return AccessEvaluator(self.files)

    def ordered(self) -> Ordered:
        """The rules as ordered clauses, and what is not among these."""
        judged = frozenset((Hook.IN, family) for family in Family)
        return Ordered(
            tuple(self._gathered.clauses),
            self.links,
            judged,
            tuple(notes_of(self.files)),
            self._gathered.lists,
        )

    def mentions(self) -> Iterator[Mention]:
        """What each rule asks of packets."""
        for clause in self._gathered.clauses:
            yield Mention(clause.hook, clause.family, clause.region)

    @property
    def links(self) -> Links:
        """No rule names a link."""
        return Links.of(())

    @cached_property
    def _gathered(self) -> Gathered:
        return Gathered(clauses_of(self.files), "hosts")
