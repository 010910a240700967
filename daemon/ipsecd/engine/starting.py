"""Owns the first state: what is enforced at start and at boot, and by what it is decided.

1. Nothing is opened by a mistake in a file: where no policy can be loaded, and the kernel still
   holds what an earlier process enforced, that is left as it is.
2. Where nothing at all can be used, or the kernel does not take it, the setting ``boot`` decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ipsecd.config import Boot, Config
from ipsecd.engine.compiling import Compiling, with_containers
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.quarantines import changed
from ipsecd.engine.sources import Choice, Given, LastGood, Source, SourceName, Static, choose
from ipsecd.engine.state import Condition, News, State
from ipsecd.errors import IpsecdError
from ipsecd.language.documents import format_policy
from ipsecd.log import record
from ipsecd.model.inventory import merged
from ipsecd.sources.kept import Kept
from ipsecd.sources.last_good import Enforceable
from ipsecd.sources.names import names_of, without_names
from ipsecd.sources.reading import Loaded, StoredPolicy
from ipsecd.sources.static import StaticStore


@dataclass(frozen=True, slots=True)
class Starting:
    """Finds what should be in force, and puts it there."""

    config: Config
    store: StaticStore
    kept: Kept
    compiling: Compiling
    enforcement: Enforcement
    before: Sequence[Source]
    """The sources that come before the static store."""
    take_over: Callable[[State], State]
    """Gives a state the dynamic rules that an earlier process has left."""

    def start(self) -> None:
        """Enforce by the first source that has a policy; raises ``BackendFailed``."""
        self._look_around()
        self._start(self.store.load)

    def boot(self, config_error: IpsecdError | None = None) -> bool:
        """Do what ``start`` does, but write nothing; whether all that was wanted is in force."""
        self._look_around()
        if not self.enforcement.holds_something:
            self._blocked(self.enforcement.state)
        self._start(self.store.look, config_error, booting=True)
        return not self.enforcement.state.failures

    def check(self) -> list[str]:
        """What is wrong with the stored policies, in words; touches no kernel state."""
        names = self.kept.names()
        try:
            loaded = self.store.load()
        except IpsecdError as error:
            return [str(error)]
        problems = [str(file.error) for file in loaded.broken]
        if loaded.assigned_error and not any(f.path == loaded.assigned_path for f in loaded.broken):
            problems.append(str(loaded.assigned_error))
        if loaded.assigned:
            try:
                self.compiling.enforceable(loaded.policies[loaded.assigned], names)
            except IpsecdError as error:
                problems.append(str(error))
        return problems

    def _look_around(self) -> None:
        """Know the containers, and what dynamic rules there are, before anything is enforced.

        The kernel holds these still, and the first state has them: nothing passes meanwhile.
        """
        now = self.enforcement.state
        news = now.news if now.news.inventories else News(self.kept.inventories())
        inventory = merged(news.with_announced().values())
        state = replace(now, news=news, inventory=inventory)
        self.enforcement.note(self.take_over(state) if now.stopped else state)

    def _start(
        self,
        read: Callable[[], Loaded],
        config_error: IpsecdError | None = None,
        *,
        booting: bool = False,
    ) -> None:
        """Find the first state and have it enforced.

        With a `config_error` the settings are not known: the last good policy has them in it, and
        comes first. When `booting`, filters by DNS names that are not known are left out: their
        file may be on a file system that is mounted later.
        """
        state, choice = self._chosen(read, config_error, booting=booting)
        nothing = self._with(state, None)
        held = False
        if choice is None:
            held = self.enforcement.holds_something
            if not held:
                held, nothing = self._blocked(nothing)
        if held:
            self.enforcement.hold(nothing)
        else:
            self._begin(self._with(state, choice) if choice else nothing, nothing)
        self._tell()

    def _begin(self, wanted: State, nothing: State) -> None:
        self.enforcement.begin(wanted, nothing)
        failed = self.enforcement.state
        if failed.condition is Condition.FAILED and not self.enforcement.holds_something:
            _, failed = self._blocked(failed)
            self.enforcement.note(failed)

    def _chosen(
        self, read: Callable[[], Loaded], config_error: IpsecdError | None, *, booting: bool
    ) -> tuple[State, Choice | None]:
        names = self.kept.names()
        self.kept.recall_policies()
        good = self.kept.last_good()
        failures: list[str] = []

        def fail(error: IpsecdError) -> None:
            if str(error) not in failures:
                failures.insert(0, str(error))

        def compiled(stored: StoredPolicy | None) -> Enforceable:
            needed = names_of(stored.policy) if stored and booting else frozenset()
            unknown = needed - names.keys()
            if stored and unknown and good is None:
                text = f"addresses of {', '.join(sorted(unknown))} are not known yet"
                failures.insert(0, f"{text}: filters by these names wait for the daemon")
                policy = without_names(stored.policy, unknown)
                stored = StoredPolicy(policy, stored.path, format_policy(policy))
            return self.compiling.enforceable(stored, names, good)

        last_good = LastGood(good)
        sources: list[Source] = [*self.before, Static(), last_good]
        if config_error:
            sources.insert(0, last_good)
        loaded = _read(read)
        choice = choose(sources, Given(loaded, bool(config_error)), compiled, fail)
        state = replace(
            self.enforcement.state,
            names=names,
            loaded=loaded,
            refused=None,
            failures=(*([str(config_error)] if config_error else []), *failures),
        )
        return state, choice

    def _with(self, state: State, choice: Choice | None) -> State:
        choice = choice or Choice(SourceName.NOTHING, self.compiling.enforceable(None, {}))
        whole = with_containers(choice.good, state.inventory)
        state = state.with_policy(choice.source, choice.good, whole)
        return changed(state, permits_changed=True)[0]

    def _blocked(self, state: State) -> tuple[bool, State]:
        """Block all but the essentials, if the setting ``boot`` wants that; whether it does.

        The outcome is `state` with the reason, if it should and does not.
        """
        if self.config.boot is not Boot.BLOCK:
            return False, state
        try:
            self.enforcement.block_all(self.compiling.everything_blocked())
        except IpsecdError as error:
            return False, replace(state, failures=(str(error), *state.failures))
        return True, state

    def _tell(self) -> None:
        state, backend = self.enforcement.state, self.enforcement.backend
        for failure in state.failures:
            record(logging.ERROR, "policy-failed", reason=failure, in_force=state.source.value)
        record(
            logging.INFO,
            "enforcing",
            backend=backend.name,
            features=",".join(backend.probe()),
            policy=state.good.policy.name if state.good.policy else None,
            digest=state.good.classifier.digest[:12],
        )


def _read(read: Callable[[], Loaded]) -> Loaded:
    try:
        return read()
    except IpsecdError as error:
        return Loaded(assigned_error=error)
