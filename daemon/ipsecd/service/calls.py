"""Owns answering a call: who may make it, what it needs first, and the log of who did what.

Must not know sockets, nor what the engine does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from ipsecd import __version__
from ipsecd.control import METHODS
from ipsecd.control.backups import MAX_BACKUP_BYTES
from ipsecd.control.method import Role, Work
from ipsecd.control.parameters import read_change
from ipsecd.engine.caller import DAEMON, NO_OPTIONS, Caller
from ipsecd.errors import BackendFailed, IpsecdError, Refused, StoreFailed
from ipsecd.host.resolver import Resolver
from ipsecd.log import record, record_bug
from ipsecd.model.addresses import Network
from ipsecd.progress import Phase, Progress, Tell, silent
from ipsecd.protocol.description import CONTROL, SERVICE, load_interface
from ipsecd.protocol.errors import (
    AccessDenied,
    VarlinkError,
    interface_not_found,
    method_not_found,
    to_wire,
)
from ipsecd.protocol.frames import encode_frame
from ipsecd.protocol.messages import Call, reply_of
from ipsecd.service.access import CHANGE_GROUP, ROLES, Peer, may_call, sees_secrets
from ipsecd.service.call_log import record_call
from ipsecd.service.callers import caller_of
from ipsecd.service.connections import Followed
from ipsecd.service.descriptors import (
    MAX_BUNDLE_BYTES,
    MAX_DOCUMENT_BYTES,
    MAX_LIST_BYTES,
    Descriptors,
)
from ipsecd.service.documents import Documents
from ipsecd.service.domain import Waiting
from ipsecd.service.engine_lines import EngineLines
from ipsecd.service.feeds import FeedFetches
from ipsecd.service.judging import Judging
from ipsecd.service.monitoring import AT_END, monitored
from ipsecd.service.names import NameLookups
from ipsecd.service.verification import Verification
from ipsecd.service.watching import Watching

_FOLLOWED = ("AwaitDomain", "AwaitFeeds", "AwaitNames", "AwaitStart", "Monitor")
"""The methods that may reply again and again."""


class Calls:
    """Answers calls of all connections."""

    def __init__(
        self,
        engine: EngineLines,
        resolver: Resolver | None = None,
        changed: Callable[[], None] = lambda: None,
        verification: Verification | None = None,
        lookups: NameLookups | None = None,
    ) -> None:
        """`changed` is called after every call that may have changed something.

        `lookups` has names looked up, unless there is a `resolver` that does it otherwise.
        """
        self._engine = engine
        self.lookups = lookups or NameLookups()
        self._resolver = resolver or Resolver(self.lookups.look_up)
        self._changed = changed
        self._verification = verification or Verification()
        self.waiting = Waiting(engine)
        self.feeds = FeedFetches()
        self.watching = Watching(lambda: engine.engine.seeing, engine.at_once)
        self._takes_bundle = False
        self._interfaces = {name: load_interface(name) for name in (CONTROL, SERVICE)}
        self._documents = Documents()
        self._reading: dict[int, asyncio.Lock] = {}
        self._judging = Judging(engine.engine)

    async def answer(
        self, peer: Peer, call: Call, descriptors: Descriptors, tell: Tell = silent
    ) -> bytes:
        """The frame to reply with: the result, or an error that says why there is none.

        `tell` is called with the progress, if the method tells it.
        """
        begun = time.monotonic()
        outcome, level, message = "done", logging.DEBUG, None
        if ROLES.get(call.method) in (Role.CHANGE, Role.FETCH):
            level = logging.INFO
        try:
            reply = await self._reply(peer, call, descriptors, tell)
            await self._judging.judge(reply)
            message = (reply.get("outcome") or {}).get("message")
            if call.parameters.get("dry_run"):
                outcome = "dry-run"
            frame = encode_frame(reply_of(reply))
        except (IpsecdError, VarlinkError) as error:
            outcome, level, message = _name(error), max(level, _level(error)), error.message
            frame = encode_frame(to_wire(error))
        except asyncio.CancelledError:
            # The daemon ends, but the engine finishes what it has begun, so it must be in the log.
            record_call(peer, call, begun, "interrupted", logging.WARNING)
            raise
        except Exception as error:  # noqa: BLE001 - a bug in one call must not end the daemon
            outcome, level, message = "Failed", logging.ERROR, repr(error)
            record_bug("bug", error, method=call.method, by=peer)
            frame = encode_frame(to_wire(_bug()))
        record_call(peer, call, begun, outcome, level, message)
        return frame

    async def carry_out(
        self,
        method: str,
        parameters: dict[str, Any],
        by: str,
        document: bytes | None = None,
        tell: Tell = silent,
        caller: Caller = DAEMON,
    ) -> dict[str, Any]:
        """Have the engine carry out `method`, after looking up all DNS names that it needs."""
        engine = self._engine.engine
        role, run = METHODS[method].role, self._line_of(method)
        if not METHODS[method].tells_progress:
            tell = silent
        names: dict[str, tuple[Network, ...]] = {}
        loads_lists = False
        tell(Progress(Phase.WAITING))
        if METHODS[method].takes_bundle:
            parameters, document = await self._verified(parameters, document)
        elif METHODS[method].takes_filters:
            read = engine.with_filters_read
            parameters = await asyncio.to_thread(read, parameters, document)
            document = None
            loads_lists = await asyncio.to_thread(engine.loads_lists, method, parameters)
        elif METHODS[method].filters:
            loads_lists = engine.loads_lists(method, parameters)
        elif method == "RefreshDomain":
            asked = await self.waiting.have_looked(parameters["wait_s"])
            parameters = {**parameters, "asked": asked}
        elif method == "AnswerNames":
            self.lookups.take(parameters["number"], parameters["answers"])
        elif method == "AnswerFeed":
            self.feeds.take(parameters, document or b"")
        elif METHODS[method].takes_feed:
            parameters = await self._with_feed(method, parameters)
        if METHODS[method].names:
            needed = await run(engine.names_needed, method, parameters, document, tell)
            if needed:
                tell(Progress(Phase.LOOKING_UP))
            names = await self._look_up(method, needed)
        if role.reads:
            reply: dict[str, Any] = await run(engine.call, method, parameters, by, names, document)
            if method == "Examine":
                # Trying backends takes some tenths of a second, and no call must wait for it.
                assessments = await asyncio.to_thread(engine.assessments)
                reply["examination"]["assessments"] = assessments
            return reply
        if not parameters.get("dry_run"):
            caller = await self._guarding(method, caller)
        try:
            call = partial(engine.call, method, parameters, by, names, document, tell, caller)
            if loads_lists:
                run = self._engine.change
                call = partial(engine.after_loading_lists, method, parameters, call)
            reply = await run(call)
            if method == "Start" and reply["outcome"]["changed"]:
                self.waiting.starts += 1
            return reply
        finally:
            self._changed()
            self.waiting.look()

    async def _guarding(self, method: str, caller: Caller) -> Caller:
        """The caller of a change with what it must not cut, which is found out outside of lines."""
        engine = self._engine.engine
        needed = engine.names_to_guard(method, caller)
        if needed is None:
            return caller
        names: dict[str, tuple[Network, ...]] = {}
        if needed:
            names, _ = await self._resolver.resolve_those_there_are(needed)
        guarded = await asyncio.to_thread(engine.guarded, method, caller, names)
        return replace(caller, guarded=guarded)

    def _line_of(self, method: str) -> Callable[..., Awaitable[Any]]:
        """What runs `method` in its line of work."""
        work = METHODS[method].work
        if work is Work.CHANGE:
            return self._engine.change
        if work is Work.LONG:
            return self._engine.read
        is_view = METHODS[method].role is Role.VIEW
        return self._engine.run_when_idle if is_view else self._engine.run

    async def _with_feed(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters with the feed that they are about, which is fetched now."""
        engine = self._engine.engine
        wanted = await self._engine.change(engine.wanted_feed, method, parameters)
        try:
            return {**parameters, "fetched": await self.feeds.fetch(wanted)}
        except IpsecdError as error:
            await self._engine.change(engine.feed_failed, parameters["name"], str(error))
            raise

    async def _verified(
        self, parameters: dict[str, Any], bundle: bytes | None
    ) -> tuple[dict[str, Any], bytes | None]:
        """The parameters with the verdict on a bundle, and the document that it is about."""
        question = await asyncio.to_thread(self._engine.engine.question_about, bundle or b"")
        answer = await self._verification.answer(await asyncio.to_thread(question.text))
        verdict = await asyncio.to_thread(question.verdict, answer)
        return {**parameters, "source": verdict.path, "verdict": verdict}, verdict.document

    async def _take(
        self, parameters: dict[str, Any], by: str, descriptors: Descriptors
    ) -> dict[str, Any]:
        """Take a bundle; what keeps it from being taken is known to those who ask.

        One at a time: a bundle may be large, and a fetcher that is not ours any more may have many.
        """
        if self._takes_bundle:
            raise Refused("another bundle is being taken", "hand it over again when it is")
        self._takes_bundle = True
        try:
            text = parameters["document"]
            bundle = await self._documents.document(text, descriptors.take(), MAX_BUNDLE_BYTES)
            return await self.carry_out("TakeDomain", parameters, by, bundle)
        except IpsecdError as error:
            tell = partial(self._engine.engine.tell_of_domain, problem=str(error))
            await self._engine.run(tell, parameters["refresh"], "")
            self.waiting.look()
            raise
        finally:
            self._takes_bundle = False

    def follow(self, peer: Peer, call: Call) -> Followed | None:
        """The replies to a call that wants more than one, as ``Follow`` says."""
        if call.name not in _FOLLOWED or not call.more or not may_call(peer, call.method):
            return None
        try:
            given = self._interfaces[CONTROL].check_call(call.name, call.parameters)
        except VarlinkError:
            return None
        if call.name == "AwaitFeeds":
            nothing = {"number": 0, "url": "", "etag": "", "modified": ""}
            return Followed(nothing, self.feeds.questions())
        if call.name == "AwaitNames":
            return Followed({"number": 0, "names": []}, self.lookups.questions())
        if call.name == "AwaitStart":
            return Followed({}, self.waiting.started())
        if call.name == "Monitor":
            packets = monitored(self.watching, given, peer.uid)
            return Followed({"blocked": 0, "lost": 0}, packets, AT_END)
        return Followed(given, self.waiting.asked(given["refresh"]))

    async def _look_up(self, method: str, needed: frozenset[str]) -> dict[str, tuple[Network, ...]]:
        if not METHODS[method].keeps_names:
            return await self._resolver.resolve(needed)
        names, failures = await self._resolver.resolve_those_there_are(needed)
        for failure in failures:
            record(logging.WARNING, "name-keeps-addresses", reason=failure.message)
        return names

    def shut_down(self) -> None:
        """Read no more documents."""
        self._documents.shut_down()

    async def _reply(
        self, peer: Peer, call: Call, descriptors: Descriptors, tell: Tell
    ) -> dict[str, Any]:
        if call.upgrade:
            raise Refused(
                "a connection cannot be upgraded to another protocol", "leave out upgrade"
            )
        interface = self._interfaces.get(call.interface)
        if interface is None:
            raise interface_not_found(call.interface)
        if call.name not in interface.methods:
            raise method_not_found(call.method)
        if not may_call(peer, call.method):
            raise _denied(peer, call)
        parameters = interface.check_call(call.name, call.parameters)
        if parameters.get("rest"):
            rest = self._documents.with_rest(call.parameters, descriptors.take())
            parameters = interface.check_call(call.name, await rest)
        if call.interface == SERVICE:
            return self._about_itself(call.name, parameters)
        method = METHODS[call.name]
        options = read_change(parameters.pop("change")) if method.takes_change else NO_OPTIONS
        if options.confirm_s is not None and method.part is None:
            raise Refused(
                f"what {call.name} changes cannot be put back, so there is nothing to confirm",
                "leave out --confirm, or unset IPSECD_CONFIRM",
            )
        caller = await caller_of(peer, options) if not method.role.reads else DAEMON
        if method.takes_bundle:
            return await self._take(parameters, str(peer), descriptors)
        document = None
        if method.takes_document:
            limit = MAX_LIST_BYTES if method.takes_list else MAX_DOCUMENT_BYTES
            limit = MAX_BACKUP_BYTES if method.takes_backup else limit
            document = await self._documents.document(
                parameters["document"], descriptors.take(), limit
            )
        elif method.takes_filters and parameters["filters"] is None:
            document = await self._documents.document(None, descriptors.take(), MAX_DOCUMENT_BYTES)
        if not method.role.reads:
            return await self.carry_out(call.name, parameters, str(peer), document, tell, caller)
        # The reads of one user run one after the other, so that users take turns.
        async with self._reading.setdefault(peer.uid, asyncio.Lock()):
            reply = await self.carry_out(call.name, parameters, str(peer), document)
        if method.without_secrets and not sees_secrets(peer):
            return method.without_secrets(reply)
        return reply

    def _about_itself(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if method == "GetInfo":
            return {
                "vendor": "ipsecd",
                "product": "ipsecd",
                "version": __version__,
                "url": "",
                "interfaces": sorted(self._interfaces),
            }
        name = parameters["interface"]
        if name not in self._interfaces:
            raise interface_not_found(name)
        return {"description": self._interfaces[name].description}


def _denied(peer: Peer, call: Call) -> AccessDenied:
    if peer.is_fetcher or ROLES[call.method] is Role.FETCH:
        return AccessDenied(
            f"{peer} may not call {call.name}",
            "run it as root: the fetcher does nothing else, and nobody else does it",
        )
    return AccessDenied(
        f"{peer} may read, and may not call {call.name}",
        f"run it as root, or join the group {CHANGE_GROUP!r} and log in again",
    )


def _name(error: IpsecdError | VarlinkError) -> str:
    return error.name if isinstance(error, VarlinkError) else error.wire


def _level(error: IpsecdError | VarlinkError) -> int:
    if isinstance(error, AccessDenied):
        return logging.WARNING
    if isinstance(error, BackendFailed | StoreFailed):
        return logging.ERROR
    return logging.DEBUG


def _bug() -> IpsecdError:
    return IpsecdError(
        "the daemon met a bug in itself; nothing has changed",
        "its log has the details: journalctl -u ipsecd",
    )
