"""Owns changes to the static store, and what they put in force; must not know the kernel.

1. A change is compiled, checked and prepared first, then made durable, then enforced. Whatever
   fails on the way, the old state stays in force and on disk.
2. A policy of an earlier source stays in force whatever changes in the static store.
3. Changes run one after the other, in a thread of their own. Dynamic rules and containers may
   change meanwhile, so the next state is made from the state in force at the switch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from ipsecd.compiler.volatile import NO_CHANGE
from ipsecd.engine.attempt import Attempt
from ipsecd.engine.compiling import Compiling, Names
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.expectations import (
    expectations_must_be_met,
    judged,
    judged_documents,
)
from ipsecd.engine.kept_lists import KeptLists, with_unchanged_lists
from ipsecd.engine.lists import ListChanges
from ipsecd.engine.names import StateChange, found, with_answers
from ipsecd.engine.restoring import RestoredLists, make_durable
from ipsecd.engine.rules_beside import RulesBeside
from ipsecd.engine.sources import (
    Choice,
    Situation,
    Source,
    SourceName,
    Static,
    choose,
    strictly,
    why_not_in_force,
)
from ipsecd.engine.state import State
from ipsecd.engine.switching import NO_LISTS, Switching
from ipsecd.errors import IpsecdError, Refused, StoreFailed
from ipsecd.model.values import Policy
from ipsecd.progress import Phase, Progress, Tell, silent
from ipsecd.sources.domain import Taken
from ipsecd.sources.kept import KeptFiles
from ipsecd.sources.lists import NOTHING, ListChange
from ipsecd.sources.planning import Written
from ipsecd.sources.reading import Loaded
from ipsecd.sources.remembered import digest_of
from ipsecd.sources.restoring import restored
from ipsecd.sources.static import KEEP, Change, Keep, Kept, Read, StaticStore
from ipsecd.sources.unconfirmed import PoliciesBefore

NO_NAMES: Names = MappingProxyType({})


@dataclass(slots=True)
class Policies:
    """The policies that people keep on this host."""

    store: StaticStore
    kept_files: KeptFiles
    compiling: Compiling
    enforcement: Enforcement
    earlier_sources: Sequence[Source]
    """The sources that come before the static store."""
    kept_lists: KeptLists
    switching: Switching
    _refused: Loaded | None = None
    """What the files held at the last reload, if that was refused."""

    @property
    def read(self) -> Read:
        """What is known of the files besides what was loaded from them."""
        return Read(self._refused, self.enforcement.state.stand_in)

    def change(
        self,
        *,
        put: Sequence[Policy] = (),
        delete: Sequence[str] = (),
        assign: str | Keep | None = KEEP,
        names: Names = NO_NAMES,
        written: Sequence[Written] = (),
        shared: str | None = None,
        beside: RulesBeside | None = None,
        lists: RestoredLists | None = None,
        tell: Tell = silent,
    ) -> Kept:
        """Store, delete and assign policies as one change, durable and enforced at the end.

        What is `written` replaces files that cannot be used, too; copies of these are kept, as what
        is returned says. The document of `shared` filters is stored as it is, if it is given. The
        dynamic rules `beside` and the `lists` change in the same moment. `tell` hears the progress.
        """
        now = self._readable_state()
        tell(Progress(Phase.COMPILING))
        change = self.store.change(
            now.loaded,
            put=put,
            written=written,
            delete=delete,
            assign=assign,
            read=self.read,
            shared=shared,
        )
        refused = now.refused.mended(change.written) if now.refused else None
        if refused and not (isinstance(assign, Keep) and refused.assigned_error):
            refused = None
        self._make(change, names, tell, refused, lists, beside)
        return change.kept

    def restore(
        self, earlier: PoliciesBefore, names: Names, tell: Tell, lists: RestoredLists | None = None
    ) -> None:
        """Have the files hold again what they held `earlier`, durable and enforced at the end.

        So do `lists`. A name without addresses could not be looked up, as for ``reload``.
        """
        now = self._readable_state()
        tell(Progress(Phase.COMPILING))
        change = restored(self.store, self.kept_files.reader, now.loaded, earlier)
        self._make(change, found(names), tell, lists=lists)

    def _readable_state(self) -> State:
        now = self.enforcement.state
        if isinstance(now.loaded.assigned_error, StoreFailed):
            raise Refused(
                f"the stored policies could not be read: {now.loaded.assigned_error.message}",
                "when they can be, run: ipsecctl reload",
            )
        return now

    def _make(
        self,
        change: Change,
        names: Names,
        tell: Tell,
        refused: Loaded | None = None,
        lists: RestoredLists | None = None,
        beside: RulesBeside | None = None,
    ) -> None:
        """Make a prepared change, and that of lists and of dynamic rules with it."""
        now, content = self.enforcement.state, change.after
        self.kept_lists.note(lists.change if lists else NOTHING)
        known_names = {**now.names, **names}
        looked_up = {**now.looked_up, **dict.fromkeys(names, time.time())}
        other_lists = lists.change.changes if lists else NO_LISTS
        if not content.assigned_error:
            expectations_must_be_met(content, judged_documents(now))
        choice = self.choose_or_keep(content, known_names, tell)

        def next_state(state: State) -> State:
            return replace(
                state,
                names=known_names,
                looked_up=looked_up,
                unresolved=state.unresolved - names.keys(),
                loaded=content,
                refused=refused,
                failures=why_not_in_force(choice, content, refused),
            )

        def next_change(state: State) -> StateChange:
            new = next_state(state)
            return beside.change(new) if beside else (new, NO_CHANGE, ())

        if beside:
            # Before anything is written; and again at the switch.
            beside.change(now)
        if choice:
            self.kept_files.check(choice.compiled, known_names)
        with Attempt() as attempt:
            make_state = None
            if choice:
                make_state = self.switching.prepare(attempt, choice, next_change, tell, other_lists)
            elif beside:
                make_state = partial(self._now, next_change)
            tell(Progress(Phase.WRITING))
            if beside and change.forward:
                run, file = self.enforcement.run, self.kept_files.dynamic
                attempt.step(
                    lambda: run(lambda: beside.begin(change.forward)),
                    lambda _: run(file.give_up),
                )
            make_durable(attempt, now.loaded, change, lists)
            if make_state:
                tell(Progress(Phase.SWITCHING))
                self.switching.switch(attempt, make_state, known_names, beside)
            else:
                self.switching.note(next_state)
            if other_lists and not choice:
                self.kept_lists.put_in_force(other_lists)
        tell(Progress(Phase.KEEPING))
        self.keep_last_good()

    def put_back(
        self, content: Loaded, lists: ListChanges, beside: RulesBeside | None = None
    ) -> None:
        """Enforce as if the store held `content`, with `lists`; no policy file is read or written.

        The dynamic rules `beside` change in the same moment. Raises ``IpsecdError``; then what was
        in force stays so.
        """
        now = self.enforcement.state
        choice = self.choose_or_keep(content, now.names, silent)

        def next_state(state: State) -> State:
            return replace(
                state, loaded=content, refused=None, failures=why_not_in_force(choice, content)
            )

        def next_change(state: State) -> StateChange:
            new = next_state(state)
            return beside.change(new) if beside else (new, NO_CHANGE, ())

        with Attempt() as attempt:
            if choice:
                make_state = self.switching.prepare(attempt, choice, next_change, silent, lists)
                self.switching.switch(attempt, make_state, now.names, beside)
            else:
                if lists:
                    self.kept_lists.put_in_force(lists)
                self.switching.note(next_state)
        self.keep_last_good()

    def reload(self, names: Names, tell: Tell = silent) -> tuple[bool, tuple[str, ...]]:
        """Read the files of lists and policies again and enforce what they say now, by `names`.

        Lists and policies change together. Dynamic rules take the addresses in `names` too. A
        name without addresses could not be looked up: it keeps those that it had. Returns whether
        anything changed, and what is wrong with files that are not assigned. Raises what is wrong
        with the assigned one, or why lists and policy cannot be in force; then everything stays as
        it was.
        """
        lists = self.kept_lists.store.reloaded()
        self.kept_lists.note(lists)
        try:
            return self._reload(names, tell, lists)
        except IpsecdError as error:
            if not lists.changes:
                raise
            raise with_unchanged_lists(error, lists.changes) from error

    def _reload(self, names: Names, tell: Tell, lists: ListChange) -> tuple[bool, tuple[str, ...]]:
        now = self.enforcement.state
        files = self._refused = self.read_files()
        loaded = judged(files, judged_documents(now))
        answered = found(names)
        known_names = {**now.names, **answered}
        tell(Progress(Phase.COMPILING))
        try:
            choice = self.choose(loaded, known_names, tell)
        except IpsecdError as error:
            if error is loaded.assigned_error:
                failures = why_not_in_force(None, loaded)
                self.switching.note(lambda state: replace(state, refused=loaded, failures=failures))
            raise
        is_changed = (
            choice.compiled.key != now.compiled.key
            or loaded.policies != now.loaded.policies
            or loaded.shared != now.loaded.shared
        )
        self.kept_files.check(choice.compiled, known_names)
        looked_up = time.time()

        def next_state(state: State) -> State:
            return replace(
                with_answers(state, names, known_names, looked_up),
                loaded=loaded,
                refused=None,
                failures=why_not_in_force(choice, loaded),
            )

        with Attempt() as attempt:
            make_state = self.switching.prepare(
                attempt,
                choice,
                lambda now: self.switching.with_addresses(next_state(now), answered, looked_up),
                tell,
                lists.changes,
            )
            attempt.step(lists.commit, lambda _: lists.undo())
            tell(Progress(Phase.SWITCHING))
            is_changed = self.switching.switch(attempt, make_state, known_names) or is_changed
        lists.finish()
        is_changed = is_changed or bool(lists.changes)
        self._refused = None
        tell(Progress(Phase.KEEPING))
        self.keep_last_good()
        self.enforcement.run(self.kept_files.dynamic.mend)
        broken = (str(file.error) for file in loaded.broken)
        return is_changed, (*broken, *self.kept_lists.warnings)

    def refresh_names(self, names: Names) -> bool:
        """Enforce what is in force by the addresses in `names`; whether anything changed.

        No file of policies is read: what was edited and not reloaded stays without effect. A name
        without addresses keeps those that it had, as for ``reload``.
        """
        now = self.enforcement.state
        if not now.enforcing:
            return False
        answered = found(names)
        known_names = {**now.names, **answered}
        choice = None
        if now.source is not SourceName.LAST_GOOD:
            choice = self.choose(now.loaded, known_names, silent)
            self.kept_files.check(choice.compiled, known_names)
        looked_up = time.time()

        def next_state(state: State) -> StateChange:
            answers = with_answers(state, names, known_names, looked_up)
            return self.switching.with_addresses(answers, answered, looked_up)

        with Attempt() as attempt:
            make_state: Callable[[], StateChange] = partial(self._now, next_state)
            if choice and choice.compiled.key != now.compiled.key:
                make_state = self.switching.prepare(attempt, choice, next_state, silent)
            is_changed = self.switching.switch(attempt, make_state, known_names)
        self.keep_last_good()
        return is_changed or bool(choice and choice.compiled.key != now.compiled.key)

    def _now(self, next_state: Callable[[State], StateChange]) -> StateChange:
        return next_state(self.enforcement.state)

    def read_files(self) -> Loaded:
        """What the policy files say now, without enforcing it."""
        return self.store.load()

    def keep_last_good(self) -> None:
        """Save what is in force for the next start. Without it, boot compiles the policy again."""
        state = self.enforcement.state
        digests = {stored.digest for stored in state.loaded.policies.values()}
        if state.domain and state.domain.stored:
            digests.add(state.domain.stored.digest)
        if state.source is not SourceName.STATIC and state.compiled.document is not None:
            digests.add(digest_of(state.compiled.document))
        self.kept_files.save_policies(digests)
        if state.source is not SourceName.LAST_GOOD and not state.held:
            self.kept_files.save_last_good(state.compiled, state.names)

    def choose(
        self, loaded: Loaded, names: Names, tell: Tell, taken: Taken | None = None
    ) -> Choice:
        """Choose the policy if the static store holds `loaded`; raises ``IpsecdError``.

        `taken` is what is taken from the domain, in the place of what was before.
        """
        compiled = self.enforcement.state.compiled
        compile_stored = partial(self.compiling.compile, names=names, previous=compiled, tell=tell)
        situation = Situation(loaded, domain=taken or self.enforcement.state.domain)
        choice = choose((*self.earlier_sources, Static()), situation, compile_stored, strictly)
        assert choice is not None, "a strict choice ends with the first failure"
        return choice

    def choose_or_keep(self, loaded: Loaded, names: Names, tell: Tell) -> Choice | None:
        """Choose likewise; None if the assigned policy cannot be loaded: then nothing changes."""
        try:
            return self.choose(loaded, names, tell)
        except IpsecdError as error:
            if error is not loaded.assigned_error:
                raise
            return None
