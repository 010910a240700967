"""Owns the table of the methods of ``io.ipsecd.control``, and carries out calls.

Each method is a record, in the module that has its handler. This module names those modules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ipsecd.backend.registry import assess
from ipsecd.control import (
    audited,
    backups,
    confirmation,
    containers,
    domain,
    dynamic,
    enforcement,
    explain,
    feeds,
    guarding,
    history,
    kept_rules,
    lists,
    live,
    monitor,
    names,
    policies,
    policy_files,
    quarantine,
    recorded,
    rules,
    stats,
    status,
    together,
    what_if,
)
from ipsecd.control.audited import AuditedFlows
from ipsecd.control.changes import carry_out
from ipsecd.control.deeds import put_back_deed
from ipsecd.control.method import Method, Names, Parameters, Request, Work
from ipsecd.control.parameters import read_all_filters
from ipsecd.control.verdict import Question
from ipsecd.engine import Engine
from ipsecd.engine.caller import DAEMON, Caller
from ipsecd.engine.guard import Guarded
from ipsecd.engine.lookups import Lookups
from ipsecd.engine.recorder.recorder import Recorder
from ipsecd.engine.recorder.snapshots import Surroundings
from ipsecd.host.interfaces import read_host
from ipsecd.language.documents import parse_policy
from ipsecd.model.values import Action, Policy
from ipsecd.progress import Phase, Progress, Tell, silent

METHODS: dict[str, Method] = {
    method.name: method
    for module in (
        status,
        stats,
        explain,
        policies,
        policy_files,
        names,
        lists,
        feeds,
        rules,
        dynamic,
        kept_rules,
        quarantine,
        containers,
        domain,
        enforcement,
        confirmation,
        history,
        backups,
        together,
        what_if,
        live,
        audited,
        monitor,
        recorded,
    )
    for method in module.METHODS
}
"""Every method, by its name without the interface."""


class Control:
    """Answers calls with an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.audited = AuditedFlows()
        self._last_read: tuple[bytes, str, Policy] | None = None
        self.start = engine.begin
        self.load_programs = engine.load_programs
        self.stop_on_purpose = engine.stop_on_purpose
        self.end_for_restart = engine.end_for_restart
        self.close = engine.close
        self.next_expiry = engine.next_expiry
        self.expire = engine.expire
        self.next_feed = engine.kept_lists.feeds.next
        self.feed_failed = engine.kept_lists.feeds.failed
        self.next_list_end = engine.kept_lists.store.next_end
        self.expire_lists = engine.kept_lists.expire
        self.unconfirmed_due_in = engine.confirmation.due_in
        self.history_due_in, self.write_history = engine.history.due_in, engine.history.flush
        self.keep_counts = engine.counting.keep
        self.watch_fd = engine.watch_fd
        self.watch = engine.watch
        self.ping = engine.ping
        self.follow_senders = engine.follow_senders
        self.keep_last_good = engine.keep_last_good
        self.use_line = engine.use_line
        self.set_container_engine = engine.set_container_engine
        self.tell_of_domain = engine.tell_of_domain
        self.container_engines = engine.config.container_engines
        self.judge_live = live.judge
        self.seeing = engine.seeing

    @property
    def recorder(self) -> Recorder | None:
        """The flight recorder; None if the settings want none. For any thread."""
        recorder = self._engine.recorder
        return recorder if recorder.is_on else None

    @property
    def has_audits(self) -> bool:
        """Whether any rule in force is an audit; for any thread."""
        state = self._engine.state
        actions = {table.id.action for table in state.classifier.tables}
        actions |= {table.id.action for table in state.volatile.tables}
        return not state.stopped and Action.AUDIT in actions

    def record(self, around: Surroundings) -> None:
        """Have the flight recorder note every change from now on, on a host that is like this."""
        engine = self._engine
        counts = partial(recorded.counted, engine)
        engine.recorder.drops.to_json = monitor.seen_packet
        engine.recorder.start(engine.state, around, lambda: engine.backend.name, counts)

    def put_back_if_due(self) -> None:
        """Put back a change that nobody has confirmed in time, and tell who made it."""
        before = self._engine.moment
        last = self._engine.confirmation.put_back_if_due()
        if last:
            deed = put_back_deed(last.sentence)
            self._engine.history.note(before, self._engine.moment, lambda: deed, counts=True)
            confirmation.tell_of(last)

    @property
    def counts_are_behind(self) -> bool:
        """Whether ``keep_counts`` should be called soon; for any thread."""
        return self._engine.counting.is_behind

    @property
    def lookups(self) -> Lookups:
        """How far the looking at the domain is; for any thread."""
        return self._engine.lookups

    def ask_domain(self) -> int:
        """Ask for a look at the domain; its number. Raises ``NotFound`` where there is none."""
        domain.settings_of(self._engine)
        return self._engine.ask_domain()

    def question_about(self, bundle: bytes) -> Question:
        """What has to be asked about a bundle before it is taken; for any thread.

        Raises ``NotFound`` where no domain is configured.
        """
        return domain.question_about(self._engine, bundle)

    def wanted_feed(self, method: str, parameters: Parameters) -> feeds.Wanted:
        """The feed that has to be fetched before `method` can be carried out."""
        return feeds.wanted(self._engine, method, parameters)

    def names_to_guard(self, method: str, caller: Caller) -> frozenset[str] | None:
        """The DNS names that have to be looked up to know what a change must spare.

        None if it need not spare anything.
        """
        return guarding.names_to_guard(self._engine, METHODS[method], caller)

    def guarded(self, method: str, caller: Caller, names: Names) -> Guarded | None:
        """What a change must not cut; None if it may cut anything. For any thread."""
        return guarding.guarded(self._engine, METHODS[method], caller, names)

    def wants_containers(self) -> bool:
        """Whether container engines have to be followed."""
        return self._engine.selects_containers

    def call(
        self,
        method: str,
        parameters: Parameters,
        by: str,
        names: Names,
        document: bytes | None,
        tell: Tell = silent,
        caller: Caller = DAEMON,
    ) -> dict[str, Any]:
        """Carry out one call and return the parameters of its reply; raises ``IpsecdError``."""
        tell(Progress(Phase.READING))
        if METHODS[method].takes_bytes:
            request = Request(parameters, by, names, tell=tell, text=document or b"", caller=caller)
        else:
            policy = self._policy(document, parameters)
            text = document or b""
            request = Request(parameters, by, names, policy, tell, text, caller, self.audited)
        engine = self._engine.snapshot() if METHODS[method].work is Work.LONG else self._engine
        return carry_out(METHODS[method], engine, request)

    def assessments(self) -> list[dict[str, Any]]:
        """Try out each backend: what speaks for it and against it. Takes long; for any thread."""
        return [
            {
                "name": assessment.name,
                "usable": assessment.usable,
                "reasons_for": list(assessment.reasons_for),
                "reasons_against": list(assessment.reasons_against),
                "untried": assessment.untried,
            }
            for assessment in assess(self._engine.bpffs, read_host().interfaces)
        ]

    def with_filters_read(self, parameters: Parameters, document: bytes | None) -> Parameters:
        """The parameters of a call with its filters read; raises ``InvalidInput``. For any thread.

        They come as texts, or as the lines of `document`.
        """
        source = _source(parameters)
        filters = read_all_filters(parameters["filters"], document, source)
        return {**parameters, "filters": filters}

    def loads_lists(self, method: str, parameters: Parameters) -> bool:
        """Whether long lists have to be loaded for a call, whose filters are read; for any thread.

        Then the call is for ``after_loading_lists``.
        """
        filters = METHODS[method].filters
        return filters is not None and bool(self._engine.list_changes.missing(filters(parameters)))

    def after_loading_lists(
        self, method: str, parameters: Parameters, call: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Carry out a `call` of `method` in the kernel's line, after long lists were loaded."""
        filters = METHODS[method].filters
        assert filters is not None
        return self._engine.list_changes.load_and(filters(parameters), call)

    def names_needed(
        self,
        method: str,
        parameters: Parameters,
        document: bytes | None,
        tell: Tell = silent,
    ) -> frozenset[str]:
        """The DNS names that have to be looked up before `method` can be carried out."""
        needed = METHODS[method].names
        if needed is None:
            return frozenset()
        tell(Progress(Phase.READING))
        if METHODS[method].takes_bytes:
            return needed(self._engine, Request(parameters, text=document or b""))
        policy = self._policy(document, parameters)
        if document is not None and policy:
            self._last_read = (document, _source(parameters), policy)
        return needed(self._engine, Request(parameters, policy=policy))

    def _policy(self, document: bytes | None, parameters: Parameters) -> Policy | None:
        """The policy in the document of a call.

        ``names_needed`` and ``call`` are given the same document, which is read only once.
        """
        last_read, self._last_read = self._last_read, None
        if document is None:
            return None
        source = _source(parameters)
        if last_read and last_read[0] is document and last_read[1] == source:
            return last_read[2]
        return parse_policy(document, source)


def _source(parameters: Parameters) -> str:
    return parameters.get("source") or "<document>"
