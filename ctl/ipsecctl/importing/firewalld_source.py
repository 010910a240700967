"""Owns what ``ipsecctl import firewalld`` reads, for the framework; must not know the command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ipsecctl.importing.firewalld import Configuration, IpSet, Traffic
from ipsecctl.importing.firewalld_evaluating import FirewalldEvaluator
from ipsecctl.importing.firewalld_notes import notes_of, used_zones
from ipsecctl.importing.firewalld_ordering import FirewalldOrder, links_of
from ipsecctl.importing.firewalld_reading import read_configuration
from ipsecctl.importing.regions import Links
from ipsecctl.importing.source import (
    Given,
    InputFile,
    Line,
    Mention,
    Ordered,
)
from ipsecd.model.addresses import Family, Network


def paths(argument: str) -> list[str]:
    """The files of a directory such as /etc/firewalld, or the file itself."""
    directory = Path(argument)
    if not directory.is_dir():
        return [argument]
    found = (one for one in directory.rglob("*") if one.suffix in {".xml", ".conf"})
    return sorted(str(one) for one in found if one.is_file())


def read(files: Sequence[InputFile], given: Given) -> FirewalldSource:
    """What the files of a directory such as /etc/firewalld say.

    Raises ``InvalidInput`` with file and line.
    """
    configuration = read_configuration(files)
    ipsets = dict(configuration.ipsets)
    for name, entries in given.sets.items():
        if name not in ipsets or ipsets[name].reason:
            ipsets[name] = _given_set(name, entries)
    return FirewalldSource(replace(configuration, ipsets=ipsets))


def _given_set(name: str, entries: Sequence[tuple[Family, int, int]]) -> IpSet:
    families = {family for family, _, _ in entries}
    line = Line(f"list {name}", 0, "")
    if len(families) > 1:
        return IpSet(name, line, reason="it was given with addresses of both IP versions")
    networks = tuple(Network(*entry) for entry in entries)
    return IpSet(name, line, family=min(families, default=Family.IPV4), entries=networks)


@dataclass(frozen=True, slots=True)
class FirewalldSource:
    """A configuration of firewalld as the framework takes it."""

    configuration: Configuration

    @property
    def rules(self) -> int:
        """How many lines decide about packets."""
        traffics = [one.traffic for one in used_zones(self.configuration)]
        traffics += [one.traffic for one in self.configuration.policies]
        bound = [len(one.interfaces) + len(one.sources) for one in used_zones(self.configuration)]
        return sum(bound) + sum(map(_count, traffics)) + len(self.configuration.direct)

    def evaluator(self) -> FirewalldEvaluator:
        """Who judges packets as firewalld does."""
        return FirewalldEvaluator(self.configuration)

    def ordered(self) -> Ordered:
        """The rules as ordered clauses, and what is not among these."""
        order = self._order()
        judged = frozenset((hook, family) for hook in order.hooks for family in Family)
        notes = (*notes_of(self.configuration), *order.notes)
        return Ordered(tuple(order.clauses), order.links, judged, notes)

    def mentions(self) -> Iterator[Mention]:
        """What each rule asks of packets."""
        for clause in self._order().clauses:
            yield Mention(clause.hook, clause.family, clause.region)

    @property
    def links(self) -> Links:
        """The links that zones name."""
        return links_of(self.configuration)

    def _order(self) -> FirewalldOrder:
        order = FirewalldOrder(self.configuration)
        order.run()
        return order


def _count(traffic: Traffic) -> int:
    return sum(
        len(part)
        for part in (
            *(traffic.services, traffic.ports, traffic.protocols, traffic.source_ports),
            *(traffic.icmp_blocks, traffic.rich, traffic.other),
        )
    )
