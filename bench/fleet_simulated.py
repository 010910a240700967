"""Thousands of hosts that speak as fetchers do, without daemons: what servers make of them.

Each has one connection to etcd, on which it watches the doorbell through the HTTP gateway. When it
is rung it looks within two seconds, by chance: over one connection, TLS or not, it asks the web
server for what a fetcher asks for that has the version before, and gets the same bytes. Later it
asks with the entity tag, as in an interval, and gets 304. Nothing is verified, so that this machine
can be all hosts at once; even so they take more of its time than the servers do.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import multiprocessing
import os
import random
import re
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from ipsecd_domain.doorbell import ring
from ipsecd_domain.errors import NotFetched
from ipsecd_domain.fetcher.schedule import (
    FAILURE_FIRST_S,
    FAILURE_MOST_S,
    RING_SPREAD_S,
    Backoff,
)
from ipsecd_domain.fetcher.web import WebSource
from ipsecd_domain.selection import Host
from ipsecd_domain.tls import TlsFiles
from ipsecd_domain.trusted import refresh
from tests.domain.certificates import Authority
from tests.domain.fleets import Fleet
from tests.domain.hosts import POLICY
from tests.domain.servers import CLIENTS, WEB, Nginx, Server, cluster, nginx

ETCD, PROCESSES = "127.0.0.1", 2
SOURCES = 200
"""Addresses that hosts have, so that ports are no limit."""
POLL_S = 30.0
"""In which all look once, each at a moment of its own."""
CONNECTING = 200
"""How many connect at a time."""
WAIT_S = 300.0
TIMESTAMP = "/metadata/timestamp.json"


@dataclass(frozen=True)
class Load:
    """What a server has used since it was started."""

    cpu_s: float
    memory_mib: float

    @classmethod
    def of(cls, server: Server) -> Load:
        assert server.process is not None
        stat = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(stat[11]) + int(stat[12])
        return cls(ticks / os.sysconf("SC_CLK_TCK"), server.resident() / 2**20)


class Hosts:
    """Some of the simulated hosts, in one process."""

    def __init__(self, first: int, number: int, tls: TlsFiles | None) -> None:
        self._names = range(first, first + number)
        self._context = _context(tls) if tls else None
        self._paths: list[str] = []
        self._tag = ""
        self.heard: list[float] = []
        self.have: list[float] = []
        self.failures: list[str] = []
        self.received = 0
        self.again = 0
        self.watching = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Callable[[int], object]) -> None:
        for name in self._names:
            task = asyncio.ensure_future(self._guarded(work(name)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _guarded(self, work: object) -> None:
        try:
            await work  # type: ignore[misc]
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            self.failures.append(repr(error))

    async def watch(self, gate: asyncio.Semaphore, name: int) -> None:
        """Watch the doorbell, and look when it is rung."""
        async with gate:
            source = (f"127.1.{name % SOURCES}.1", 0)
            reader, writer = await asyncio.open_connection(ETCD, CLIENTS, local_addr=source)
            key = base64.b64encode(b"ipsecd").decode()
            await _ask(writer, "POST", "/v3/kv/range", {"key": key})
            reply = json.loads((await _answer(reader))[1])
            revision = int(reply["header"]["revision"]) + 1
            create = {"create_request": {"key": key, "start_revision": revision}}
            await _ask(writer, "POST", "/v3/watch", create)
            await reader.readuntil(b"\r\n\r\n")
            self.watching += 1
        while line := await reader.readline():
            if b'"kv"' in line:
                self.heard.append(time.monotonic())
                await asyncio.sleep(RING_SPREAD_S * random.random())
                await self.look_until_it_works(name, self._paths, "")

    async def poll(self, name: int) -> None:
        """Ask once whether there is anything new."""
        await asyncio.sleep(POLL_S * random.random())
        await self.look_until_it_works(name, [TIMESTAMP], self._tag)

    async def look_until_it_works(self, name: int, paths: list[str], tag: str) -> None:
        """Look, and again after the pauses of a fetcher if the server does not answer."""
        pauses = Backoff(FAILURE_FIRST_S, FAILURE_MOST_S, random.random)
        while True:
            try:
                await self.look(name, paths, tag)
            except (OSError, asyncio.IncompleteReadError):
                self.again += 1
                await asyncio.sleep(pauses.next_s())
            else:
                self.have.append(time.monotonic())
                return

    async def look(self, name: int, paths: list[str], tag: str) -> None:
        source = (f"127.1.{name % SOURCES}.1", 0)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", WEB, local_addr=source, ssl=self._context
        )
        try:
            for path in paths:
                await _ask(writer, "GET", path, None, tag)
                head, body = await _answer(reader)
                self.received += len(head) + len(body)
                if not re.match(rb"HTTP/1.1 (200|304|404) ", head):
                    raise ValueError(head[:40])
        finally:
            writer.close()

    async def serve(self, orders: Connection) -> None:
        """Do what the measuring process orders, one thing after the other."""
        gate = asyncio.Semaphore(CONNECTING)
        while True:
            order, *given = await asyncio.to_thread(orders.recv)
            if order == "watch":
                self.start(lambda name: self.watch(gate, name))
            elif order == "paths":
                self._paths, self._tag = given
                self.heard, self.have, self.received, self.again = [], [], 0, 0
            elif order == "poll":
                self.start(self.poll)
            elif order == "tell":
                told = (self.watching, self.heard, self.have, self.received, self.again)
                orders.send((*told, self.failures))
            else:
                return


def _context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(tls.certificate, tls.key)
    context.check_hostname = False
    return context


async def _ask(
    writer: asyncio.StreamWriter, verb: str, path: str, given: object, tag: str = ""
) -> None:
    body = json.dumps(given).encode() if given is not None else b""
    head = f"{verb} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n"
    head += f"If-None-Match: {tag}\r\n" if tag else ""
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return head, await reader.readexactly(int(length[1])) if length else b""


def work(orders: Connection, first: int, number: int, tls: TlsFiles | None) -> None:
    """The process of some hosts."""
    asyncio.run(Hosts(first, number, tls).serve(orders))


@dataclass(frozen=True)
class Told:
    """How many watch; when each has heard, and when each had all; bytes; looks that failed."""

    watching: int
    heard: list[float]
    have: list[float]
    received: int
    again: int


class Crowd:
    """All simulated hosts, in processes."""

    def __init__(self, number: int, tls: TlsFiles | None) -> None:
        self.number = number
        self._ends: list[Connection] = []
        self._processes = []
        for n in range(PROCESSES):
            ours, theirs = multiprocessing.Pipe()
            first, last = number * n // PROCESSES, number * (n + 1) // PROCESSES
            process = multiprocessing.Process(target=work, args=(theirs, first, last - first, tls))
            process.start()
            self._ends.append(ours)
            self._processes.append(process)

    def order(self, *words: object) -> None:
        for end in self._ends:
            end.send(words)

    def told(self) -> Told:
        """What all of them have done so far; raises ``RuntimeError`` if one failed."""
        self.order("tell")
        watching, received, again = 0, 0, 0
        heard: list[float] = []
        have: list[float] = []
        for end in self._ends:
            some, some_heard, some_have, some_bytes, some_again, failures = end.recv()
            if failures:
                raise RuntimeError(f"{len(failures)} hosts failed: {failures[0]}")
            watching, received, again = watching + some, received + some_bytes, again + some_again
            heard += some_heard
            have += some_have
        return Told(watching, heard, have, received, again)

    def until(self, done: Callable[[Told], int]) -> Told:
        """What is told once that is as many as there are hosts."""
        deadline = time.monotonic() + WAIT_S
        while True:
            told = self.told()
            if done(told) >= self.number:
                return told
            if time.monotonic() > deadline:
                raise TimeoutError(f"{done(told)} of {self.number} hosts after {WAIT_S:g} s")
            time.sleep(0.5)

    def close(self) -> None:
        self.order("end")
        for process in self._processes:
            process.join(10)
            process.kill()


def asked_for(fleet: Fleet, web: Nginx, tls: TlsFiles, port: int) -> list[str]:
    """Publish, and say which paths a fetcher asks for then that had the version before."""
    host = Host("web1", (), ())
    source = WebSource(web.url, tls, "")
    trusted = refresh({"root.json": fleet.root()}, host, source.read).trusted
    fleet.publish(POLICY.format(port=port).encode())
    before = len(web.answered())
    refresh(trusted, host, source.read)
    source.close()
    return [line.split()[6] for line in web.answered()[before:]]


def measure(number: int) -> None:
    """Measure `number` hosts without TLS, and a tenth of them with it.

    The hosts' side of TLS costs this machine more than the server's, so it carries fewer.
    """
    for hosts, encrypted in ((number, False), (number // 10, True)):
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            _measure(Path(name), stack, hosts, encrypted=encrypted)


def _measure(directory: Path, stack: ExitStack, number: int, *, encrypted: bool) -> None:
    directory.chmod(0o755)
    fleet = Fleet.made_in(directory)
    fleet.publish(POLICY.format(port=1001).encode())
    files = Authority(directory).certify("everybody")
    tls = files if encrypted else None
    members = stack.enter_context(cluster(directory / "etcd", 1))
    web = stack.enter_context(nginx(directory / "nginx", fleet.repository, tls))
    ring(members.url(), 1, "")
    etcd = members.members[members.hosts[0]]
    print(f"{number:,} hosts, {'with' if encrypted else 'without'} TLS to the web server")

    crowd = Crowd(number, tls)
    stack.callback(crowd.close)
    empty, began = Load.of(etcd), time.monotonic()
    crowd.order("watch")
    crowd.until(lambda told: told.watching)
    full = Load.of(etcd)
    each_kib = (full.memory_mib - empty.memory_mib) * 1024 / number
    print(
        f"  all watch after {time.monotonic() - began:.1f} s; etcd took "
        f"{full.cpu_s - empty.cpu_s:.1f} s of CPU and has {full.memory_mib:,.0f} MiB "
        f"({each_kib:.0f} KiB a host)"
    )
    paths = asked_for(fleet, web, files, 1002)
    crowd.order("paths", paths, "")
    before, before_web, rung = Load.of(etcd), Load.of(web), time.monotonic()
    timestamp = (fleet.repository / "metadata/timestamp.json").read_bytes()
    # All hosts are on this machine: the member may take the ring, and be slow to say so.
    with suppress(NotFetched):
        ring(members.url(), 2, hashlib.sha256(timestamp).hexdigest())
    told = crowd.until(lambda told: len(told.have))
    heard, have = told.heard, told.have
    after, after_web = Load.of(etcd), Load.of(web)
    print(
        f"  rung: half heard it after {statistics.median(heard) - rung:.1f} s, the last after "
        f"{max(heard) - rung:.1f} s; half had all after {statistics.median(have) - rung:.1f} s, "
        f"the last after {max(have) - rung:.1f} s\n"
        f"  etcd took {after.cpu_s - before.cpu_s:.1f} s of CPU and has {after.memory_mib:,.0f} "
        f"MiB; nginx took {after_web.cpu_s - before_web.cpu_s:.1f} s and has "
        f"{after_web.memory_mib:,.0f} MiB, for {len(paths)} requests and "
        f"{told.received / number / 1024:.1f} KiB a host; {told.again:,} looks failed and were "
        "repeated"
    )
    minute_ago = time.time() - 60
    os.utime(fleet.repository / "metadata/timestamp.json", (minute_ago, minute_ago))
    source = WebSource(web.url, files, "")
    content = source.read_if_changed(TIMESTAMP.lstrip("/"), 1 << 16, "")
    assert content is not None
    source.close()
    crowd.order("paths", [], content.tag)
    before_web, began = Load.of(web), time.monotonic()
    crowd.order("poll")
    told = crowd.until(lambda told: len(told.have))
    after_web = Load.of(web)
    print(
        f"  polls in {POLL_S:g} s: {number / (max(told.have) - began):,.0f} a second, answered "
        f"with 304; nginx took {(after_web.cpu_s - before_web.cpu_s) * 1e6 / number:.0f} µs of CPU "
        f"and {told.received / number:.0f} bytes a host, without those of TLS",
        flush=True,
    )
