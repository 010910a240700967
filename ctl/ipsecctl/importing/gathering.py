"""Owns putting many clauses together that differ in one address alone; must not know any source.

Whoever bans by script writes a line for each address. In a run of one action order has no meaning,
so such lines are one clause, and their addresses one list in which each stays an entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from ipsecctl.importing.regions import Dim, Region, networks_in, spans
from ipsecctl.importing.source import Clause, Hook, Line
from ipsecctl.importing.writing import MOST_IN_FILTERS
from ipsecd.model.addresses import Family, Network
from ipsecd.model.lists import AddressList, listed

_Rest = tuple[tuple[Dim, object], ...]


class Gathered:
    """The clauses, of which many alike are one, and the lists of these by name."""

    def __init__(self, clauses: Iterable[Clause], name: str) -> None:
        self.clauses: list[Clause] = []
        self.lists: dict[str, AddressList] = {}
        self._name = name
        for _, run in groupby(clauses, key=lambda one: (one.hook, one.family, one.action)):
            self._take(list(run))

    def _take(self, run: list[Clause]) -> None:
        dim = Dim.DESTINATION if run[0].hook is Hook.OUT else Dim.SOURCE
        groups: dict[_Rest, list[Clause]] = {}
        for clause in run:
            if dim in clause.region:
                groups.setdefault(_rest(clause.region, dim), []).append(clause)
        done: set[_Rest] = set()
        for clause in run:
            rest = _rest(clause.region, dim)
            group = groups.get(rest, []) if dim in clause.region else []
            if len(group) <= MOST_IN_FILTERS:
                self.clauses.append(clause)
            elif rest not in done:
                done.add(rest)
                self.clauses.append(self._one(group, dim))

    def _one(self, group: list[Clause], dim: Dim) -> Clause:
        first = group[0]
        lines = tuple(dict.fromkeys(clause.line for clause in group))
        line = first.line
        name = self._fresh(first.family)
        networks = (
            Network(first.family, *entry)
            for clause in group
            for entry in networks_in(clause.region[dim], first.family)
        )
        self.lists[name] = listed(networks)
        return replace(
            first,
            region={**first.region, dim: spans(s for one in group for s in one.region[dim])},
            line=Line(line.file, line.number, f"{line.text}, and {len(lines) - 1:,} lines like it"),
            set_name=name,
            also=lines,
        )

    def _fresh(self, family: Family) -> str:
        base = self._name if family is Family.IPV4 else f"{self._name}6"
        number, name = 2, base
        while name in self.lists:
            name = f"{base}-{number}"
            number += 1
        return name


def _rest(region: Region, dim: Dim) -> _Rest:
    """All that a region asks for in other dimensions."""
    return tuple(sorted((each, some) for each, some in region.items() if each is not dim))
