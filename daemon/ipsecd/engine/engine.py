"""Owns the engine as its callers see it; what it does is done in the modules beside it.

The only writer of kernel state; works without a socket, in one thread. Invariants:

1. What is in force is one immutable state; a change makes the next one, or leaves it.
2. What cannot be loaded is reported; what was in force stays in force.
3. Dynamic rules end when the engine is stopped, or ends for a restart, and not with its process:
   the next one takes them over, with their ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import TypeVar

from ipsecd.backend.base import Backend, Line, Observation
from ipsecd.backend.choice import make_backend, other_backend
from ipsecd.config import Config, Directories, OnStop
from ipsecd.engine.compiling import Compiling, Names
from ipsecd.engine.containers import Containers
from ipsecd.engine.dynamic import Dynamic
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.policies import Policies
from ipsecd.engine.sources import Source
from ipsecd.engine.starting import Starting
from ipsecd.engine.state import State
from ipsecd.engine.view import View
from ipsecd.errors import IpsecdError
from ipsecd.log import record
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Inventory
from ipsecd.model.quarantine import Quarantine
from ipsecd.model.values import Policy
from ipsecd.progress import Tell, silent
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.files import Disk
from ipsecd.sources.kept import Kept
from ipsecd.sources.reading import Loaded
from ipsecd.sources.static import KEEP, Keep, StaticStore

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
        other: Callable[[IpsecdError], Backend] | None = None,
        keep_owner: Callable[[int], None] = lambda _: None,
        before: Sequence[Source] = (),
    ) -> None:
        """`backend` is called when enforcement starts, in the place of what `config` names.

        `other` is called with the reason when that does not take its first state; it makes
        another, or raises. `keep_owner` is told what keeps others from what is enforced while it
        is open. `clock` is monotonic, in seconds. A policy of the sources `before` the static
        store replaces that of the store.
        """
        self.config = config
        self.started = time.time()
        self.bpffs = directories.bpffs
        self.fixed: State | None = None
        self._clock = clock
        self._keep_owner = keep_owner
        self._kept = Kept(directories, disk)
        self._store = StaticStore(directories.config, disk, self._kept.reader)
        self._enforcement = Enforcement(
            backend or (lambda: make_backend(config.backend, directories.bpffs)),
            other or (lambda reason: other_backend(config.backend, reason, directories.bpffs)),
            directories.bpffs,
            clock,
        )
        compiling = Compiling(config, self._enforcement.check)
        parts = (self._store, self._kept, compiling, self._enforcement, before)
        self._dynamic = Dynamic(
            self._enforcement, self._kept.dynamic, config.limits.dynamic_rules, clock
        )
        self._starting = Starting(config, *parts, self._dynamic.taken_over)
        self._policies = Policies(*parts)
        self._containers = Containers(self._enforcement, self._kept, clock)

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Enforce the assigned policy, or the last good one if that cannot be loaded.

        Where there is neither, and the kernel still holds what an earlier process enforced, that
        is left as it is, until a policy can be loaded: nothing is opened by a mistake in a file.
        Where nothing at all can be used, or the kernel does not take it, the setting ``boot``
        decides: that is no error, and ``held`` says so. Raises ``BackendFailed`` if this kernel has
        nothing to enforce with.
        """
        self._enforcement.run(self._begin)
        self._policies.keep_last_good()

    def _begin(self) -> None:
        self._starting.start()
        if (owner := self.backend.owner_fd()) >= 0:
            self._keep_owner(owner)

    def boot(self, config_error: IpsecdError | None = None) -> bool:
        """Do what ``start`` does, but write nothing; whether all that was wanted is in force.

        Until the policy is, the setting ``boot`` is in force. With a `config_error` the settings
        are not known: the last good policy has them in it, and without one the assigned policy is
        enforced with the defaults. Without the file of DNS names, which may lie on a file system
        that is mounted later, their filters are left out.
        """
        return self._starting.boot(config_error)

    def check(self) -> list[str]:
        """What is wrong with the stored policies, in words; touches no kernel state."""
        return self._starting.check()

    def stop(self) -> None:
        """Withdraw everything and forget the dynamic rules; ``start`` begins anew."""
        self._enforcement.run(self._withdraw)
        record(logging.WARNING, "stopped", in_force="nothing")

    def _withdraw(self) -> None:
        self._enforcement.withdraw()
        self._kept.dynamic.clear()

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
        self._kept.dynamic.clear()

    def close(self) -> None:
        """Let go of the kernel and leave it as it is."""
        self._enforcement.close()

    # -- threads ---------------------------------------------------------------------------------

    def use_line(self, line: Line) -> None:
        """Have `line` run all that speaks to the kernel, whichever thread it is wanted in."""
        self._enforcement.run = line

    def ask(self, question: Callable[[Backend], T]) -> T:
        """What the backend answers; for any thread."""
        return self._enforcement.run(lambda: question(self._enforcement.backend))

    def snapshot(self) -> Engine:
        """An engine for questions, whose state stays as it is now."""
        other = copy(self)
        other.fixed = self.state
        return other

    # -- what is in force ------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What is in force now, as a value that stays as it is; for any thread."""
        return self.fixed or self._enforcement.state

    @property
    def backend(self) -> Backend:
        """What enforces, made when it is first needed."""
        return self._enforcement.backend

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with files, and keeps nothing from being in force that should be."""
        told = "\n".join(self.failures)
        broken = [text for file in self.broken if (text := str(file.error)) not in told]
        unresolved = [
            f"DNS name {quote(name)} could not be looked up: it has the addresses that it had\n"
            "  hint: the log says why; then run: ipsecctl reload --resolve"
            for name in sorted(self.state.unresolved)
        ]
        return (*broken, *unresolved, *self._kept.warnings)

    def observe(self) -> Observation:
        """What the kernel holds."""
        return self._enforcement.observe()

    # -- the static store ------------------------------------------------------------------------

    def change(
        self,
        *,
        put: Sequence[Policy] = (),
        delete: Sequence[str] = (),
        assign: str | Keep | None = KEEP,
        names: Names | None = None,
        repair: bool = False,
        tell: Tell = silent,
    ) -> tuple[str, ...]:
        """Store, delete and assign policies as one change, durable and enforced at the end.

        With `repair`, files that cannot be used are replaced by what is put. `tell` hears how far
        it is. Returns the names under which those were kept.
        """
        return self._policies.change(put, delete, assign, names or {}, tell, repair=repair)

    def reload(self, names: Names, tell: Tell = silent) -> tuple[bool, tuple[str, ...]]:
        """Read the policy files again and enforce what they say now.

        Returns whether anything changed, and what is wrong with files that are not assigned.
        Raises what is wrong with the assigned one; then all stays as it was. `tell` hears how far
        it is.
        """
        return self._policies.reload(names, tell)

    def read_files(self) -> Loaded:
        """What the policy files say now, without enforcing it."""
        return self._policies.read_files()

    def is_on_disk(self, name: str) -> bool:
        """Whether the file of the stored policy called `name` holds it still."""
        return self._store.is_on_disk(self.loaded.policies[name])

    def path_of(self, name: str) -> str:
        """Where the stored policy called `name` is."""
        return str(self._store.path(self.loaded.policies[name]))

    # -- dynamic rules ---------------------------------------------------------------------------

    def add_dynamic(self, rule: DynamicRule) -> None:
        """Enforce a dynamic rule, in the place of the one that has its name, if any."""
        self._enforcement.run(lambda: self._dynamic.add(rule))

    def remove_dynamic(self, rules: Sequence[DynamicRule]) -> Sequence[DynamicRule]:
        """Take dynamic rules out of force, all at once, but for those of quarantines.

        Returns which they were; raises ``Refused`` if there are no others.
        """
        return self._enforcement.run(lambda: self._dynamic.remove(rules))

    def flush(self) -> int:
        """Take all dynamic rules out of force, end all quarantines; how many rules there were."""
        return self._enforcement.run(self._dynamic.flush)

    def impose(self, quarantine: Quarantine) -> tuple[DynamicRule, ...]:
        """Cut off who is in a quarantine, from now on whatever is permitted; by which rules."""
        return self._enforcement.run(lambda: self._dynamic.impose(quarantine))

    def release(self, name: str) -> tuple[str, ...]:
        """End a quarantine, if there is one of this name; the names of the rules that it had."""
        return self._enforcement.run(lambda: self._dynamic.release([name]))

    def next_expiry(self) -> float | None:
        """When the next dynamic rule ends, in monotonic seconds; None if none does."""
        return self._dynamic.next_expiry()

    def expire(self) -> None:
        """Forget the dynamic rules that have ended; the kernel ended them by itself."""
        self._dynamic.expire()

    def now(self) -> float:
        """The time on the clock of deadlines, in seconds."""
        return self._clock()

    # -- containers ------------------------------------------------------------------------------

    @property
    def states_of_container_engines(self) -> Mapping[str, str]:
        """The state of each container engine that was heard of, in a word."""
        return self._containers.engines

    @property
    def selects_containers(self) -> bool:
        """Whether any filter in force names what a container engine knows, or somebody asks."""
        return self._containers.are_selected

    def ask_for_containers(self) -> None:
        """Follow the container engines for a while, although no filter needs it."""
        self._containers.ask()

    def set_container_engine(
        self, source: str, news: Inventory | None, state: str, at: float
    ) -> None:
        """Take the news of the engine behind `source`, asked for `at` a time, and its state."""
        self._enforcement.run(lambda: self._containers.set_engine(source, news, state, at))

    def set_inventory(self, source: str, inventory: Inventory, at: float | None = None) -> None:
        """Enforce by what the engine behind `source` has for containers, asked for `at` a time.

        Raises ``IpsecdError`` if the kernel does not take it; what was known is in force then.
        """
        self._enforcement.run(lambda: self._containers.set_inventory(source, inventory, at))

    def announce(
        self, identity: str, addresses: tuple[Network, ...], *, shared: bool = False
    ) -> bool:
        """Enforce by the addresses of a container that is about to start, also if they are shared.

        False if no engine has told of the container yet, and a filter names any.
        """
        announce = self._containers.announce
        return self._enforcement.run(lambda: announce(identity, addresses, shared=shared))

    # -- watching --------------------------------------------------------------------------------

    def watch_fd(self) -> int:
        """A descriptor that is readable when somebody may have changed the kernel's state."""
        return self._enforcement.watch_fd()

    def watch(self) -> None:
        """Put right what somebody else changed, and say so.

        What could not be put right is tried again at the next call.
        """
        self._enforcement.watch()

    def follow_senders(self) -> bool:
        """Enforce anew if a service that a filter names has been started or stopped.

        And try again what the kernel refused at start: whether ``keep_last_good`` is due.
        """
        again = self._enforcement.try_again()
        self._enforcement.follow_senders()
        return again

    def keep_last_good(self) -> None:
        """Keep what is in force for the next start."""
        self._policies.keep_last_good()

    def ping(self) -> None:
        """Do nothing."""
