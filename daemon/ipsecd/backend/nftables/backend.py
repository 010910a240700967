"""Owns the nftables backend: one table ``inet ipsecd``, one transaction for each change.

Invariants:

1. A set of the policy never changes once packets can see it. A packet on its way through the old
   rules looks into the old sets to the end: nf_tables fixes the rules of a packet when it enters
   the hook, but looks at set elements as they are at that moment. So new content gets a new set,
   and the old set is deleted only after every packet that could see it has gone.
2. Sets of dynamic rules are apart from those of the policy; a policy change does not touch them.
3. All goes through one netlink socket, because the kernel binds a table's ownership to it.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from ipsecd.backend.base import Count, Line, Observation
from ipsecd.backend.grace import wait_for_packets
from ipsecd.backend.nftables import cgroups
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables import transactions as tx
from ipsecd.backend.nftables.early import LARGE, EarlySets
from ipsecd.backend.nftables.expressions import NFPROTO
from ipsecd.backend.nftables.failures import failure
from ipsecd.backend.nftables.looks import KernelTable, Ruleset
from ipsecd.backend.nftables.naming import (
    STATE_PREFIX,
    TABLE,
    UNPARSABLE,
    counter_name,
    describe,
    generation_of,
    kernel_key_width,
    kernel_keys,
    set_name,
    table_key,
)
from ipsecd.backend.nftables.reading import TableReader
from ipsecd.backend.nftables.render import render
from ipsecd.backend.nftables.translation import is_translated
from ipsecd.backend.nftables.wire import EventSocket, KernelError, Message, NftSocket
from ipsecd.compiler.classifier import Classifier, Table, in_order
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.errors import BackendFailed, IpsecdError
from ipsecd.model.packets import Point
from ipsecd.model.values import Origin

TRANSLATION_S = 1.0
"""How often to ask whether somebody translates addresses: a dump of all chains there are."""

COMPARED_ELEMENTS = 4096
"""Sets up to this size are compared element by element when the state is read back."""


@dataclass(frozen=True, slots=True)
class _PolicySet:
    """A set of the policy that is in the kernel."""

    table: Table
    kernel: KernelTable


class NftablesBackend:
    """Enforces a classifier with nftables in the network namespace it is made in.

    ``points`` says where packets are looked at; set before ``apply``, and all by default.

    `protect` is whether to use ``owner`` and ``persist`` where the kernel has them; tests switch
    it off to see older kernels.
    """

    name = "nftables"
    failures: tuple[str, ...] = ()

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        protect: bool = True,
        owner: socket.socket | None = None,
    ) -> None:
        """`owner` is the socket that owned the table, if it is still open.

        Raises ``BackendFailed`` where the kernel has no nf_tables.
        """
        self._clock = clock
        try:
            self._socket = NftSocket(owner)
        except OSError as error:
            raise BackendFailed(f"the kernel has no nf_tables: {error.strerror}") from error
        self._reader = TableReader(self._socket)
        self._reader.exists()
        self._protected = protect and can_protect(self._socket)
        self._events = None if self._protected else EventSocket(TABLE, self._socket.port)
        self._generation = 0
        self.points = frozenset(Point)
        self._forget()

    def _forget(self) -> None:
        self._classifier: Classifier | None = None
        self._policy: dict[TableId, _PolicySet] = {}
        self._dynamic: dict[TableId, KernelTable] = {}
        self._chains: list[str] = []
        self._groups: Mapping[str, cgroups.Group | None] = {}
        self._translated = False
        self._asked = 0.0
        self._fingerprint = ""
        self._drifted = False
        self._meddled = False
        self._early = EarlySets()

    def owner_fd(self) -> int:
        """The descriptor of the socket that owns the table; -1 where tables have no owners."""
        return self._socket.fileno() if self._protected else -1

    @property
    def is_protected(self) -> bool:
        """Whether the kernel keeps everybody else from our table."""
        return self._protected

    def probe(self) -> tuple[str, ...]:
        """``owned`` and ``persistent`` where the kernel protects the table, else ``watched``."""
        return ("owned", "persistent") if self._protected else ("watched",)

    def check(self, classifier: Classifier) -> None:
        """Raise ``Refused`` for local processes where there are no control groups."""
        cgroups.require(classifier.tables)

    def prepare(self, classifier: Classifier, run: Line) -> None:
        """Load large sets of `classifier` in small transactions; no rule uses them yet."""
        if self._classifier is None or self._drifted:
            return
        early = EarlySets()
        run(lambda: self._begin_early(early))
        for table in classifier.tables:
            known = self._policy.get(table.id)
            if len(table) < LARGE or (known and known.table.digest == table.digest):
                continue
            kernel = run(partial(self._kernel_table, table.id, table.origins))
            for messages in early.transactions(table, kernel):
                if not run(partial(self._load_early, early, messages)):
                    return
            early.is_loaded(table, kernel)

    def discard(self) -> None:
        """Delete the sets that were loaded and that no rule uses."""
        self._early = EarlySets()
        self._settle()

    def _begin_early(self, early: EarlySets) -> None:
        self._early = early

    def _load_early(self, early: EarlySets, messages: list[Message]) -> bool:
        """Carry out a transaction that loads sets; not if they have been given up meanwhile."""
        if early is not self._early:
            return False
        self._commit(messages)
        self._settle(clean_up=False)
        return True

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Put the whole state in force in one transaction, then delete what is no longer used.

        At first, and after drift, nothing in the kernel is trusted and all sets are written anew.
        """
        trusted = self._classifier is not None and not self._drifted
        now = self._clock()
        known = self._policy if trusted else {}
        dynamic = self._dynamic
        if not trusted:
            self._early = EarlySets()
        steps = [] if trusted else self._take_over()
        policy, sets = self._policy_sets(classifier, known)
        steps += sets
        if not trusted:
            dynamic = {table.id: self._kernel_table(table.id) for table in volatile.tables}
            steps += [step for kernel in dynamic.values() for step in tx.dynamic_sets(kernel)]
            steps += tx.additions(volatile.entries(), dynamic, now)
        groups = _groups(policy, dynamic)
        translated = self._is_translated()
        ruleset = _ruleset(classifier, policy, dynamic, self.points, groups, translated)
        mark = STATE_PREFIX + classifier.digest
        steps += tx.replace_rules(ruleset, mark, self._chains)
        self._commit(steps)
        self._groups, self._translated = groups, translated
        self._policy, self._dynamic = policy, dynamic
        self._chains = [*ruleset.chains, mark]
        if classifier is not self._classifier:
            self._early = EarlySets()
        self._classifier, self._drifted, self._meddled = classifier, False, False
        self._settle()

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Add and remove elements; touch the rules only if a table came or went.

        Where some go and others come, those that come do so first, and those that go only after
        every packet on its way can see the new ones. In between both are in force, and of both
        the highest-ranked decides: the verdict is that of the old rules or that of the new ones.
        """
        places = {(entry.table, entry.key) for entry in delta.removed}
        stays = places & {(entry.table, entry.key) for entry in delta.added}
        gone = tuple(e for e in delta.removed if (e.table, e.key) not in stays)
        come = tuple(e for e in delta.added if (e.table, e.key) not in stays)
        if not gone or not come:
            self._change(delta, volatile)
            return
        kept = tuple(e for e in delta.removed if (e.table, e.key) in stays)
        first = Delta(kept, delta.added)
        self._change(first, volatile)
        wait_for_packets()
        try:
            self._change(Delta(removed=gone), volatile)
        except IpsecdError:
            self._change(first.reversed(), volatile)
            raise

    def _change(self, delta: Delta, volatile: Volatile) -> None:
        """Carry out one transaction of a change, of which `volatile` is the outcome."""
        assert self._classifier is not None
        touched = {entry.table for entry in (*delta.removed, *delta.added)}
        gone = [table for table in touched if table not in volatile and table in self._dynamic]
        dynamic = {t: kernel for t, kernel in self._dynamic.items() if t not in gone}
        new = [table for table in touched if table in volatile and table not in dynamic]
        dynamic |= {table: self._kernel_table(table) for table in new}
        now = self._clock()
        steps = [step for table in new for step in tx.dynamic_sets(dynamic[table])]
        steps += tx.removals(delta.removed, dynamic, now)
        steps += tx.additions(delta.added, dynamic, now)
        if not new and not gone:
            self._commit(steps)
            return
        groups = _groups(self._policy, dynamic)
        ruleset = _ruleset(
            self._classifier, self._policy, dynamic, self.points, groups, self._translated
        )
        mark = STATE_PREFIX + self._classifier.digest
        steps += tx.replace_rules(ruleset, mark, self._chains)
        steps += [
            nft.delete_set(TABLE, name) for table in gone for name in self._dynamic[table].sets
        ]
        self._commit(steps)
        self._groups = groups
        self._dynamic = dynamic
        self._chains = [*ruleset.chains, mark]
        self._settle(clean_up=False)

    def observe(self) -> Observation:
        """Read the table back and compare its rules, sets and small sets' elements."""
        found = self._read_back()
        self._drifted = self._drifted or bool(found.drift)
        return found

    def adopt(self) -> None:
        """Own the table, so that nobody can flush it."""
        if self._protected:
            self._commit([nft.new_table(TABLE, nft.TABLE_OWNER | nft.TABLE_PERSIST)])

    def remove(self) -> None:
        """Delete the table."""
        if self._reader.exists():
            self._commit([nft.delete_table(TABLE)])
        self._forget()

    def give_way(self) -> None:
        """Delete the table."""
        self.remove()

    def close(self) -> None:
        """Close the socket; the table stays, as an orphan, until it is adopted."""
        self._socket.close()
        if self._events:
            self._events.close()

    def counts(self) -> Mapping[Origin, Count]:
        """What every rule of the policy has matched, from its counter object."""
        origins = self._classifier.origins if self._classifier else frozenset()
        found = self._reader.counters()
        names = {origin: counter_name(origin) for origin in origins}
        return {origin: found[name] for origin, name in names.items() if name in found}

    def volatile_counts(self) -> Mapping[tuple[TableId, bytes], Count]:
        """What every dynamic entry has matched, from the counters of its element."""
        return {
            (table, table_key(table, key)): count
            for table, kernel in self._dynamic.items()
            for key, count in self._reader.elements(kernel.set_name)
        }

    def unparsable(self) -> int:
        """How many packets were dropped because their headers could not be read."""
        return self._reader.counters().get(UNPARSABLE, Count()).packets

    def watch_fd(self) -> int:
        """-1 where the kernel keeps everybody else from our table."""
        return self._events.fileno() if self._events else -1

    def changed(self) -> bool:
        """Whether somebody else changed our table since the last call."""
        if self._events and self._events.foreign_change():
            self._meddled = True
        return self._meddled

    def is_stale(self) -> bool:
        """Whether a service that a rule names has been started or stopped.

        Once a second also whether somebody has begun or ceased to translate addresses.
        """
        if any(cgroups.find(name) != group for name, group in self._groups.items()):
            return True
        if self._classifier is None or self._clock() < self._asked + TRANSLATION_S:
            return False
        return self._is_translated() != self._translated

    def _is_translated(self) -> bool:
        """Whether somebody translates addresses; as it was, if the kernel does not tell."""
        self._asked = self._clock()
        try:
            return is_translated(self._socket)
        except KernelError:
            return self._translated

    def _take_over(self) -> list[Message]:
        """Own the table before anything else, and see what an earlier process left in it.

        Returns the first messages of the transaction. A table that cannot be owned in place is
        replaced within it.
        """
        flags = nft.TABLE_OWNER | nft.TABLE_PERSIST if self._protected else 0
        self._chains = []
        try:
            self._socket.commit([nft.new_table(TABLE, flags)])
        except KernelError as error:
            if error.errno == errno.EPERM:
                raise failure(error) from error
            return [nft.delete_table(TABLE), *tx.foundation(flags)]
        self._chains = self._reader.chains()
        existing = self._reader.sets()
        self._generation = max([self._generation, *map(generation_of, existing)])
        return tx.foundation(flags, existing)

    def _policy_sets(
        self, classifier: Classifier, known: Mapping[TableId, _PolicySet]
    ) -> tuple[dict[TableId, _PolicySet], list[Message]]:
        """The sets of a policy: those that are there with the same content, and new ones."""
        policy: dict[TableId, _PolicySet] = {}
        counted = {origin for one in known.values() for origin in one.table.origins}
        counted |= self._early.origins
        steps = [
            nft.new_counter(TABLE, counter_name(origin), describe(origin))
            for origin in sorted(classifier.origins - counted)
        ]
        for table in classifier.tables:
            old = known.get(table.id)
            if old and old.table.digest == table.digest:
                policy[table.id] = old
                continue
            early = self._early.take(table)
            if early:
                policy[table.id] = _PolicySet(table, early)
                continue
            kernel = self._kernel_table(table.id, table.origins)
            policy[table.id] = _PolicySet(table, kernel)
            steps += tx.policy_set(table, kernel)
        return policy, steps

    def _kernel_table(self, table: TableId, origins: tuple[Origin, ...] = ()) -> KernelTable:
        self._generation += 1
        alone = origins[0] if len(origins) == 1 else None
        return KernelTable(
            table,
            set_name(table, self._generation),
            counter=counter_name(alone) if alone else "",
            mapped=len(origins) > 1,
            origin=alone,
        )

    def _commit(self, steps: list[Message]) -> None:
        """Carry out a transaction; raises ``BackendFailed`` or ``LimitExceeded``."""
        while steps:
            try:
                self._socket.commit(steps)
            except KernelError as error:
                ended = error.errno == errno.ENOENT and error.index >= 0
                if not ended or steps[error.index].kind != nft.DELSETELEM:
                    raise failure(error) from error
                # The kernel ended the element after we looked at the clock.
                steps = [*steps[: error.index], *steps[error.index + 1 :]]
            except OSError as error:
                raise BackendFailed(
                    f"the kernel did not take the change: {error.strerror}",
                    "the old rules are in force",
                ) from error
            else:
                return

    def _settle(self, *, clean_up: bool = True) -> None:
        """Do what follows a change that is in force; no failure here may deny that it is.

        Without a fingerprint the next look at the table finds drift, and all is written anew.
        """
        self._fingerprint = ""
        if clean_up:
            # What is left then is seen in the fingerprint, and is not taken for somebody's change.
            with suppress(IpsecdError):
                self._clean_up()
        with suppress(IpsecdError):
            self._fingerprint = self._reader.fingerprint()

    def _clean_up(self) -> None:
        """Delete the sets and counters that no rule uses, once no packet can see them any more.

        What cannot be deleted now is found again after the next change; it decides nothing.
        """
        used = {one.kernel.set_name for one in self._policy.values()}
        used |= {name for kernel in self._dynamic.values() for name in kernel.sets}
        used |= self._early.names
        counters = (
            {UNPARSABLE, *map(counter_name, self._classifier.origins)}
            if (self._classifier)
            else set()
        )
        sets = [n for n in self._reader.sets() if generation_of(n) and n not in used]
        counters |= set(map(counter_name, self._early.origins))
        stale = [name for name in self._reader.counters() if name not in counters]
        steps = [nft.delete_set(TABLE, name) for name in sets]
        steps += [nft.delete_counter(TABLE, name) for name in stale]
        if not steps:
            return
        wait_for_packets()
        self._commit(steps)

    def _read_back(self) -> Observation:
        if not self._reader.exists():
            missing = (f"table inet {TABLE} is missing",) if self._classifier else ()
            return Observation(None, missing)
        marks = [name for name in self._reader.chains() if name.startswith(STATE_PREFIX)]
        digest = marks[0].removeprefix(STATE_PREFIX) if len(marks) == 1 else None
        if self._classifier is None:
            return Observation(digest, (f"table inet {TABLE} is there and should not be",))
        drift: list[str] = []
        if digest != self._classifier.digest:
            drift.append(f"the kernel holds policy {digest}, not {self._classifier.digest}")
        if self._reader.fingerprint() != self._fingerprint:
            drift.append(f"the chains, rules or sets of table inet {TABLE} were changed")
        if self._meddled:
            # Not only what is compared can have changed: large sets and dynamic ones are not read.
            drift.append(f"somebody else changed table inet {TABLE}")
        drift += [
            f"the elements of set {name} were changed"
            for name, keys in tx.FIXED_SETS.items()
            if {key for key, _ in self._reader.elements(name)} != set(keys)
        ]
        drift += [
            f"the elements of set {one.kernel.set_name} were changed"
            for one in self._policy.values()
            if len(one.table) <= COMPARED_ELEMENTS and not self._holds(one)
        ]
        return Observation(digest, tuple(drift))

    def _holds(self, one: _PolicySet) -> bool:
        table = one.table
        keys = kernel_keys(table.id, table.keys, NFPROTO[table.id.family])
        width = kernel_key_width(table.id)
        wanted = {keys[i : i + width] for i in range(0, len(keys), width)}
        return {key for key, _ in self._reader.elements(one.kernel.set_name)} == wanted


