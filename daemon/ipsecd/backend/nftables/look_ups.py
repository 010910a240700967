"""Owns the rules that look packets up in tables, in the order of rank, where a chain has come to.

Which tables a chain has, and what is asked before them, is decided in ``chains``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables.audits import Onward
from ipsecd.backend.nftables.keys import counting_of, from_packet
from ipsecd.backend.nftables.looks import KernelTable, Ruleset, is_audit, is_block
from ipsecd.backend.nftables.matches import Matches, is_of_connection, only_opening_from, opening
from ipsecd.backend.nftables.messages import ACCEPT, GOTO, JUMP
from ipsecd.backend.nftables.naming import describe
from ipsecd.backend.nftables.port_ranges import Stretch, stretches, ways
from ipsecd.model.addresses import Family
from ipsecd.model.fields import BY_NAME


@dataclass(frozen=True, slots=True)
class LookUps:
    """What the rules of a chain are written with.

    ``only_new`` says that no packet of a connection that a table may have comes here.
    """

    rules: Ruleset
    matches: Matches
    family: Family
    only_new: bool

    def write(self, onward: Onward) -> None:
        """Write the rules of a chain, and of those in which what an audit counts goes on."""
        self._look_up_some(onward.name, onward.tables, onward)
        for part in onward.parts:
            self._look_up_some(part.name, part.tables, onward, part.end)
            if part.then:
                self.rules.add(part.name, ex.verdict(GOTO, part.then))

    def _look_up_some(
        self, name: str, tables: list[KernelTable], onward: Onward, end: int | None = None
    ) -> None:
        """Look a packet up in `tables` up to number `end`; those that follow stand elsewhere."""
        self.rules.chains.setdefault(name, [])
        last = only_opening_from(tables)
        ranges: list[tuple[KernelTable, bool]] = []
        for number, table in enumerate(tables[:end]):
            if number == last and not self.only_new:
                self._write_ranges(name, ranges, onward)
                pass_connections(self.rules, name)
            asks = not self.only_new and number < last
            if _compares_destination_ports(table):
                ranges.append((table, asks))
                continue
            self._write_ranges(name, ranges, onward)
            self._write(name, table, onward, asks=asks)
        self._write_ranges(name, ranges, onward)

    def _write(self, name: str, table: KernelTable, onward: Onward, *, asks: bool) -> None:
        """Look a packet up in one table; `asks` says to ask whether it opens a connection."""
        verdict = self.rules.drop if is_block(table) else ex.verdict(ACCEPT)
        if is_audit(table):
            verdict = self.rules.audit(onward.after(table))
        text = describe(table.origin) if table.origin else ""
        verdict = self._counting_entries(table, verdict)
        for found in self.matches.of(table, opening(table.id) if asks else b""):
            self.rules.add(name, *found, verdict, comment=text)

    def _write_ranges(
        self, name: str, ranges: list[tuple[KernelTable, bool]], onward: Onward
    ) -> None:
        """Look a packet up in tables that compare its destination port, and take them off."""
        # What audits count goes on in so many chains that there is no room for more in a row.
        alone = any(map(is_audit, onward.tables))
        spans = [table.id.destination_ports.bounds for table, _ in ranges]
        found = [] if alone else stretches(spans)
        if found:
            ports = f"{name}_ports_{len(self.rules.chains[name])}"
            self.rules.add(name, ex.verdict(JUMP, ports))
            self._branch_by_port(ports, found, ranges, onward, ways(len(found)))
        else:
            for table, asks in ranges:
                self._write(name, table, onward, asks=asks)
        ranges.clear()

    def _branch_by_port(
        self,
        name: str,
        found: list[Stretch],
        ranges: list[tuple[KernelTable, bool]],
        onward: Onward,
        ways_at_once: int,
    ) -> None:
        """Lead a packet to the chain for its port, one of those that are `found`."""
        self.rules.chains.setdefault(name, [])
        if len(found) == 1:
            for number in found[0].numbers:
                table, asks = ranges[number]
                self._write(name, table, onward, asks=asks)
            return
        port = from_packet(BY_NAME["destination_ports"], self.family, 0)
        size = -(-len(found) // ways_at_once)
        for first in range(0, len(found), size):
            some = found[first : first + size]
            up_to = port + ex.compare(ex.LTE, some[-1].last.to_bytes(2, "big"))
            below = f"{name}_{first // size}"
            self.rules.add(name, up_to, ex.verdict(GOTO, below))
            self._branch_by_port(below, some, ranges, onward, ways_at_once)

    def _counting_entries(self, table: KernelTable, verdict: bytes) -> bytes:
        """What a rule ends with that counts the entries of lists that a packet matches, if any.

        A packet whose entry has gone meanwhile meets the `verdict` all the same.
        """
        if not self.rules.counts_entries or self.matches.counts_elsewhere(table):
            return verdict
        # Where packets leave, only what is from this host counts: as the packet has it.
        return self.rules.counting(counting_of(table.id, from_packet, self.matches.lists), verdict)


def pass_connections(rules: Ruleset, name: str) -> None:
    """Let pass what belongs to a connection."""
    rules.add(name, is_of_connection(), ex.verdict(ACCEPT), comment="of a connection")


def _compares_destination_ports(table: KernelTable) -> bool:
    """Whether a rule compares the destination port with bounds: it is not in the table's keys."""
    return table.id.destination_ports.kind == "range"
