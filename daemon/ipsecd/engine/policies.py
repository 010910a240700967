"""Owns changes to the static store, and what they put in force; must not know the kernel.

1. A change is compiled and checked first, then made durable, then enforced. Whatever fails on the
   way, the old state is in force and on disk.
2. A source that comes before the static store stays in force whatever changes there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ipsecd.compiler.volatile import NO_CHANGE, Delta
from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import Compiling, Names, with_containers
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.names import renewed
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
from ipsecd.errors import IpsecdError, NotFound, Refused, StoreFailed
from ipsecd.kept import Kept
from ipsecd.model.values import Policy
from ipsecd.quoting import quote
from ipsecd.stores.reading import Loaded, StoredPolicy
from ipsecd.stores.remembered import digest_of
from ipsecd.stores.static import Keep, StaticStore


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
        new = replace(
            now,
            names=known,
            looked_up=looked_up,
            unresolved=now.unresolved - names.keys(),
            loaded=after,
            refused=refused,
            failures=_failures(after, refused),
        )
        choice = self._chosen_despite(after, known)
        if choice:
            self.kept.check(choice.good, known)
        with Attempt() as attempt:
            attempt.step(change.commit, lambda _: change.undo())
            if choice:
                self._enforce(attempt, new, choice)
            else:
                self.enforcement.note(new)
        self.keep_last_good()
        return change.kept

    def reload(self, names: Names) -> tuple[bool, tuple[str, ...]]:
        """Read the policy files again and enforce what they say now, by `names`.

        Dynamic rules are enforced by these too. A name with none could not be looked up: it keeps
        those that it had. Returns whether anything changed, and what is wrong with files that are
        not assigned. Raises what is wrong with the assigned one; then all stays as it was.
        """
        now = self.enforcement.state
        loaded = self.read_files()
        answered = {name: found for name, found in names.items() if found}
        known = {**now.names, **answered}
        try:
            choice = self._chosen(loaded, known)
        except IpsecdError as error:
            if error is loaded.assigned_error:
                self.enforcement.note(replace(now, refused=loaded, failures=_failures(loaded)))
            raise
        changed = choice.good.key != now.good.key or loaded.policies != now.loaded.policies
        self.kept.check(choice.good, known)
        at = time.time()
        new = replace(
            now,
            names=known,
            looked_up={**now.looked_up, **dict.fromkeys(answered, at)},
            unresolved=(now.unresolved | names.keys()) - answered.keys(),
            loaded=loaded,
            refused=None,
            failures=_failures(loaded),
        )
        new, delta, rules = renewed(new, answered, at)
        with Attempt() as attempt:
            self._enforce(attempt, new, choice, delta)
        self._offered = {}
        self.keep_last_good()
        for rule in rules:
            self.kept.dynamic.added(rule)
        for quarantine in new.quarantines.values():
            if quarantine != now.quarantines.get(quarantine.name):
                self.kept.dynamic.imposed(quarantine)
        self.kept.dynamic.mend()
        changed = changed or bool(delta)
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

    def stored(self, name: str) -> Policy:
        """The stored policy called `name`; raises ``NotFound``."""
        policies = self.enforcement.state.loaded.policies
        if name not in policies:
            raise NotFound(
                f"there is no policy {quote(name)}",
                "ipsecctl policy list shows those there are; names are case-sensitive",
            )
        return policies[name].policy

    def _enforce(
        self, attempt: Attempt, new: State, choice: Choice, delta: Delta = NO_CHANGE
    ) -> None:
        """Keep the names of `new` and put the choice in force, as the last steps of an attempt."""
        before = self.enforcement.state.names
        attempt.step(
            partial(self.kept.save_names, new.names, before),
            lambda _: self.kept.save_names(before, new.names),
        )
        whole = with_containers(choice.good, new.inventory)
        new = new.with_policy(choice.source, choice.good, whole)
        self.enforcement.become(new, delta, settle=True)

    def _chosen(self, loaded: Loaded, names: Names) -> Choice:
        """What is to be in force if the static store holds `loaded`; raises why it cannot be."""
        good = self.enforcement.state.good
        compiled = partial(self.compiling.enforceable, names=names, kept=good)
        choice = choose((*self.before, Static()), Given(loaded), compiled, strictly)
        assert choice is not None, "a strict choice ends with the first failure"
        return choice

    def _chosen_despite(self, loaded: Loaded, names: Names) -> Choice | None:
        """The same; None where the assigned policy cannot be loaded, so that what is stays."""
        try:
            return self._chosen(loaded, names)
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