def _ruleset(
    classifier: Classifier,
    policy: Mapping[TableId, _PolicySet],
    dynamic: Mapping[TableId, KernelTable],
    points: frozenset[Point],
    groups: Mapping[str, cgroups.Group | None],
    translated: bool,
) -> Ruleset:
    tables = in_order([*(one.kernel for one in policy.values()), *dynamic.values()])
    return render(
        tables,
        classifier.exemptions,
        drop_unparsable=classifier.drop_unparsable,
        points=points,
        groups=groups,
        translated=translated,
    )


def _groups(
    policy: Mapping[TableId, _PolicySet], dynamic: Mapping[TableId, KernelTable]
) -> dict[str, cgroups.Group | None]:
    return cgroups.find_all([*(one.kernel for one in policy.values()), *dynamic.values()])


def can_protect(socket: NftSocket) -> bool:
    """Whether the kernel knows tables that are owned and persist (Linux 6.9 and later).

    Asked with a table of another name in a transaction whose last message must fail, so that
    nothing is left of it whatever the answer is.
    """
    name = TABLE + "_probe"
    probe = nft.new_table(name, nft.TABLE_OWNER | nft.TABLE_PERSIST)
    impossible = nft.delete_chain(name, "none")
    try:
        socket.commit([probe, impossible])
    except KernelError as error:
        return error.index == 1
    return True
