"""Owns the nftables backend: the one table ``inet ipsecd``, and one transaction for each change.

Invariants:

1. A set of the policy never changes once packets can see it. A packet on its way through the old
   rules looks into the old sets to the end: nf_tables fixes the rules for a packet when it enters
   the hook, but reads set elements as they are at the moment of each look-up. So new content gets
   a new set, and the old set is deleted only after every packet that could see it has gone.
2. Dynamic rules have sets of their own, which a change of the policy does not touch, unless some of
   them change with it: those of their form get new sets then, too.
3. All requests go through one netlink socket, because the kernel binds the table's ownership to it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from ipsecd.backend.base import Count, Line, Observation, Readings, TransactionRecord
from ipsecd.backend.gaps import unseen_senders
from ipsecd.backend.grace import wait_for_packets
from ipsecd.backend.lines import at_once
from ipsecd.backend.nftables import cgroups
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables import transactions as tx
from ipsecd.backend.nftables.adoption import own, take_over
from ipsecd.backend.nftables.beforehand import SetsBeforehand
from ipsecd.backend.nftables.comparison import compare, in_kernel, unused
from ipsecd.backend.nftables.counting import MOST_INHERITED, TableCounters, counter_names
from ipsecd.backend.nftables.drop_reports import DropReports
from ipsecd.backend.nftables.early import EarlySets
from ipsecd.backend.nftables.entry_counting import CountsEntries
from ipsecd.backend.nftables.failures import commit, open_socket
from ipsecd.backend.nftables.features import NO_SOCKETS, can_protect
from ipsecd.backend.nftables.held import Entries, Held, dynamic_sets, entries_gone, policy_sets
from ipsecd.backend.nftables.lists import ListSets, Plan
from ipsecd.backend.nftables.looks import KernelTable
from ipsecd.backend.nftables.naming import STATE_PREFIX, TABLE
from ipsecd.backend.nftables.new_sets import NewSets
from ipsecd.backend.nftables.ownership import Ownership
from ipsecd.backend.nftables.placement import replace_rules
from ipsecd.backend.nftables.reading import TableReader
from ipsecd.backend.nftables.render import render
from ipsecd.backend.nftables.surroundings import Surroundings, Surveyor
from ipsecd.backend.nftables.wire import EventSocket, Message
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.errors import IpsecdError
from ipsecd.model.packets import Point
from ipsecd.model.values import Origin


class NftablesBackend(SetsBeforehand, CountsEntries):
    """Enforces a classifier with nftables in the network namespace it is made in.

    ``points`` says where packets are looked at: everywhere, unless it is set before ``apply``.
    `protect` is whether to use ``owner`` and ``persist`` where the kernel has them; tests switch
    it off to behave as on older kernels.
    """

    name = "nftables"
    failures: tuple[str, ...] = ()

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        protect: bool = True,
        owner: socket.socket | None = None,
        record: TransactionRecord | None = None,
    ) -> None:
        """`owner` is the socket that owned the table, if it is still open.

        With a `record` a table without an owner may be known to be as it was left. Raises
        ``BackendFailed`` where the kernel has no nf_tables.
        """
        self._clock = clock
        self._socket = open_socket(owner)
        self._reader = TableReader(self._socket)
        self._reader.exists()
        self._counters = TableCounters(self._reader)
        self._surveyor = Surveyor(self._socket, clock)
        self.is_protected = protect and can_protect(self._socket)
        """Whether the kernel keeps everybody else from our table."""
        self._ownership = Ownership(self._socket, self._reader, record, is_known=self.is_protected)
        self._events = None if self.is_protected else EventSocket(TABLE, self._socket.port)
        self.reporting = DropReports(self._socket, self._reader, self._write_rules)
        self._new, self.points = NewSets(), frozenset(Point)
        self._forget()

    def _forget(self) -> None:
        self._classifier: Classifier | None = None
        self._held = Held()
        self._chains: list[str] = []
        self._surroundings = Surroundings()
        self._fingerprint = ""
        self._drifted = self._foreign_change = False
        self._early = EarlySets()
        self._entries: Entries = {}

    def owner_fd(self) -> int:
        """The descriptor of the socket that owns the table; -1 where tables have no owners."""
        return self._socket.fileno() if self.is_protected else -1

    def probe(self) -> tuple[str, ...]:
        """``owned`` and ``persistent`` where the kernel protects the table, else ``watched``."""
        return ("owned", "persistent") if self.is_protected else ("watched",)

    @property
    def gaps(self) -> tuple[str, ...]:
        """One where the kernel cannot be asked about the sockets of what is sent."""
        tables = () if self._surroundings.sees_sockets else self._held.tables
        return unseen_senders(tables, NO_SOCKETS)

    def check(self, classifier: Classifier) -> None:
        """Raise ``Refused`` for local processes where there are no control groups."""
        cgroups.require(classifier.tables)

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Put the whole state in force in one transaction, then delete what is no longer used.

        After drift it trusts nothing in the kernel and writes all sets anew; the first time, all
        but those that nobody can have changed and that hold just what is wanted.
        """
        trusted = self._classifier is not None and not self._drifted
        now = self._clock()
        steps, present = list[Message](), self._held
        if not trusted:
            self._early = EarlySets()
            steps, present = self._take_over(classifier, volatile)
        policy, sets = policy_sets(classifier, present.policy, self._early, self._new.of_table)
        steps += sets
        in_force = present.dynamic, self._entries, volatile, self._early
        dynamic, filled = dynamic_sets(*in_force, self._new.of_table, now)
        steps += filled
        held, others = [*policy, *dynamic], dynamic != present.dynamic
        make = self._new.of_list
        planned = present.next_lists(classifier, held, self._early, make, are_others=others)
        before, after = self._classifier, Held(policy, dynamic, planned.sets)
        are_changed = trusted and not sets and (planned.first or planned.then)
        if are_changed and self._only_lists_change(classifier, after):
            self._change_lists(classifier, planned, volatile)
            return
        gone = entries_gone(self._entries, volatile)
        tables = in_kernel(policy, dynamic)
        surroundings = self._surveyor.look(tables, self._surroundings)
        self._counters.begin(classifier.origins)
        self._counters.inherits = sum(map(len, volatile.tables)) <= MOST_INHERITED
        self._switch([*steps, *planned.first], classifier, tables, surroundings, planned.sets)
        self._held = after
        self._note_entries(volatile)
        if planned.then:
            self._delete_from_lists(planned.then, before, volatile)
        if classifier is not self._classifier:
            self._early = EarlySets()
        self._classifier, self._drifted, self._foreign_change = classifier, False, False
        self._settle()
        self._counters.forget(gone)

    def _only_lists_change(self, classifier: Classifier, after: Held) -> bool:
        """Whether rules and sets stay for `classifier`, and only elements of lists change."""
        is_settled = self._fingerprint and not (self._foreign_change or self._early.names)
        return bool(is_settled) and after.keeps(self._held, self._classifier, classifier)

    def _change_lists(self, classifier: Classifier, planned: Plan, volatile: Volatile) -> None:
        """Change elements of lists, and the mark; it costs the same however long the lists are."""
        steps, chains = tx.replace_mark(self._chains, STATE_PREFIX + classifier.digest)
        # Where nothing comes, no packet can have missed it, and what goes need not wait.
        self._commit([*(planned.first or planned.then), *steps])
        self._chains, self._held = chains, replace(self._held, lists=planned.sets)
        if planned.first and planned.then:
            self._delete_from_lists(planned.then, self._classifier, volatile)
        self._classifier = classifier

    def _delete_from_lists(
        self, steps: list[Message], before: Classifier | None, volatile: Volatile
    ) -> None:
        """Delete what is no longer in lists; where that fails, put all of `before` in force."""
        wait_for_packets()
        try:
            self._commit(steps)
        except IpsecdError:
            self._drifted = True
            if before is not None:
                self.apply(before, volatile)
            raise

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Add and remove elements; touch the rules only if a table came or went.

        If some elements are added and others removed, they are added first, and removed only when
        every packet on its way can see the new ones. In between both are in force, and the
        highest-ranked of both decides: the verdict is that of the old or that of the new rules.
        """
        first, then = delta.in_two_steps()
        self._change(first, volatile)
        self._counters.forget(delta.removed)
        if then:
            wait_for_packets()
            try:
                self._change(then, volatile)
            except IpsecdError:
                self._change(first.reversed(), volatile)
                raise
        self._note_entries(volatile)

    def _note_entries(self, volatile: Volatile) -> None:
        """Note what dynamic sets hold; ``apply`` makes those anew that are to hold other things."""
        self._entries = {table.id: table.entries for table in volatile.tables}

    def _change(self, delta: Delta, volatile: Volatile) -> None:
        """Carry out one transaction of a change whose outcome is `volatile`."""
        assert self._classifier is not None
        touched = {entry.table for entry in (*delta.removed, *delta.added)}
        held = self._held
        gone = [table for table in touched if table not in volatile and table in held.dynamic]
        dynamic = {t: kernel for t, kernel in held.dynamic.items() if t not in gone}
        new = [table for table in touched if table in volatile and table not in dynamic]
        dynamic |= {table: self._new.of_table(table) for table in new}
        now = self._clock()
        steps = [step for table in new for step in tx.dynamic_sets(dynamic[table])]
        steps += tx.removals(delta.removed, dynamic, now) + tx.additions(delta.added, dynamic, now)
        if not new and not gone:
            # ``is_stale`` notes it when it is next asked: a note takes longer than a ban.
            commit(self._socket, steps)
            return
        tables = in_kernel(held.policy, dynamic)
        surroundings = replace(self._surroundings, groups=cgroups.find_all(tables))
        tables_after = [*held.policy, *dynamic]
        planned = held.next_lists(self._classifier, tables_after, self._early, self._new.of_list)
        after = Held(held.policy, dynamic, planned.sets)
        steps, deletions = [*planned.first, *steps], after.deletion_of_others(held)
        self._switch(steps, self._classifier, tables, surroundings, planned.sets, deletions)
        self._held = after
        self._settle(clean_up=False)

    def observe(self) -> Observation:
        """Read the table back and compare its rules, sets and small sets' elements."""
        observation = compare(
            self._reader,
            self._classifier,
            self._held.policy.values(),
            self._held.lists,
            self._fingerprint,
            foreign_change=self._foreign_change,
        )
        self._drifted = self._drifted or bool(observation.drift)
        return observation

    def adopt(self) -> None:
        """Own the table, so that nobody can flush it."""
        if self.is_protected:
            own(self._ownership)

    def remove(self) -> None:
        """Delete the table."""
        if self._reader.exists():
            with self._counters.ending():
                self._commit([nft.delete_table(TABLE)])
        self._ownership.lose()
        self._forget()

    def give_way(self) -> None:
        """Delete the table."""
        self.remove()

    def close(self) -> None:
        """Close the socket; the table stays, as an orphan, until it is adopted."""
        self.reporting.close()
        self._ownership.note()
        self._socket.close()
        if self._events:
            self._events.close()

    def readings(self, known: Iterable[Origin], run: Line = at_once) -> Readings:
        """What all counters of rules hold, and the last values of those that have gone."""
        return self._counters.readings(lambda: self._classifier, known, run)

    def volatile_counts(self, run: Line = at_once) -> Mapping[tuple[TableId, bytes], Count]:
        """What every dynamic entry has matched, from the counters of its element."""
        return self._counters.of_entries(lambda: run(lambda: self._held.dynamic))

    def unparsable(self) -> int:
        """How many packets were dropped because their headers could not be read."""
        return self._counters.unparsable()

    def watch_fd(self) -> int:
        """-1 where the kernel keeps everybody else from our table."""
        return self._events.fileno() if self._events else -1

    def changed(self) -> bool:
        """Whether somebody else changed our table since the last call."""
        self._foreign_change |= bool(self._events and self._events.foreign_change())
        return self._foreign_change

    def is_stale(self) -> bool:
        """Whether a service that a rule names has been started or stopped.

        Once a second it also asks whether somebody has begun or ceased to translate addresses.
        """
        self._ownership.note()
        return self._classifier is not None and self._surveyor.has_changed(self._surroundings)

    def _take_over(self, classifier: Classifier, volatile: Volatile) -> tuple[list[Message], Held]:
        """Own the table; the first messages of what follows, and the sets that can stay."""
        relied_on = classifier if self._classifier is None else None
        left = take_over(self._ownership, self._reader, relied_on, [t.id for t in volatile.tables])
        self._chains = left.chains
        self._new.begin_after(left.names)
        return left.steps, left.held

    def _switch(
        self,
        steps: list[Message],
        classifier: Classifier,
        tables: Sequence[KernelTable],
        surroundings: Surroundings,
        list_sets: ListSets,
        after: Sequence[Message] = (),
    ) -> None:
        """Carry out `steps`, put the rules for `tables` in the place of all others, do `after`."""
        begin, end = self.reporting.counter()
        rules = partial(
            render,
            tables,
            classifier.exemptions,
            drop_unparsable=classifier.drop_unparsable,
            points=self.points,
            surroundings=surroundings,
            lists=list_sets,
            told=self.reporting.told,
        )
        mark, steps, after = STATE_PREFIX + classifier.digest, [*steps, *begin], [*after, *end]
        self._chains = replace_rules(self._commit, self._chains, steps, rules, mark, after)
        self._surroundings = surroundings

    def _write_rules(self) -> None:
        """Write the rules anew, with the same sets; where these are not known, ``apply`` does."""
        if self._classifier is not None and not self._drifted:
            tables = in_kernel(self._held.policy, self._held.dynamic)
            self._switch([], self._classifier, tables, self._surroundings, self._held.lists)
            self._settle(clean_up=False)

    def _commit(self, steps: list[Message]) -> None:
        """Carry out a transaction; raises ``BackendFailed`` or ``LimitExceeded``."""
        commit(self._socket, steps)
        self._ownership.note()

    def _settle(self, *, clean_up: bool = True) -> None:
        """Clean up after a change and take the fingerprint; if this fails, the change stands.

        Without a fingerprint the next look at the table finds drift, and all is written anew.
        """
        self._fingerprint = ""
        if clean_up:
            # What remains if this fails is part of the fingerprint, so it is not taken for drift.
            with suppress(IpsecdError):
                self._clean_up()
        with suppress(IpsecdError):
            self._fingerprint = self._reader.fingerprint()

    def _clean_up(self) -> None:
        """Delete the sets and counters that no rule uses, once no packet can see them any more.

        What cannot be deleted now decides nothing, and is tried again after the next change.
        """
        counters = counter_names(self._early.origins, self._classifier)
        counters |= self.reporting.counters
        steps, sets = unused(self._reader, self._held.names | self._early.names, counters)
        steps += self._given_up()
        if steps:
            wait_for_packets()
            with self._counters.ending(counters, self._held.dynamic, sets):
                self._commit(steps)
