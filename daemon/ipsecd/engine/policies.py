"""Owns changes to the static store, and what they put in force; must not know the kernel.

1. A change is compiled, checked and prepared first, then made durable, then enforced. Whatever
   fails on the way, the old state is in force and on disk.
2. A source that comes before the static store stays in force whatever changes there.
3. Changes come one after the other, in a thread of their own, and the state may change meanwhile in
   what is not theirs: each makes the next state from the one that it finds when it is in force.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ipsecd.compiler.volatile import NO_CHANGE
from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import Compiling, Names, with_containers
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.names import Renewed, renewed
from ipsecd.engine.sources import (
    Choice,
    Given,
    Source,
    SourceName,
    Static,
    choose,
    strictly,
)
from ipsecd.engine.state import State
from ipsecd.errors import IpsecdError, Refused, StoreFailed
from ipsecd.model.values import Policy
from ipsecd.progress import Phase, Progress, Tell
from ipsecd.sources.kept import Kept
from ipsecd.sources.reading import Loaded, StoredPolicy
from ipsecd.sources.remembered import digest_of
from ipsecd.sources.static import Keep, StaticStore


@dataclass(slots=True)
class Policies:
    """The policies that people keep on this host."""

    store: StaticStore
    kept: Kept
    compiling: Compiling
    enforcement: Enforcement
    before: Sequence[Source]
    """The sources that come before the static store."""
    _offered: Mapping[str, StoredPolicy] = field(default_factory=dict)

    def change(
        self,
        put: Sequence[Policy],
        delete: Sequence[str],
        assign: str | Keep | None,
        names: Names,
        tell: Tell,
        *,
        repair: bool,
    ) -> tuple[str, ...]:
        """Make one change, durable and enforced at the end; the names of files that were kept."""
        now = self.enforcement.state
        known = {**now.names, **names}
        looked_up = {**now.looked_up, **dict.fromkeys(names, time.time())}
        if isinstance(now.loaded.assigned_error, StoreFailed):
            raise Refused(
                f"the stored policies could not be read: {now.loaded.assigned_error.message}",
                "when they can be, run: ipsecctl reload",
            )
        tell(Progress(Phase.COMPILING))
        change = self.store.change(
            now.loaded,
            put=put,
            delete=delete,
            assign=assign,
            repair=repair,
            is_refused=self._is_refused,
        )
        after = change.after
        refused = now.refused.mended(change.written) if now.refused else None
        if refused and not (isinstance(assign, Keep) and refused.assigned_error):
            refused = None

        def after_it(state: State) -> State:
            return replace(
                state,
                names=known,
                looked_up=looked_up,
                unresolved=state.unresolved - names.keys(),
                loaded=after,
                refused=refused,
                failures=_failures(after, refused),
            )

        choice = self._chosen_despite(after, known, tell)
        if choice:
            self.kept.check(choice.good, known)
        with Attempt() as attempt:
            wanted = None
            if choice:
                wanted = self._prepared(
                    attempt, choice, lambda now: (after_it(now), NO_CHANGE, ()), tell
                )
            tell(Progress(Phase.WRITING))
            attempt.step(change.commit, lambda _: change.undo())
            if wanted:
                tell(Progress(Phase.SWITCHING))
                self._switch(attempt, wanted, known)
            else:
                self._note(after_it)
        tell(Progress(Phase.KEEPING))
        self.keep_last_good()
        return change.kept

    def reload(self, names: Names, tell: Tell) -> tuple[bool, tuple[str, ...]]:
        """Read the policy files again and enforce what they say now, by `names`.

        Dynamic rules are enforced by these too. A name with none could not be looked up: it keeps
        those that it had. Returns whether anything changed, and what is wrong with files that are
        not assigned. Raises what is wrong with the assigned one; then all stays as it was.
        """
        now = self.enforcement.state
        loaded = self.read_files()
        answered = {name: found for name, found in names.items() if found}
        known = {**now.names, **answered}
        tell(Progress(Phase.COMPILING))
        try:
            choice = self._chosen(loaded, known, tell)
        except IpsecdError as error:
            if error is loaded.assigned_error:
                failures = _failures(loaded)
                self._note(lambda state: replace(state, refused=loaded, failures=failures))
            raise
        changed = choice.good.key != now.good.key or loaded.policies != now.loaded.policies
        self.kept.check(choice.good, known)
        at = time.time()

        def after_it(state: State) -> State:
            return replace(
                state,
                names=known,
                looked_up={**state.looked_up, **dict.fromkeys(answered, at)},
                unresolved=(state.unresolved | names.keys()) - answered.keys(),
                loaded=loaded,
                refused=None,
                failures=_failures(loaded),
            )

        with Attempt() as attempt:
            wanted = self._prepared(
                attempt, choice, lambda now: renewed(after_it(now), answered, at), tell
            )
            tell(Progress(Phase.SWITCHING))
            changed = self._switch(attempt, wanted, known) or changed
        self._offered = {}
        tell(Progress(Phase.KEEPING))
        self.keep_last_good()
        self.enforcement.run(self.kept.dynamic.mend)
        return changed, tuple(str(file.error) for file in loaded.broken)

    def read_files(self) -> Loaded:
        """What the policy files say now, without enforcing it."""
        loaded = self.store.load()
        self._offered = {stored.path: stored for stored in loaded.policies.values()}
        return loaded

    def keep_last_good(self) -> None:
        """Keep what is in force for the next start; without it boot compiles, no worse."""
        state = self.enforcement.state
        digests = {stored.digest for stored in state.loaded.policies.values()}
        if state.source is not SourceName.STATIC and state.good.document is not None:
            digests.add(digest_of(state.good.document))
        self.kept.save_policies(digests)
        if state.source is not SourceName.LAST_GOOD and not state.held:
            self.kept.save_last_good(state.good, state.names)

    def _prepared(
        self, attempt: Attempt, choice: Choice, after_it: Callable[[State], Renewed], tell: Tell
    ) -> Callable[[], Renewed]:
        """Do what takes long of putting the choice in force; what gives the state to switch to."""
        inventory = self.enforcement.state.inventory
        whole = with_containers(choice.good, inventory)

        def wanted() -> Renewed:
            # Dynamic rules and containers may have changed since the choice was made.
            now = self.enforcement.state
            known = now.inventory is inventory
            there = whole if known else with_containers(choice.good, now.inventory)
            new, delta, rules = after_it(now)
            return new.with_policy(choice.source, choice.good, there), delta, rules

        attempt.step(
            lambda: self.enforcement.prepare(whole, tell), lambda _: self.enforcement.discard()
        )
        return wanted

    def _switch(self, attempt: Attempt, wanted: Callable[[], Renewed], names: Names) -> bool:
        """Keep `names` and put what is wanted in force, as the last steps of an attempt.

        Whether dynamic rules changed with it.
        """
        before = self.enforcement.state.names
        attempt.step(
            partial(self.kept.save_names, names, before),
            lambda _: self.kept.save_names(before, names),
        )

        def switch() -> bool:
            now = self.enforcement.state
            new, delta, rules = wanted()
            self.enforcement.become(new, delta, settle=True)
            for rule in rules:
                self.kept.dynamic.added(rule)
            for quarantine in new.quarantines.values():
                if quarantine != now.quarantines.get(quarantine.name):
                    self.kept.dynamic.imposed(quarantine)
            return bool(delta)

        return self.enforcement.run(switch)

    def _note(self, after_it: Callable[[State], State]) -> None:
        """Make a state that has nothing else in force."""
        self.enforcement.run(lambda: self.enforcement.note(after_it(self.enforcement.state)))

    def _chosen(self, loaded: Loaded, names: Names, tell: Tell) -> Choice:
        """What is to be in force if the static store holds `loaded`; raises why it cannot be."""
        good = self.enforcement.state.good
        compiled = partial(self.compiling.enforceable, names=names, kept=good, tell=tell)
        choice = choose((*self.before, Static()), Given(loaded), compiled, strictly)
        assert choice is not None, "a strict choice ends with the first failure"
        return choice

    def _chosen_despite(self, loaded: Loaded, names: Names, tell: Tell) -> Choice | None:
        """The same; None where the assigned policy cannot be loaded, so that what is stays."""
        try:
            return self._chosen(loaded, names, tell)
        except IpsecdError as error:
            if error is not loaded.assigned_error:
                raise
            return None

    def _is_refused(self, edited: StoredPolicy) -> bool:
        """Whether a reload has read this edit of a file, and it cannot be put in force."""
        if self._offered.get(edited.path) != edited:
            return False
        try:
            self.compiling.enforceable(edited, self.enforcement.state.names)
        except IpsecdError:
            return True
        return False


def _failures(loaded: Loaded, refused: Loaded | None = None) -> tuple[str, ...]:
    """Why what is assigned is not in force, in words."""
    errors = (one.assigned_error for one in (loaded, refused) if one)
    return tuple(dict.fromkeys(str(error) for error in errors if error))
