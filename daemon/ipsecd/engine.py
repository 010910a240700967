"""Owns the state: what should be in force, and the order in which a change to it happens.

The only writer of kernel state; works without a socket, in one thread. Invariants:

1. A change is compiled and checked first, then made durable, then enforced. Whatever fails on the
   way, the old state is in force and on disk.
2. What cannot be loaded is reported; what was in force stays in force.
3. Dynamic rules end with the engine; nothing of them is on disk.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf

from ipsecd import __version__
from ipsecd.backend.base import Backend, Observation
from ipsecd.backend.choice import make_backend, other_backend, withdraw_other
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.policy import compile_filters, merged
from ipsecd.compiler.tables import Row, TableId, rows_of
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.config import Boot, Config, Directories, OnStop, Unparsable
from ipsecd.errors import InvalidInput, IpsecdError, NotFound, Refused, StoreFailed
from ipsecd.journal import record
from ipsecd.kept import Kept
from ipsecd.language.documents import format_policy
from ipsecd.lastgood import Enforceable
from ipsecd.model.inventory import Inventory, has_selectors, resolved
from ipsecd.model.inventory import merged as merged_inventories
from ipsecd.model.values import (
    Action,
    Endpoint,
    Filter,
    InForce,
    Network,
    Origin,
    Policy,
    Process,
    Store,
    filters_of,
)
from ipsecd.quoting import quote
from ipsecd.stores.cache import names_to_json
from ipsecd.stores.dynamic import DynamicRule, DynamicStore
from ipsecd.stores.files import Disk
from ipsecd.stores.names import names_of, policy_with_addresses, without_names
from ipsecd.stores.reading import BrokenFile, Loaded, StoredPolicy
from ipsecd.stores.remembered import digest_of
from ipsecd.stores.static import KEEP, Keep, StaticStore

Names = Mapping[str, tuple[Network, ...]]


RETRY_S = 5.0
"""Between two tries of what the kernel refused at start."""
ASKED_S = 60.0
"""How long a look at the containers keeps their engines being followed."""
ANNOUNCED_S = 10.0
"""How long an announced address is believed without its engine."""


class Engine:
    """Everything that is or should be in force on this host."""

    def __init__(
        self,
        config: Config,
        directories: Directories,
        backend: Callable[[], Backend] | None = None,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.monotonic,
        other: Callable[[IpsecdError], Backend] | None = None,
        keep_owner: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`backend` is called when enforcement starts, in the place of what `config` names.

        `other` is called with the reason when that does not take its first state; it makes
        another, or raises. `keep_owner` is told what keeps others from what is enforced while it
        is open. `clock` is monotonic, in seconds.
        """
        self.config = config
        self.started = time.time()
        self._make_backend = backend or (
            lambda: make_backend(config.backend.value, directories.bpffs)
        )
        self._make_other = other or (lambda reason: other_backend(reason, directories.bpffs))
        self._keep_owner = keep_owner
        self._clock = clock
        self.bpffs = directories.bpffs
        self._kept = Kept(directories, disk)
        self._store = StaticStore(directories.config, disk, self._kept.reader)
        self._backend: Backend | None = None
        self._never = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.names: dict[str, tuple[Network, ...]] = {}
        self.loaded = Loaded()
        self.failures: tuple[str, ...] = ()
        self.loaded_from = "nothing"
        self._refused: Loaded | None = None
        self._offered: Mapping[str, StoredPolicy] = {}
        self._repair_due = False
        self.stopped = True
        self.held = False
        self._due: Enforceable | None = None
        self._before_refusal: tuple[str, tuple[str, ...]] = ("nothing", ())
        self._retry_at = inf
        self.dynamic = DynamicStore(config.limits.dynamic_rules)
        self.volatile = Volatile()
        self._now = Enforceable("", None, Classifier())
        self._whole = self._now.classifier
        self._inventories: dict[str, Inventory] = {}
        self.inventory = Inventory()
        self.container_engines: dict[str, str] = {}
        self._selecting: dict[str, DynamicRule] = {}
        self._asked_until = -inf
        self._announced: dict[str, tuple[float, tuple[Network, ...]]] = {}

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Enforce the assigned policy, or the last good one if that cannot be loaded.

        Where there is neither, and the kernel still holds what an earlier process enforced, that
        is left as it is, until a policy can be loaded: nothing is opened by a mistake in a file.
        Where nothing at all can be used, or the kernel does not take it, the setting ``boot``
        decides: that is no error, and ``held`` says so. Raises ``BackendFailed`` if this kernel has
        nothing to enforce with.
        """
        self._start(lambda: self._to_enforce(self._store.load))
        if (owner := self.backend.owner_fd()) >= 0:
            self._keep_owner(owner)
        self._keep_last_good()

    def boot(self, config_error: IpsecdError | None = None) -> bool:
        """Do what ``start`` does, but write nothing; whether all that was wanted is in force.

        Until the policy is, the setting ``boot`` is in force. With a `config_error` the settings
        are not known: the last good policy has them in it, and without one the assigned policy is
        enforced with the defaults. Without the file of DNS names, which may lie on a file system
        that is mounted later, their filters are left out.
        """
        if self.backend.observe().digest is None:
            self._block_until_loaded()
        if config_error:
            self._start(lambda: self._despite(config_error))
        else:
            self._start(lambda: self._to_enforce(self._store.look, booting=True))
        return not self.failures

    def _start(self, find: Callable[[], Enforceable | None]) -> None:
        self.names = self._kept.names()
        self._kept.recall_policies()
        self._inventories = self._kept.inventories()
        self.inventory = merged_inventories(self._inventories.values())
        good = find()
        self.held = good is None and (
            self.backend.observe().digest is not None or self._block_until_loaded()
        )
        if self.held:
            self.backend.adopt()
        if good is None:
            good = self._enforceable(None, {})
        self._whole = self._with_containers(good)
        if not self.held:
            self._enforce_first()
            if self.held:
                self._due, self._retry_at = good, self._clock() + RETRY_S
                good = self._enforceable(None, {})
                self.loaded_from = "nothing"
        self._now = good
        self.stopped = False
        for failure in self.failures:
            record(logging.ERROR, "policy-failed", reason=failure, in_force=self.loaded_from)
        record(
            logging.INFO,
            "enforcing",
            backend=self.backend.name,
            features=",".join(self.backend.probe()),
            policy=good.policy.name if good.policy else None,
            digest=good.classifier.digest[:12],
        )

    def _enforce_first(self) -> None:
        """Put in force what should be, with another backend if this one fails.

        If that fails too, what an earlier process enforced stays, or the setting ``boot`` decides.
        """
        try:
            self.backend.apply(self._whole, self.volatile)
        except IpsecdError as error:
            if not self._enforce_otherwise(error):
                self._before_refusal = (self.loaded_from, self.failures)
                self.failures = (str(error), *self.failures)
                self.held = True
                if self.backend.observe().digest is None:
                    self._block_until_loaded()
            return
        withdraw_other(self.backend, self.bpffs)

    def _enforce_otherwise(self, reason: IpsecdError) -> bool:
        """Have another backend enforce, after the failure of the first; whether it does."""
        other = None
        try:
            other = self._make_other(reason)
            other.apply(self._whole, self.volatile)
        except (IpsecdError, OSError):
            if other:
                other.close()
            return False
        try:
            # What it holds from before would judge beside the new one.
            self.backend.give_way()
        except IpsecdError as error:
            self.failures = (str(error), *self.failures)
        self.backend.close()
        self._backend = other
        return True

    def stop(self) -> None:
        """Withdraw everything and forget the dynamic rules; ``start`` begins anew."""
        if self._backend:
            self._backend.remove()
        self._forget_dynamic()
        self.stopped, self.held, self._due = True, False, None
        record(logging.WARNING, "stopped", in_force="nothing")

    def stop_on_purpose(self) -> None:
        """Withdraw what is enforced, unless the configuration keeps the policy in force."""
        if self.config.on_stop is OnStop.WITHDRAW:
            self.stop()
        elif self._backend and not self.stopped:
            self.flush()

    def close(self) -> None:
        """Let go of the kernel and leave it as it is."""
        if self._backend:
            self._backend.close()
            self._backend = None
        if self._never >= 0:
            os.close(self._never)
            self._never = -1

    @property
    def backend(self) -> Backend:
        """What enforces, made when it is first needed."""
        if self._backend is None:
            self._backend = self._make_backend()
        return self._backend

    def check(self) -> list[str]:
        """What is wrong with the stored policies, in words; touches no kernel state."""
        self.names = self._kept.names()
        try:
            loaded = self._store.load()
        except IpsecdError as error:
            return [str(error)]
        problems = [str(file.error) for file in loaded.broken]
        if loaded.assigned_error and not any(f.path == loaded.assigned_path for f in loaded.broken):
            problems.append(str(loaded.assigned_error))
        if loaded.assigned:
            try:
                self._enforceable(loaded.policies[loaded.assigned], self.names)
            except IpsecdError as error:
                problems.append(str(error))
        return problems

    # -- what is in force ------------------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        """Whether what is assigned is not in force, and should be tried when somebody asks."""
        return not self.stopped and (self.held or self.loaded_from == "last-good")

    @property
    def policy(self) -> Policy | None:
        """The policy in force, its DNS names resolved; None if none is."""
        return self._now.policy

    @property
    def classifier(self) -> Classifier:
        """The compiled policy in force, with what its containers have for addresses."""
        return self._whole

    def in_force(self) -> tuple[InForce, ...]:
        """Every filter in force: those of the policy, then the dynamic ones."""
        if self.stopped:
            return ()
        policy = filters_of(self.policy, Store.STATIC) if self.policy else ()
        found = (*policy, *(one for rule in self.dynamic for one in rule.in_force))
        return tuple(
            replace(one, filter=self.inventory.known(one.filter))
            if has_selectors(one.filter)
            else one
            for one in found
        )

    def rules(self) -> dict[Origin, Action]:
        """Every rule in force with its action; nothing of a policy is read for that."""
        if self.stopped:
            return {}
        policy = self.policy
        found = {}
        if policy:
            for name, action in policy.facts.actions.items():
                found[Origin(Store.STATIC.value, policy.name, name)] = action
        return found | {rule.origin: rule.action for rule in self.dynamic}

    def observe(self) -> Observation:
        """What the kernel holds."""
        if self.stopped:
            return Observation(None)
        return self.backend.observe()

    # -- the static store ------------------------------------------------------------------------

    def change(
        self,
        *,
        put: Sequence[Policy] = (),
        delete: Sequence[str] = (),
        assign: str | Keep | None = KEEP,
        names: Names | None = None,
        repair: bool = False,
    ) -> tuple[str, ...]:
        """Store, delete and assign policies as one change, durable and enforced at the end.

        With `repair`, files that cannot be used are replaced by what is put. Returns the names
        under which those were kept.
        """
        known = {**self.names, **(names or {})}
        if isinstance(self.loaded.assigned_error, StoreFailed):
            raise Refused(
                f"the stored policies could not be read: {self.loaded.assigned_error.message}",
                "when they can be, run: ipsecctl reload",
            )
        change = self._store.change(
            self.loaded,
            put=put,
            delete=delete,
            assign=assign,
            repair=repair,
            is_refused=self._is_refused,
        )
        after = change.after
        stored = after.policies[after.assigned] if after.assigned is not None else None
        untouched = after.assigned_error is not None
        good = self._now if untouched else self._enforceable(stored, known, self._now)
        if not untouched:
            self._kept.check(good, known)
        change.commit()
        if not untouched:
            # What is in force while the assigned policy cannot be loaded is not in `good`.
            try:
                self._kept.save_names(known, self.names)
                self._enforce(good)
            except BaseException:
                change.undo()
                self._kept.save_names(self.names, known)
                raise
            self.loaded_from = "policy" if stored else "nothing"
        self.names, self.loaded = known, after
        if self._refused:
            mended = self._refused.mended(change.written)
            self._refused = mended if isinstance(assign, Keep) and mended.assigned_error else None
        self.failures = _failures(self.loaded, self._refused)
        self._keep_last_good()
        return change.kept

    def _is_refused(self, edited: StoredPolicy) -> bool:
        """Whether a reload has read this edit of a file, and it cannot be put in force."""
        if self._offered.get(edited.path) != edited:
            return False
        try:
            self._enforceable(edited, self.names)
        except IpsecdError:
            return True
        return False

    def is_on_disk(self, name: str) -> bool:
        """Whether the file of the stored policy called `name` holds it still."""
        return self._store.is_on_disk(self.loaded.policies[name])

    @property
    def broken(self) -> tuple[BrokenFile, ...]:
        """The files that could not be used when they were last read."""
        return (self._refused or self.loaded).broken

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with files, and keeps nothing from being in force that should be."""
        told = "\n".join(self.failures)
        broken = [text for file in self.broken if (text := str(file.error)) not in told]
        return (*broken, *self._kept.warnings)

    def reload(self, names: Names) -> tuple[bool, tuple[str, ...]]:
        """Read the policy files again and enforce what they say now.

        Returns whether anything changed, and what is wrong with files that are not assigned.
        Raises what is wrong with the assigned one; then all stays as it was.
        """
        loaded = self.read_files()
        if loaded.assigned_error:
            self._refused = loaded
            self.failures = _failures(loaded)
            raise loaded.assigned_error
        known = {**self.names, **names}
        stored = loaded.policies[loaded.assigned] if loaded.assigned else None
        good = self._enforceable(stored, known, self._now)
        changed = good.key != self._now.key or loaded.policies != self.loaded.policies
        self._kept.check(good, known)
        try:
            self._kept.save_names(known, self.names)
            self._enforce(good)
        except BaseException:
            self._kept.save_names(self.names, known)
            raise
        self._refused, self._offered = None, {}
        self.names, self.loaded = known, loaded
        self.loaded_from = "policy" if stored else "nothing"
        self.failures = ()
        self._keep_last_good()
        return changed, tuple(str(file.error) for file in loaded.broken)

    def read_files(self) -> Loaded:
        """What the policy files say now, without enforcing it."""
        loaded = self._store.load()
        self._offered = {stored.path: stored for stored in loaded.policies.values()}
        return loaded

    def stored(self, name: str) -> Policy:
        """The stored policy called `name`; raises ``NotFound``."""
        if name not in self.loaded.policies:
            raise NotFound(
                f"there is no policy {quote(name)}",
                "ipsecctl policy list shows those there are; names are case-sensitive",
            )
        return self.loaded.policies[name].policy

    def path_of(self, name: str) -> str:
        """Where the stored policy called `name` is."""
        return str(self._store.path(self.loaded.policies[name]))

    # -- dynamic rules ---------------------------------------------------------------------------

    def add_dynamic(self, rule: DynamicRule) -> None:
        """Enforce a dynamic rule, in the place of the one that has its name, if any."""
        self._must_run()
        self.dynamic.check_room(rule.name)
        rows = self._rows(rule)
        selects = any(map(has_selectors, rule.filters))
        if any(row.table.process for row in rows):
            self.backend.check(compile_filters(rule.in_force))
        if not rows and not selects:
            raise InvalidInput(
                "the filters match nothing: traffic from this host to itself is not filtered",
                "one of the two addresses must be another's",
            )
        old = self.dynamic.get(rule.name)
        delta = self.volatile.change(
            remove=[old.origin] if old else (), add=rows, deadline=rule.deadline
        )
        try:
            self.backend.change(delta, self.volatile)
        except BaseException:
            self._restore(rule, old)
            raise
        self.dynamic.add(rule)
        self._selecting.pop(rule.name, None)
        if selects:
            self._selecting[rule.name] = rule

    def remove_dynamic(self, rules: Sequence[DynamicRule]) -> None:
        """Take dynamic rules out of force, all at once."""
        delta = self.volatile.change(remove=[rule.origin for rule in rules])
        try:
            self._change_if_any(delta)
        except BaseException:
            for rule in rules:
                self.volatile.change(add=self._rows(rule), deadline=rule.deadline)
            raise
        for rule in rules:
            self.dynamic.remove(rule.name)
            self._selecting.pop(rule.name, None)

    def flush(self) -> int:
        """Take all dynamic rules out of force; how many there were."""
        rules = list(self.dynamic)
        self.remove_dynamic(rules)
        return len(rules)

    def next_expiry(self) -> float | None:
        """When the next dynamic rule ends, in monotonic seconds; None if none does."""
        return self.dynamic.next_deadline()

    def expire(self) -> None:
        """Forget the dynamic rules that have ended; the kernel ended them by itself."""
        ended = self.dynamic.ended(self._clock())
        if ended:
            self.remove_dynamic(ended)
            for rule in ended:
                record(logging.INFO, "dynamic-rule-ended", rule=rule.name)

    def now(self) -> float:
        """The time on the clock of deadlines, in seconds."""
        return self._clock()

    # -- containers ------------------------------------------------------------------------------

    @property
    def selects_containers(self) -> bool:
        """Whether any filter in force names what a container engine knows, or somebody asks."""
        if self._clock() < self._asked_until:
            return True
        return bool(self._selecting) or any(map(has_selectors, self.policy_filters_by_name()))

    def policy_filters_by_name(self) -> tuple[Filter, ...]:
        """The filters of the policy in force that name containers or local processes."""
        rules = self.policy.facts.by_name if self.policy else ()
        return tuple(one for rule in rules for one in rule.filters)

    def dynamic_filters_by_name(self) -> tuple[Filter, ...]:
        """The same of dynamic rules."""
        rules = {rule.name: rule for rule in self._selecting.values()}
        if any(table.id.process for table in self.volatile.tables):
            rules |= {rule.name: rule for rule in self.dynamic}
        return tuple(one for rule in rules.values() for one in rule.filters if _goes_by_name(one))

    def ask_for_containers(self) -> None:
        """Follow the container engines for a while, although no filter needs it."""
        self._asked_until = self._clock() + ASKED_S

    def set_container_engine(self, source: str, inventory: Inventory | None, state: str) -> None:
        """Take the news of the engine behind `source`, if there are any, and its state."""
        if inventory is not None:
            self.set_inventory(source, inventory)
        self.container_engines[source] = state

    def set_inventory(self, source: str, inventory: Inventory) -> None:
        """Enforce by what the engine behind `source` has for containers now.

        Raises ``IpsecdError`` if the kernel does not take it; what was known is in force then.
        """
        if self._inventories.get(source) == inventory and not self._announced:
            return
        self._take_inventories({**self._inventories, source: inventory}, source)

    def announce(self, identity: str, addresses: tuple[Network, ...]) -> bool:
        """Enforce by the addresses of a container that is about to start.

        They count until its engine knows them, or for some seconds. False if no engine has told
        of the container yet; that no filter names any is no reason to wait for it.
        """
        if not self.selects_containers:
            return True
        if not any(one.id == identity for one in self.inventory.containers):
            return False
        # Whoever had an address before, and has ended before it was listed, has it no more.
        self._announced = {
            other: (until, tuple(one for one in found if one not in addresses))
            for other, (until, found) in self._announced.items()
        }
        self._announced[identity] = (self._clock() + ANNOUNCED_S, addresses)
        self._take_inventories(self._inventories)
        return True

    def _take_inventories(self, inventories: Mapping[str, Inventory], fresh: str = "") -> None:
        """Enforce by what engines know and was announced; the news of the engine `fresh` are new.

        An announcement counts until its engine lists all of it, or has had the time to.
        """
        before = self.inventory
        known = merged_inventories(inventories.values())
        now = self._clock()
        listed = {
            one.id: {address for found in one.networks.values() for address in found}
            for one in known.containers
        }
        of_others = {
            one.id
            for source, inventory in inventories.items()
            if source != fresh
            for one in inventory.containers
        }
        announced = {
            identity: (until, addresses)
            for identity, (until, addresses) in self._announced.items()
            if (until > now or identity in of_others)
            and not listed.get(identity, set()) >= set(addresses)
        }
        told = {identity: found for identity, (_, found) in announced.items()}
        self.inventory = known.with_announced(told)
        try:
            if not self.stopped and not self.held:
                self._follow_containers()
        except BaseException:
            self.inventory = before
            raise
        self._announced = announced
        self._inventories = dict(inventories)
        self._kept.save_inventories(
            {source: one.with_announced(told) for source, one in inventories.items()}
        )

    def _follow_containers(self) -> None:
        before, whole = self._whole, self._with_containers(self._now)
        if whole.digest != before.digest:
            self.backend.apply(whole, self.volatile)
            self._whole = whole
        done: list[tuple[DynamicRule, Sequence[tuple[TableId, bytes]]]] = []
        try:
            for rule in self._selecting.values():
                rows = self._rows(rule)
                old = tuple(self.volatile.rows(rule.origin))
                if {(row.table, row.key) for row in rows} == set(old):
                    continue
                delta = self.volatile.change(remove=[rule.origin], add=rows, deadline=rule.deadline)
                try:
                    self.backend.change(delta, self.volatile)
                except BaseException:
                    self._put_back(rule, old)
                    raise
                done.append((rule, old))
        except BaseException:
            with suppress(IpsecdError):
                for rule, had in done:
                    self.backend.change(self._put_back(rule, had), self.volatile)
                if whole.digest != before.digest:
                    self.backend.apply(before, self.volatile)
            self._whole = before
            raise

    def _put_back(self, rule: DynamicRule, keys: Iterable[tuple[TableId, bytes]]) -> Delta:
        """Let a rule have the entries again that it had."""
        one = rule.in_force[0]
        rows = [Row(table, key, one) for table, key in keys]
        return self.volatile.change(remove=[rule.origin], add=rows, deadline=rule.deadline)

    def _with_containers(self, good: Enforceable) -> Classifier:
        """The compiled policy, and the entries for what its selectors stand for now."""
        if not good.policy:
            return good.classifier
        by_name = Policy(good.policy.name, good.policy.facts.by_name)
        filters = filters_of(by_name, Store.STATIC)
        selecting = [one for one in filters if has_selectors(one.filter)]
        if not selecting:
            return good.classifier
        return merged(good.classifier, compile_filters(resolved(selecting, self.inventory)))

    def _rows(self, rule: DynamicRule) -> tuple[Row, ...]:
        """The entries of a dynamic rule."""
        return tuple(rows_of(resolved(rule.in_force, self.inventory)))

    # -- watching --------------------------------------------------------------------------------

    def watch_fd(self) -> int:
        """A descriptor that is readable when somebody may have changed the kernel's state."""
        descriptor = self._backend.watch_fd() if self._backend else -1
        return descriptor if descriptor >= 0 else self._never

    def watch(self) -> None:
        """Put right what somebody else changed, and say so.

        What could not be put right is tried again at the next call.
        """
        if self._backend is None:
            return
        self._repair_due = self.backend.changed() or self._repair_due
        if self.stopped or self.held or not self._repair_due:
            return
        drift = self.backend.observe().drift
        if drift:
            self.backend.apply(self.classifier, self.volatile)
            record(logging.WARNING, "foreign-change-undone", drift="; ".join(drift))
        self._repair_due = False

    def _try_again(self, good: Enforceable) -> None:
        """Enforce what the kernel refused at start, if it takes it now."""
        self._retry_at = self._clock() + RETRY_S
        whole = self._with_containers(good)
        try:
            self.backend.apply(whole, self.volatile)
        except IpsecdError:
            return
        self._now, self._whole, self._due, self.held = good, whole, None, False
        self.loaded_from, self.failures = self._before_refusal
        withdraw_other(self.backend, self.bpffs)
        record(logging.INFO, "enforcing", policy=good.policy.name if good.policy else None)
        self._keep_last_good()

    def follow_senders(self) -> None:
        """Enforce anew if a service that a filter names has been started or stopped.

        And try again what the kernel refused at start.
        """
        if self.held and self._due and self._clock() >= self._retry_at:
            self._try_again(self._due)
        if self._backend and not self.stopped and not self.held and self.backend.is_stale():
            self.backend.apply(self.classifier, self.volatile)

    def ping(self) -> None:
        """Do nothing."""

    # -- inside ----------------------------------------------------------------------------------

    def _to_enforce(
        self, read: Callable[[], Loaded], *, booting: bool = False
    ) -> Enforceable | None:
        """What should be in force by the files, or by the last good state if they are broken.

        `read` reads the files. None if there is neither. When `booting`, what the files say counts
        but for filters by DNS names that are not known.
        """
        kept = self._kept.last_good()
        try:
            self.loaded = read()
            self.failures = ()
            if self.loaded.assigned_error:
                raise self.loaded.assigned_error
            name = self.loaded.assigned
            stored = self.loaded.policies[name] if name is not None else None
            needed = names_of(stored.policy) if stored and booting else frozenset()
            unknown = needed - self.names.keys()
            if stored and unknown and kept is None:
                policy = without_names(stored.policy, unknown)
                stored = StoredPolicy(policy, stored.path, format_policy(policy))
                text = f"addresses of {', '.join(sorted(unknown))} are not known yet"
                self.failures = (f"{text}: filters by these names wait for the daemon",)
            self.loaded_from = "policy" if stored else "nothing"
            return self._enforceable(stored, self.names, kept)
        except IpsecdError as error:
            if isinstance(error, StoreFailed):
                self.loaded = Loaded(assigned_error=error)
            text = str(error)
            if text not in self.failures:
                self.failures = (text, *self.failures)
            self.loaded_from = "last-good" if kept else "nothing"
            return kept

    def _despite(self, error: IpsecdError) -> Enforceable | None:
        """What was in force last, or else the assigned policy, after an `error` in the settings."""
        good = self._kept.last_good()
        if good:
            self.failures = ()
            self.loaded_from = "last-good"
        else:
            good = self._to_enforce(self._store.look, booting=True)
        self.failures = (str(error), *self.failures)
        return good

    def _block_until_loaded(self) -> bool:
        """Block all but the essentials, if the setting ``boot`` wants that; whether it does."""
        if self.config.boot is not Boot.BLOCK:
            return False
        everything = InForce(
            Origin("boot", "", "until the policy is in force"),
            Filter(Endpoint(), Endpoint()),
            Action.BLOCK,
        )
        exemptions = (one.name for one in self.config.exemptions)
        try:
            self.backend.apply(compile_filters([everything], exemptions), self.volatile)
        except IpsecdError as error:
            self.failures = (str(error), *self.failures)
            return False
        record(logging.INFO, "blocking-all", until="the assigned policy is in force")
        return True

    def _enforceable(
        self, stored: StoredPolicy | None, names: Names, kept: Enforceable | None = None
    ) -> Enforceable:
        """A policy compiled with the settings; `kept` is used if it was made from the same."""
        policy = stored.policy if stored else None
        used = names_of(policy) if policy else frozenset()
        known = {name: names[name] for name in used if name in names}
        exemptions = tuple(sorted(one.name for one in self.config.exemptions))
        drop = self.config.unparsable is Unparsable.DROP
        # Another version may compile the same policy in another way.
        made_from = (__version__, exemptions, drop, stored.digest if stored else None)
        key = hashlib.sha256(repr(made_from).encode() + names_to_json(known)).hexdigest()
        named = policy_with_addresses(policy, known) if policy else None
        document = stored.text if stored else None
        if kept and kept.key == key:
            return (
                kept if kept.policy is named else Enforceable(key, named, kept.classifier, document)
            )
        # What containers have for addresses is no part of it: it is never enforced from disk.
        filters = [
            one
            for one in (filters_of(named, Store.STATIC) if named else ())
            if not has_selectors(one.filter)
        ]
        classifier = compile_filters(filters, exemptions, drop_unparsable=drop)
        if self._backend:
            self._backend.check(classifier)
        return Enforceable(key, named, classifier, document)

    def _enforce(self, good: Enforceable) -> None:
        if not self.stopped and (self.held or good.key != self._now.key or self.backend.failures):
            whole = self._with_containers(good)
            self.backend.apply(whole, self.volatile)
            if self.held:
                withdraw_other(self.backend, self.bpffs)
            self._whole, self._due = whole, None
            self.held = False
        self._now = good

    def _keep_last_good(self) -> None:
        """Keep what is in force for the next start; without it boot compiles, no worse."""
        digests = {stored.digest for stored in self.loaded.policies.values()}
        if self.loaded_from == "last-good" and self._now.document is not None:
            digests.add(digest_of(self._now.document))
        self._kept.save_policies(digests)
        if self.loaded_from == "last-good" or self.held:
            return
        self._kept.save_last_good(self._now, self.names)

    def _must_run(self) -> None:
        if self.stopped:
            raise Refused(
                "enforcement is stopped, so a dynamic rule would not be in force",
                "start it first: ipsecctl net start policyagent",
            )
        if self.held:
            raise Refused(
                "what should be in force is not, and what the kernel holds in its place is not "
                "known here",
                "mend what ipsecctl status shows, then run: ipsecctl reload",
            )

    def _change_if_any(self, delta: Delta) -> None:
        if (delta.added or delta.removed) and not self.stopped:
            self.backend.change(delta, self.volatile)

    def _restore(self, rule: DynamicRule, old: DynamicRule | None) -> None:
        self.volatile.change(
            remove=[rule.origin],
            add=self._rows(old) if old else (),
            deadline=old.deadline if old else inf,
        )

    def _forget_dynamic(self) -> None:
        self.dynamic.clear()
        self._selecting.clear()
        self.volatile = Volatile()


def _goes_by_name(one: Filter) -> bool:
    return has_selectors(one) or isinstance(one.source.address, Process)


def _failures(loaded: Loaded, refused: Loaded | None = None) -> tuple[str, ...]:
    """Why what is assigned is not in force, in words."""
    errors = (one.assigned_error for one in (loaded, refused) if one)
    return tuple(dict.fromkeys(str(error) for error in errors if error))
