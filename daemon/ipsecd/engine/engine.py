"""Owns the engine as its callers see it. The other modules of this package do the work.

It is the only writer of kernel state. It works without a socket, in one thread. Invariants:

1. What is in force is one immutable state. A change makes the next state, or changes nothing.
2. A policy that cannot be loaded is reported, and what was in force stays in force.
3. Dynamic rules end when the engine is stopped or ends for a restart. They do not end with its
   process: the next process takes them over, with their deadlines.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import TypeVar

from ipsecd.backend.base import Backend, Line, Observation
from ipsecd.compiler.overlaps import Overlaps
from ipsecd.config import Config, Directories, OnStop
from ipsecd.engine.additions import Additions, Order
from ipsecd.engine.backends import Backends
from ipsecd.engine.compiling import Compiling
from ipsecd.engine.confirmation import Confirmation
from ipsecd.engine.containers import Containers
from ipsecd.engine.dynamic import Change, DynamicRuleChanges
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.guard import carrying
from ipsecd.engine.history import Moment
from ipsecd.engine.kept_lists import KeptLists
from ipsecd.engine.lists import Lists
from ipsecd.engine.lookups import Lookups
from ipsecd.engine.outlook import Outlook
from ipsecd.engine.past import Past
from ipsecd.engine.policies import Policies
from ipsecd.engine.restoring import Restoring
from ipsecd.engine.rules_beside import RulesBeside
from ipsecd.engine.seeing import Seeing
from ipsecd.engine.sources import Domain, Source, warnings_of_domain
from ipsecd.engine.starting import Starting
from ipsecd.engine.state import State
from ipsecd.engine.switching import Switching
from ipsecd.engine.taking import take, trust
from ipsecd.engine.this_boot import Boot
from ipsecd.engine.view import View
from ipsecd.engine.workspaces import Workspaces
from ipsecd.errors import IpsecdError
from ipsecd.log import record
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Inventory
from ipsecd.model.quarantine import Quarantine
from ipsecd.sources.dynamic import DynamicRule, Selected
from ipsecd.sources.files import Disk
from ipsecd.sources.kept import KeptFiles
from ipsecd.sources.lists import ListStore
from ipsecd.sources.reading import Loaded
from ipsecd.sources.static import StaticStore
from ipsecd.sources.unconfirmed import PoliciesBefore

T = TypeVar("T")


class Engine(View):
    """Everything that is or should be in force on this host."""

    def __init__(
        self,
        config: Config,
        directories: Directories,
        backend: Callable[[], Backend] | None = None,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.monotonic,
        make_other: Callable[[IpsecdError], Backend] | None = None,
        keep_owner: Callable[[int], None] = lambda _: None,
        earlier_sources: Sequence[Source] | None = None,
        owner: socket.socket | None = None,
        this_boot: Boot | None = None,
    ) -> None:
        """`backend` is called when enforcement starts, in the place of what `config` names.

        `make_other` is called with the error when that does not take its first state; it makes
        another one, or raises. While the descriptor that `keep_owner` is called with is open, none
        else can change what is enforced; `owner` is what an earlier process kept so. `clock` is
        monotonic. A policy of `earlier_sources` replaces the static one; None: of the domain.
        """
        if earlier_sources is None:
            earlier_sources = (Domain(),) if config.domain else ()
        self.config = config
        self.started, self.bpffs = time.time(), directories.bpffs
        self.frozen_state: State | None = None
        self.lookups = Lookups.beginning(self.started)
        self._clock, self._keep_owner = clock, keep_owner
        self._kept_files = KeptFiles(directories, disk)
        self._store = StaticStore(directories.config, disk, self._kept_files.reader)
        self._kept_files.dynamic.is_made = self._store.is_made
        self.content_of, self.policy_directory = self._store.content_of, self._store.directory
        self._backends = Backends(config.backend, directories, self._kept_files, owner)
        makers = (backend or self._backends.make, make_other or self._backends.make_other)
        self._enforcement = Enforcement(*makers, directories.bpffs, clock)
        compiling = Compiling(config, self._enforcement.check)
        parts = (self._store, self._kept_files, compiling, self._enforcement, earlier_sources)
        self._dynamic = DynamicRuleChanges.by_settings(
            config, self._enforcement, self._kept_files.dynamic, clock
        )
        self.protection = self._dynamic.protection
        self.next_expiry, self.expire = self._dynamic.next_expiry, self._dynamic.expire
        self.list_changes = lists = Lists(self._enforcement, self.protection)
        self.kept_lists = KeptLists(ListStore(directories, disk), lists, directories.state, disk)
        switching = Switching(self._enforcement, self._kept_files, self.protection)
        self._policies = Policies(*parts, self.kept_lists, switching)
        self.outlook = Outlook(self._policies)
        self.reload, self.read_files = self._policies.reload, self._policies.read_files
        self.refresh_names, self.restore = self._policies.refresh_names, self._policies.restore
        self.change, self.holds_on_disk = self._policies.change, self._store.holds
        reader = self._kept_files.reader
        self.read_policy, self.read_shared = reader.read, reader.read_shared
        self.take_domain = partial(take, self._policies)
        self.trust_domain = partial(trust, self._policies)
        changes = (self._policies, self._dynamic)
        self.confirmation = Confirmation(directories.state, disk, *changes, this_boot)
        self.past = Past(directories.state, config, disk, this_boot, self._enforcement)
        self.history, self.recorder = self.past.history, self.past.recorder
        self.counting, self.measured = self.past.counting, self._enforcement.measured
        self.restoring = Restoring(directories.state, disk, self._store, self.kept_lists.store)
        left_over = (self._dynamic.taken_over, self.kept_lists, self.confirmation, self.restoring)
        self._starting = Starting(config, *parts, *left_over)
        self.workspaces = Workspaces()
        self.rules_beside = partial(RulesBeside, self._dynamic)
        self.overlaps, self.seeing = Overlaps(), Seeing(self._enforcement)
        self.load_programs = self._enforcement.load_programs
        self._containers = Containers(self._enforcement, self._kept_files, clock)
        self.ask_for_containers = self._containers.ask

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Enforce the assigned policy, or the last good one if that cannot be loaded.

        Where there is neither, and the kernel still holds what an earlier process enforced, that
        is left as it is until a policy can be loaded: a mistake in a file opens nothing. Where
        nothing at all can be used, or the kernel does not take it, the setting ``boot`` decides;
        that is no error, and ``held`` says so. Raises ``BackendFailed`` if nothing can enforce.
        """
        self.begin()
        self.load_programs()

    def begin(self) -> None:
        """Do what ``start`` does, but leave to ``load_programs`` what programs take long for."""
        self._enforcement.run(self._begin)
        self._policies.keep_last_good()
        self.counting.begin()
        last = self.confirmation.put_back_if_due()
        self.history.begin(self.moment, last.sentence if last else "")

    def _begin(self) -> None:
        self._starting.start()
        if (owner := self.backend.owner_fd()) >= 0:
            self._keep_owner(owner)

    def boot(self, config_error: IpsecdError | None = None) -> bool:
        """Do what ``start`` does, but write nothing. Whether all that was wanted is in force.

        Until the policy is in force, the setting ``boot`` is. With a `config_error` the settings
        are not known: the last good policy was compiled with them, and without one the assigned
        policy is enforced with the defaults. If the file of DNS names is missing, filters by such
        names are left out: it may be on a file system that is mounted later.
        """
        return self._starting.boot(config_error)

    def content_with(self, earlier: PoliciesBefore) -> Loaded:
        """What the store would hold with `earlier` files in the place of those of now."""
        return earlier.over(self.loaded, self._store.directory, self._kept_files.reader)

    def check(self) -> list[str]:
        """What is wrong with the stored policies, in words; touches no kernel state."""
        return self._starting.check()

    def stop(self) -> None:
        """Withdraw everything and forget the dynamic rules, until ``start`` is called again."""
        self.counting.entries.keep(at_end=True)
        self._enforcement.run(self._withdraw)
        record(logging.WARNING, "stopped", in_force="nothing")

    def _withdraw(self) -> None:
        self._enforcement.withdraw()
        self._kept_files.dynamic.clear()

    def stop_on_purpose(self) -> None:
        """Withdraw what is enforced, unless the configuration keeps the policy in force."""
        if self.config.on_stop is OnStop.WITHDRAW:
            self.stop()
        else:
            self.end_for_restart()

    def end_for_restart(self) -> None:
        """Leave the policy in force for the next process, and no dynamic rule."""
        if self.state.enforcing:
            self.flush()
        self._kept_files.dynamic.clear()

    def close(self) -> None:
        """Let go of the kernel and leave it as it is."""
        self.past.close("nothing" if self.stopped else "what was in force")
        self._enforcement.close()

    def choose_backend(self, name: str) -> bool:
        """Have another backend enforce what is in force; whether the next start takes it, too."""
        return self._backends.choose(self._enforcement, name)

    # -- threads ---------------------------------------------------------------------------------

    def use_line(self, line: Line) -> None:
        """Have `line` run all work on the kernel, whichever thread asks for it."""
        self._enforcement.run = carrying(line)

    def ask(self, question: Callable[[Backend], T]) -> T:
        """The backend's answer to `question`; for any thread."""
        return self._enforcement.run(lambda: question(self._enforcement.backend))

    def snapshot(self) -> Engine:
        """A copy of this engine for questions, whose state stays as it is now."""
        snapshot = copy(self)
        snapshot.frozen_state = self.state
        return snapshot

    # -- what is in force ------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What is in force now, as a value that stays as it is; for any thread."""
        return self.frozen_state or self._enforcement.state

    @property
    def moment(self) -> Moment:
        """All that a change may change, as it is now."""
        return Moment(self.state, self.kept_lists.store.lists)

    @property
    def backend(self) -> Backend:
        """The backend, which is made when it is first needed."""
        return self._enforcement.backend

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with files although all that should be in force is."""
        of_domain = warnings_of_domain(self.config.domain, self.domain, time.time())
        kept = (self._kept_files, self.kept_lists, self.confirmation, self.restoring, self.past)
        told = (warning for each in kept for warning in each.warnings)
        return (*self.warnings_of_files(), *of_domain, *told)

    def observe(self) -> Observation:
        """What the kernel holds."""
        return self._enforcement.observe()

    # -- the static store ------------------------------------------------------------------------

    def is_on_disk(self, name: str) -> bool:
        """Whether the file of the stored policy called `name` still has what was read."""
        return self._store.is_on_disk(self.loaded.policies[name])

    def path_of(self, name: str) -> str:
        """The path of the stored policy called `name`."""
        return str(self._store.path(self.loaded.policies[name]))

    # -- the domain ------------------------------------------------------------------------------

    def ask_domain(self, *, new: bool = False) -> int:
        """Ask for a look at the domain; its number. `new`: those before it are forgotten."""
        return self._enforcement.run(lambda: self._note_lookups(self.lookups.asking(new=new))).asked

    def tell_of_domain(
        self, number: int, message: str, *, changed: bool = False, problem: str = ""
    ) -> None:
        """Take what came of a look at the domain, which answers those up to `number`."""
        if problem and problem != self.lookups.problem:
            record(logging.WARNING, "domain-problem", reason=problem)
        self._enforcement.run(
            lambda: self._note_lookups(
                self.lookups.told(number, message, time.time(), changed=changed, problem=problem)
            )
        )

    def _note_lookups(self, lookups: Lookups) -> Lookups:
        self.lookups = lookups
        return lookups

    # -- dynamic rules ---------------------------------------------------------------------------

    def add_dynamic(self, rule: DynamicRule) -> None:
        """Enforce a dynamic rule. It replaces the rule of its name, if there is one."""
        self._enforcement.run(lambda: self._dynamic.add([rule]))

    def order_dynamic(self, order: Order, *, dry_run: bool = False) -> Additions:
        """Enforce what somebody ordered to block or permit, as one change; what that came to."""
        return self._enforcement.run(lambda: self._dynamic.order(order, dry_run=dry_run))

    def change_dynamic(self, rules: Sequence[DynamicRule], names: Sequence[str]) -> Change:
        """Enforce rules, and take others out of force by name, as one change; what came of it."""
        return self._enforcement.run(lambda: self._dynamic.change(rules, names))

    def change_rules(self, beside: RulesBeside) -> None:
        """Put dynamic rules in force and take others out, all of them or none."""
        self._enforcement.run(beside.carry_out)

    def remove_dynamic(self, selection: Sequence[Selected]) -> Sequence[Selected]:
        """Take rules or filters of them, but not of quarantines, out of force; what was taken."""
        return self._enforcement.run(lambda: self._dynamic.remove(selection))

    def flush(self) -> int:
        """Take all rules out of force, end all quarantines. Returns how many rules there were."""
        return self._enforcement.run(self._dynamic.flush)

    def impose(self, quarantine: Quarantine) -> tuple[DynamicRule, ...]:
        """Cut off who is in a quarantine, whatever is permitted later. Returns its rules."""
        return self._enforcement.run(lambda: self._dynamic.impose(quarantine))

    def release(self, name: str) -> tuple[str, ...]:
        """End the quarantine of this name, if any. Returns the names of the rules that it had."""
        return self._enforcement.run(lambda: self._dynamic.release([name]))

    def now(self) -> float:
        """The time on the clock of deadlines, in seconds."""
        return self._clock()

    # -- containers ------------------------------------------------------------------------------

    @property
    def states_of_container_engines(self) -> Mapping[str, str]:
        """The state, in a word, of each container engine that has reported."""
        return self._containers.engines

    @property
    def selects_containers(self) -> bool:
        """Whether any filter in force names what a container engine knows, or somebody asks."""
        return self._containers.are_selected

    def set_container_engine(
        self, source: str, inventory: Inventory | None, state: str, asked_at: float
    ) -> None:
        """Take the state of the engine behind `source`, and what containers it has if it told.

        `asked_at` is when it was asked, in monotonic seconds.
        """
        set_engine = self._containers.set_engine
        self._enforcement.run(lambda: set_engine(source, inventory, state, asked_at))

    def set_inventory(
        self, source: str, inventory: Inventory, asked_at: float | None = None
    ) -> None:
        """Enforce by what the engine behind `source` has for containers.

        `asked_at` is when it was asked, in monotonic seconds; None is now. Raises ``IpsecdError``
        if the kernel does not take it; what was known before stays in force then.
        """
        self._enforcement.run(lambda: self._containers.set_inventory(source, inventory, asked_at))

    def announce(
        self, identity: str, addresses: tuple[Network, ...], *, shared: bool = False
    ) -> bool:
        """Enforce by the addresses of a container that is about to start, `shared` or its own.

        Returns False if a filter names containers and no engine has told of this one yet.
        """
        announce = self._containers.announce
        return self._enforcement.run(lambda: announce(identity, addresses, shared=shared))

    # -- watching --------------------------------------------------------------------------------

    def watch_fd(self) -> int:
        """A descriptor that is readable when somebody may have changed the kernel's state."""
        return self._enforcement.watch_fd()

    def watch(self) -> None:
        """Put right what somebody else changed, and say so; what failed at the call before, too."""
        self._enforcement.watch()

    def follow_senders(self) -> bool:
        """Enforce anew if a service that a filter names has been started or stopped.

        Also try again what the kernel refused at start. Returns whether that is in force now, so
        that ``keep_last_good`` should be called.
        """
        is_enforced_now = self._enforcement.try_again()
        self._enforcement.follow_senders()
        return is_enforced_now

    def keep_last_good(self) -> None:
        """Keep what is in force for the next start."""
        self._policies.keep_last_good()

    def ping(self) -> None:
        """Do nothing: an answer shows that the engine works."""
