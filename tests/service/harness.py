"""Owns the stand-ins for tests of the service: an engine that remembers, and a plain client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ipsecd.backend.base import Line
from ipsecd.backend.memory import MemoryReporting
from ipsecd.backend.reporting import Report
from ipsecd.config import Limits
from ipsecd.control.audited import AuditedFlows
from ipsecd.control.feeds import Wanted
from ipsecd.control.verdict import Question
from ipsecd.engine.caller import DAEMON, Caller
from ipsecd.engine.guard import Guarded
from ipsecd.engine.lookups import Lookups
from ipsecd.engine.recorder.recorder import Recorder
from ipsecd.engine.recorder.snapshots import Surroundings
from ipsecd.errors import NotFound
from ipsecd.host.resolver import Resolver
from ipsecd.model.addresses import Family, Network
from ipsecd.model.inventory import Inventory
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.sightings import LINK_RAW, Sighting
from ipsecd.model.values import Action, Origin
from ipsecd.progress import Tell, silent
from ipsecd.protocol.connecting import send_frame
from ipsecd.protocol.description import CONTROL, load_interface
from ipsecd.service.admission import Service
from ipsecd.service.calls import Calls
from ipsecd.service.engine_lines import EngineLines
from ipsecd.service.listener import open_listener
from ipsecd.service.names import NameLookups
from ipsecd.service.verification import Verification
from ipsecd.sources.domain import Selection, Taken

VIEW_GID = 4242
PATIENCE_S = 60.0
"""How long to wait for what must happen; an idle machine needs almost none of it."""
NOBODY = 65534

OUTCOME = {
    "outcome": {
        "changed": True,
        "message": "done",
        "changes": [],
        "assigned": None,
        "warnings": [],
        "verdicts": None,
        "live": None,
    }
}


NOTHING_TO_GUARD = Guarded((), Host())


def report(number: int = 0) -> Report:
    return Report(number, Action.BLOCK, Point.ARRIVING, 1, 28, b"", number.to_bytes(28, "big"))


class MemorySeeing:
    """What is dropped in memory, each packet numbered by its time."""

    def __init__(self) -> None:
        self.lost = 0
        self.reporting = MemoryReporting()
        self.budgets: list[int] = []
        self.failure: Exception | None = None
        self.origin: Origin | None = None

    def look(self, budget: int) -> tuple[MemoryReporting, int]:
        if self.failure:
            raise self.failure
        if not self.budgets or self.budgets[-1] != budget:
            self.budgets.append(budget)
            self.reporting.set_budget(budget)
        return self.reporting, self.reporting.blocked()

    def sightings(self, reports: Sequence[Report]) -> list[Sighting]:
        packet = Packet(Point.ARRIVING, Family.IPV4, 1, 2, 17, 3, 4)
        return [
            Sighting(
                *(each.at_ns, each.action, self.origin, None, "", None, each.point, "eth0", packet),
                *("", each.length, each.packet, LINK_RAW),
            )
            for each in reports
        ]

    def drop(self, count: int, first: int = 0) -> None:
        self.reporting.drop(report(number) for number in range(first, first + count))


class FakeEngine:
    """An engine that keeps dynamic rules in a dict and checks its replies against the contract.

    ``hooks`` replaces single methods; ``calls`` holds every call; ``threads`` holds the threads in
    which calls ran; ``tell`` is the function that a running call tells how far it is.
    """

    def __init__(self) -> None:
        self.container_engines: tuple[Path, ...] = ()
        self.rules: dict[str, dict[str, Any]] = {}
        self.hooks: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self.calls: list[tuple[str, dict[str, Any], str]] = []
        self.callers: list[Caller] = []
        self.documents: list[bytes | None] = []
        self.names: list[Mapping[str, tuple[Network, ...]]] = []
        self.needed: frozenset[str] = frozenset()
        self.to_guard: frozenset[str] | None = None
        self.guarded_names: list[Mapping[str, tuple[Network, ...]]] = []
        self.threads: set[str] = set()
        self.story: list[str] = []
        self.judged: list[dict[str, Any]] = []
        self.tell: Tell = silent
        self.expires_at: float | None = None
        self.list_ends_at: float | None = None
        self.history_due_s: float | None = None
        self.feed_due: tuple[float, str] | None = None
        self.lookups = Lookups()
        self.taken = Taken()
        self.seeing = MemorySeeing()
        self.news, self._newsman = os.pipe()
        os.set_blocking(self.news, False)
        self._interface = load_interface(CONTROL)

    def use_line(self, line: Line) -> None:
        self.line = line

    def start(self) -> None:
        self.story.append("start")

    def unconfirmed_due_in(self) -> float | None:
        return None

    def put_back_if_due(self) -> None:
        self.story.append("put back")

    def load_programs(self) -> None:
        pass

    recorder: Recorder | None = None
    audited = AuditedFlows()
    has_audits = False

    def record(self, _: Surroundings) -> None:
        self.story.append("record")

    def history_due_in(self) -> float | None:
        return self.history_due_s

    counts_are_behind = False

    def keep_counts(self) -> None:
        pass

    def write_history(self) -> None:
        self.story.append("write history")
        self.history_due_s = None

    def stop_on_purpose(self) -> None:
        self.story.append("stop")

    def end_for_restart(self) -> None:
        self.story.append("restart")

    def close(self) -> None:
        self.story.append("close")
        os.close(self.news)
        os.close(self._newsman)

    def check(self) -> tuple[str, ...]:
        return ()

    def tell_news(self) -> None:
        os.write(self._newsman, b"!")

    def call(
        self,
        method: str,
        parameters: dict[str, Any],
        by: str,
        names: Mapping[str, tuple[Network, ...]],
        document: bytes | None,
        tell: Tell = silent,
        caller: Caller = DAEMON,
    ) -> dict[str, Any]:
        self.tell = tell
        self.callers.append(caller)
        self.threads.add(threading.current_thread().name)
        self.calls.append((method, parameters, by))
        self.documents.append(document)
        self.names.append(names)
        if method in self.hooks:
            return self.hooks[method](parameters)
        answer = getattr(self, f"_{method}", None)
        reply: dict[str, Any] = answer(parameters, by) if answer else OUTCOME
        return self._interface.check_reply(method, reply)

    def names_to_guard(self, method: str, caller: Caller) -> frozenset[str] | None:
        del method, caller
        return self.to_guard

    def guarded(
        self, method: str, caller: Caller, names: Mapping[str, tuple[Network, ...]]
    ) -> Guarded | None:
        del method, caller
        self.guarded_names.append(names)
        self.threads.add(threading.current_thread().name)
        return NOTHING_TO_GUARD

    def with_filters_read(
        self, parameters: dict[str, Any], document: bytes | None
    ) -> dict[str, Any]:
        self.threads.add(threading.current_thread().name)
        return {**parameters, "filters": parameters["filters"] or document}

    def names_needed(
        self,
        method: str,
        parameters: dict[str, Any],
        document: bytes | None,
        tell: Tell = silent,
    ) -> frozenset[str]:
        del method, parameters, document, tell
        self.threads.add(threading.current_thread().name)
        return self.needed

    def loads_lists(self, method: str, parameters: dict[str, Any]) -> bool:
        del method, parameters
        return False

    def after_loading_lists(
        self, method: str, parameters: dict[str, Any], call: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        del method, parameters
        return call()

    def judge_live(self, reply: dict[str, Any]) -> None:
        self.judged.append(reply)

    def assessments(self) -> list[dict[str, Any]]:
        self.threads.add(threading.current_thread().name)
        return []

    def ask_domain(self) -> int:
        self.lookups = self.lookups.asking()
        return self.lookups.asked

    def tell_of_domain(
        self, number: int, message: str, *, changed: bool = False, problem: str = ""
    ) -> None:
        self.lookups = self.lookups.told(number, message, 1.0, changed=changed, problem=problem)

    def question_about(self, bundle: bytes) -> Question:
        return Question(self.taken, Selection("web1"), bundle)

    def next_expiry(self) -> float | None:
        return self.expires_at

    def expire(self) -> None:
        self.story.append("expire")
        self.expires_at = None

    def next_list_end(self) -> float | None:
        return self.list_ends_at

    def expire_lists(self) -> None:
        self.story.append("expire lists")
        self.list_ends_at = None

    def next_feed(self) -> tuple[float, str] | None:
        return self.feed_due

    def wanted_feed(self, method: str, parameters: dict[str, Any]) -> Wanted:
        del method
        return Wanted(parameters.get("url") or "https://feeds.example/drop")

    def feed_failed(self, name: str, problem: str) -> None:
        self.story.append(f"{name}: {problem}")

    def watch_fd(self) -> int:
        return self.news

    def watch(self) -> None:
        os.read(self.news, 4096)
        self.story.append("watch")

    def wants_containers(self) -> bool:
        return False

    def set_container_engine(
        self, source: str, news: Inventory | None, state: str, at: float
    ) -> None:
        del news, at
        self.story.append(f"{source} {state}")

    def follow_senders(self) -> bool:
        return False

    def keep_last_good(self) -> None:
        self.story.append("keep")

    def ping(self) -> None:
        self.threads.add(threading.current_thread().name)

    def _AddDynamic(self, parameters: dict[str, Any], by: str) -> dict[str, Any]:  # noqa: N802
        name = parameters["name"] or f"dynamic-{len(self.rules) + 1}"
        rule = {
            "name": name,
            "action": parameters["action"],
            "filters": parameters["filters"],
            "interface": parameters["interface"],
            "remaining_s": parameters["ttl_s"],
            "by": by,
            "created": 0.0,
        }
        self.rules[name] = rule
        return {"rule": rule, "warnings": []}

    def _RemoveDynamic(self, parameters: dict[str, Any], _by: str) -> dict[str, Any]:  # noqa: N802
        name = parameters["selector"]
        if name not in self.rules:
            raise NotFound(f"there is no dynamic rule {name!r}", "ipsecctl show dynamic lists them")
        del self.rules[name]
        return {"removed": [name]}

    def _ListDynamic(self, _parameters: dict[str, Any], _by: str) -> dict[str, Any]:  # noqa: N802
        return {"rules": list(self.rules.values())}

    def _Stats(self, _parameters: dict[str, Any], _by: str) -> dict[str, Any]:  # noqa: N802
        return {"rules": [], "unparsable": 0}

    def _AwaitNames(self, _parameters: dict[str, Any], _by: str) -> dict[str, Any]:  # noqa: N802
        return {"number": 0, "names": []}

    def _AwaitStart(self, _parameters: dict[str, Any], _by: str) -> dict[str, Any]:  # noqa: N802
        return {}

    def _AnswerNames(self, _parameters: dict[str, Any], _by: str) -> dict[str, Any]:  # noqa: N802
        return {}

    def _ListExemptions(  # noqa: N802
        self, _parameters: dict[str, Any], _by: str
    ) -> dict[str, Any]:
        return {"exemptions": []}


class Client:
    """A blocking varlink client that can also misbehave."""

    def __init__(self, path: Path, timeout_s: float = PATIENCE_S) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout_s)
        self.sock.connect(str(path))
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def request(self, method: str, flags: dict[str, Any] | None = None, **parameters: Any) -> bytes:
        full = method if "." in method else f"{CONTROL}.{method}"
        message = {"method": full, "parameters": parameters, **(flags or {})}
        return json.dumps(message).encode() + b"\0"

    def send(self, method: str, *, pass_fds: tuple[int, ...] = (), **parameters: Any) -> None:
        data = self.request(method, **parameters)
        if pass_fds:
            socket.send_fds(self.sock, [data], list(pass_fds))
        else:
            send_frame(self.sock, data)

    def receive(self) -> dict[str, Any] | None:
        """The next reply, or None when the daemon has closed the connection."""
        while b"\0" not in self._received:
            try:
                piece = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not piece:
                return None
            self._received += piece
        frame, _, self._received = self._received.partition(b"\0")
        reply = json.loads(frame)
        assert isinstance(reply, dict)
        return reply

    def call(
        self, method: str, *, pass_fds: tuple[int, ...] = (), **parameters: Any
    ) -> dict[str, Any]:
        self.send(method, pass_fds=pass_fds, **parameters)
        reply = self.receive()
        assert reply is not None, "the daemon closed the connection"
        return reply


class Running:
    """A service that runs in a thread of its own, around a fake engine."""

    def __init__(
        self,
        directory: Path,
        engine: FakeEngine,
        limits: Limits,
        write_timeout_s: float,
        resolver: Resolver | None,
        verification: Verification | None,
        fetcher_uid: int | None,
        lookups: NameLookups | None,
    ) -> None:
        self._lookups = lookups
        self._verification = verification
        self._fetcher_uid = fetcher_uid
        self.engine = engine
        self.path = directory / "ipsecd.sock"
        self._directory = directory
        self._limits = limits
        self._write_timeout_s = write_timeout_s
        self._resolver = resolver
        self._up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._done = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="service")

    def start(self) -> None:
        self._thread.start()
        assert self._up.wait(PATIENCE_S), "the service did not start"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the service did not stop"

    def client(self, timeout_s: float = PATIENCE_S) -> Client:
        return Client(self.path, timeout_s)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        listener = open_listener(self._directory, {})
        thread = EngineLines(self.engine)
        calls = self.calls = Calls(
            thread, self._resolver, verification=self._verification, lookups=self._lookups
        )
        service = Service(
            listener.sock,
            calls.answer,
            self._limits,
            write_timeout_s=self._write_timeout_s,
            follow=calls.follow,
            uid_of={"ipsecd-domain": self._fetcher_uid}.get,
            # Our own group may change and VIEW_GID may read, so that anybody can run the tests.
            gid_of={"ipsec": os.getegid(), "ipsec-view": VIEW_GID}.get,
        )
        service.start()
        self._up.set()
        await self._done.wait()
        await service.close()
        await asyncio.to_thread(calls.watching.end)
        calls.shut_down()
        listener.close()
        thread.shut_down()


@contextlib.contextmanager
def running(
    limits: Limits | None = None,
    engine: FakeEngine | None = None,
    *,
    write_timeout_s: float = 30.0,
    resolver: Resolver | None = None,
    verification: Verification | None = None,
    fetcher_uid: int | None = None,
    lookups: NameLookups | None = None,
) -> Iterator[Running]:
    """A service on a socket in a directory with a short name, which everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="ipsecd-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        service = Running(
            directory,
            engine or FakeEngine(),
            limits or Limits(),
            write_timeout_s,
            resolver,
            verification,
            fetcher_uid,
            lookups,
        )
        service.start()
        try:
            yield service
        finally:
            service.stop()
            service.engine.close()


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Return once `condition` holds; fail with `what` if it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)
