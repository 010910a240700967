"""Owns the first state: what is enforced at start and at boot.

1. A mistake in a file opens nothing: where no policy can be loaded, and the kernel still holds what
   an earlier process enforced, that is left as it is.
2. Where nothing at all can be used, or the kernel does not take it, the setting ``boot`` decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ipsecd.config import Boot, Config
from ipsecd.engine.compiling import Compiling, classifier_by_names
from ipsecd.engine.confirmation import Confirmation
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.expectations import judged
from ipsecd.engine.kept_lists import KeptLists
from ipsecd.engine.lists import counting
from ipsecd.engine.quarantines import change_dynamic_rules
from ipsecd.engine.restoring import Restoring
from ipsecd.engine.sources import (
    Choice,
    Domain,
    LastGood,
    Situation,
    Source,
    SourceName,
    Static,
    choose,
)
from ipsecd.engine.state import Condition, ContainerNews, State
from ipsecd.errors import IpsecdError
from ipsecd.language.documents import format_policy
from ipsecd.log import record
from ipsecd.model.inventory import merged
from ipsecd.model.values import Store
from ipsecd.quoting import first_lines
from ipsecd.sources.domain import Taken
from ipsecd.sources.domain_lists import in_force
from ipsecd.sources.kept import KeptFiles
from ipsecd.sources.last_good import CompiledPolicy
from ipsecd.sources.names import dns_names_of, without_names
from ipsecd.sources.reading import Loaded, StoredPolicy
from ipsecd.sources.static import StaticStore


@dataclass(frozen=True, slots=True)
class Starting:
    """Finds what should be in force, and puts it there."""

    config: Config
    store: StaticStore
    kept_files: KeptFiles
    compiling: Compiling
    enforcement: Enforcement
    earlier_sources: Sequence[Source]
    """The sources that come before the static store."""
    take_over: Callable[[State], State]
    """Adds to a state the dynamic rules that an earlier process left."""
    kept_lists: KeptLists
    confirmation: Confirmation
    restoring: Restoring

    def start(self) -> None:
        """Enforce by the first source that has a policy; raises ``BackendFailed``."""
        self.confirmation.load()
        self.restoring.finish()
        self._load_what_was_left(booting=False)
        self._start(self.store.load)

    def boot(self, config_error: IpsecdError | None = None) -> bool:
        """Do what ``start`` does, but write nothing. Whether all that was wanted is in force."""
        self.confirmation.load()
        self._load_what_was_left(booting=True)
        if not self.enforcement.holds_something:
            self._block_at_boot(self.enforcement.state)
        self._start(self.store.load_read_only, config_error, booting=True)
        self.enforcement.load_programs()
        return not self.enforcement.state.failures

    def check(self) -> list[str]:
        """What is wrong with the stored policies, in words; touches no kernel state."""
        names = self.kept_files.names()
        try:
            loaded = judged(self.store.load(), ())
        except IpsecdError as error:
            return [str(error)]
        problems = [str(file.error) for file in loaded.broken]
        if loaded.assigned_error and not any(
            file.path == loaded.assigned_path for file in loaded.broken
        ):
            problems.append(str(loaded.assigned_error))
        domain = self.kept_files.domain()
        problems += self.kept_files.warnings
        self.kept_lists.store.load(read_only=True)
        problems += self.kept_lists.warnings
        if domain and domain.stored:
            problems += domain.lost
            try:
                self.compiling.compile(domain.stored, names)
            except IpsecdError as error:
                problems.append(str(error))
        if loaded.assigned:
            try:
                self.compiling.compile(loaded.policies[loaded.assigned], names)
            except IpsecdError as error:
                problems.append(str(error))
        return problems

    def _load_what_was_left(self, *, booting: bool) -> None:
        """Load lists, containers and dynamic rules of the earlier process for the first state.

        The kernel holds the rules still, so nothing that they block passes meanwhile.
        """
        now = self.enforcement.state
        news = now.container_news
        if not news.inventories:
            news = ContainerNews(self.kept_files.inventories())
        inventory = merged(news.with_announced().values())
        lists = dict(self.kept_lists.read(self.confirmation.put_lists_back, booting=booting))
        for name, entries in (self.restoring.at_boot() if booting else {}).items():
            lists.pop(name, None)
            lists |= {name: entries} if entries is not None else {}
        counted = self.kept_lists.counted
        state = replace(now, container_news=news, inventory=inventory, counted_lists=counted)
        state = replace(state, lists=counting(lists, counted))
        self.enforcement.record_state(self.take_over(state) if now.stopped else state)

    def _start(
        self,
        read: Callable[[], Loaded],
        config_error: IpsecdError | None = None,
        *,
        booting: bool = False,
    ) -> None:
        """Find the first state and have it enforced.

        With a `config_error` the settings are not known. The last good policy was compiled with
        them, so it comes first. When `booting`, filters by DNS names without known addresses are
        left out: the file of addresses may be on a file system that is mounted later.
        """
        state, choice = self._choose(read, config_error, booting=booting)
        without_policy = wanted = self._with_choice(state, None)
        if choice:
            try:
                wanted = self._with_choice(state, choice)
            except IpsecdError as error:
                # What its names and lists stand for now is more than can be enforced.
                failures = (str(error), *without_policy.failures)
                choice, without_policy = None, replace(without_policy, failures=failures)
        held = False
        if choice is None:
            held = self.enforcement.holds_something
            if not held:
                held, without_policy = self._block_at_boot(without_policy)
        if held:
            self.enforcement.hold(without_policy)
        else:
            self._begin(wanted if choice else without_policy, without_policy)
        self._log_outcome()

    def _begin(self, wanted: State, fallback: State) -> None:
        self.enforcement.begin(wanted, fallback)
        failed = self.enforcement.state
        if failed.condition is Condition.FAILED and not self.enforcement.holds_something:
            _, failed = self._block_at_boot(failed)
            self.enforcement.record_state(failed)

    def _choose(
        self, read: Callable[[], Loaded], config_error: IpsecdError | None, *, booting: bool
    ) -> tuple[State, Choice | None]:
        names = self.kept_files.names()
        self.kept_files.load_excerpts()
        compiled = self.kept_files.last_good()
        stored_now = _load(read)
        if compiled and compiled.store is Store.STATIC:
            document = compiled.document
            if self.confirmation.may_be_unconfirmed(document, stored_now):
                compiled = None
        failures: list[str] = []

        def note_failure(error: IpsecdError) -> None:
            if str(error) not in failures:
                failures.insert(0, str(error))

        def compile_stored(stored: StoredPolicy | None) -> CompiledPolicy:
            needed = dns_names_of(stored.policy) if stored and booting else frozenset()
            unresolved = needed - names.keys()
            if stored and unresolved and compiled is None:
                text = f"addresses of {', '.join(sorted(unresolved))} are not known yet"
                failures.insert(0, f"{text}: filters by these names wait for the daemon")
                policy = without_names(stored.policy, unresolved)
                stored = replace(stored, policy=policy, text=format_policy(policy))
            return self.compiling.compile(stored, names, compiled)

        of_now = compiled
        if compiled and not config_error:
            try:
                of_now = self.compiling.protecting(compiled)
            except IpsecdError as error:
                # What was protected then goes on to be, which the backend took.
                note_failure(error)
        last_good = LastGood(of_now)
        sources: list[Source] = [*self.earlier_sources, Static(), last_good]
        if compiled and compiled.store is Store.DOMAIN:
            # The local policy may be a laxer one than the domain's.
            sources.insert(len(self.earlier_sources), last_good)
        if config_error:
            # Whether there is a domain is not known either.
            sources = [last_good, Domain(), *sources]
        content = self.confirmation.content(stored_now)
        loaded = judged(content, [compiled.document] if compiled else [])
        domain = self._domain(compiled)
        situation = Situation(loaded, bool(config_error), domain)
        choice = choose(sources, situation, compile_stored, note_failure)
        lists = self.enforcement.state.lists
        state = replace(
            self.enforcement.state,
            lists={**lists, **in_force(domain.lists)} if domain else lists,
            names=names,
            loaded=loaded,
            domain=domain,
            refused=None,
            failures=(*([str(config_error)] if config_error else []), *failures),
        )
        return state, choice

    def _domain(self, last_good: CompiledPolicy | None) -> Taken | None:
        """What was taken from the domain; without its file, a last good policy that came from it.

        Nothing that happens to a file withdraws a policy.
        """
        taken = self.kept_files.domain()
        if taken or last_good is None or last_good.store is not Store.DOMAIN:
            return taken
        if last_good.document is None:
            return None
        policy = self.kept_files.reader.read(last_good.document, "<document>")
        return Taken(stored=StoredPolicy(policy, "", last_good.document, Store.DOMAIN))

    def _with_choice(self, state: State, choice: Choice | None) -> State:
        choice = choice or Choice(SourceName.NOTHING, self.compiling.compile(None, {}))
        classifier = classifier_by_names(choice.compiled, state.inventory, state.lists)
        state = state.with_policy(choice.source, choice.compiled, classifier)
        return change_dynamic_rules(state, permits_changed=True)[0]

    def _block_at_boot(self, state: State) -> tuple[bool, State]:
        """Block all but the essentials, if the setting ``boot`` wants that.

        Returns whether it is blocked, and `state`, with the error in it if blocking failed.
        """
        if self.config.boot is not Boot.BLOCK:
            return False, state
        failures = state.failures
        for block in self.compiling.everything_blocked(state.lists):
            try:
                self.enforcement.block_all(block)
            except IpsecdError as error:
                failures = (str(error), *failures)
            else:
                return True, replace(state, failures=failures)
        return False, replace(state, failures=failures)

    def _log_outcome(self) -> None:
        state, backend = self.enforcement.state, self.enforcement.backend
        for failure in state.failures:
            record(logging.ERROR, "policy-failed", reason=failure, in_force=state.source.value)
        record(
            logging.INFO,
            "enforcing",
            backend=backend.name,
            features=",".join(first_lines(list(backend.probe()))),
            policy=state.compiled.policy.name if state.compiled.policy else None,
            digest=state.compiled.classifier.digest[:12],
        )


def _load(read: Callable[[], Loaded]) -> Loaded:
    try:
        return read()
    except IpsecdError as error:
        return Loaded(assigned_error=error)
