"""Owns connections of browsers: their bytes in and out, in time; must not know what is on pages.

1. A connection carries one request and its answer, and then ends.
2. Whatever comes in is limited before it is looked at: bytes, time, and how many come at once.
   Who has not asked anything yet makes room for who comes then: everybody on this host may connect
   to a port, and would keep out all who may look.
3. A request reaches the site after the gate has let it through, and not else.
"""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from ipsecctl.web.access import SocketGate, peer_may_look
from ipsecctl.web.listening import Listener
from ipsecctl.web.request import MOST_BYTES, BadRequest, Request, read_head
from ipsecctl.web.response import EVENTS as EVENT_STREAM
from ipsecctl.web.response import Response, head_of, plain
from ipsecctl.web.site import EVENTS, Site
from ipsecd.output import complain

_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections there may be at once, how many of them streams, and times in seconds.

    `beat_s` is how often a stream says something, so that it is noticed when a browser is gone.
    """

    connections: int = 100
    streams: int = 20
    request_s: float = 10.0
    answer_s: float = 60.0
    beat_s: float = 15.0


class Server:
    """Serves a site on a listening socket."""

    def __init__(self, listener: Listener, site: Site, bounds: Bounds | None = None) -> None:
        self._listener = listener
        self._gate = listener.gate
        self._site = site
        self._bounds = bounds or Bounds()
        self._connections: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[None], None] = {}
        self._streams = 0

    async def serve(self) -> None:
        """Serve until this is cancelled; then no connection is left."""
        make = asyncio.start_unix_server if self._listener.path else asyncio.start_server
        server = await make(self._accept, sock=self._listener.sock, limit=MOST_BYTES)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            if self._connections:
                await asyncio.wait(self._connections)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = _this_task()
        if not self._may_come(writer.get_extra_info("socket")):
            writer.transport.abort()
            return
        self._connections.add(task)
        self._silent[task] = None
        try:
            await self._converse(reader, writer)
        except (OSError, TimeoutError, EOFError, asyncio.CancelledError):
            # It is gone or too slow, or makes room, or the server ends: nothing else cancels this.
            writer.transport.abort()
        except Exception:  # noqa: BLE001 - a bug on one connection ends no other one
            _report_bug()
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            self._silent.pop(task, None)
            writer.close()

    def _may_come(self, sock: socket.socket) -> bool:
        if isinstance(self._gate, SocketGate) and not peer_may_look(sock):
            return False
        if len(self._connections) < self._bounds.connections:
            return True
        if not self._silent:
            return False
        longest = next(iter(self._silent))
        del self._silent[longest]
        longest.cancel()
        return True

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = Request("/")
        try:
            request = await self._request(reader)
            answer = self._gate.answer(request) or await self._site_answer(request)
        except BadRequest as refusal:
            allow = {"Allow": "GET, HEAD"} if refusal.status == 405 else {}
            answer = plain(refusal.status, f"ipsecctl web: {refusal.message}", **allow)
        if isinstance(answer, Response):
            await self._send(writer, answer.to_bytes(is_head=request.is_head))
        else:
            await self._stream(reader, writer, answer, is_head=request.is_head)

    async def _request(self, reader: asyncio.StreamReader) -> Request:
        try:
            async with asyncio.timeout(self._bounds.request_s):
                head = await reader.readuntil(_END)
        except asyncio.LimitOverrunError as error:
            raise BadRequest(431, f"the request has more than {MOST_BYTES} bytes") from error
        except TimeoutError as error:
            raise BadRequest(408, "the request came too slowly") from error
        finally:
            self._silent.pop(_this_task(), None)
        return read_head(head.removesuffix(_END))

    async def _site_answer(self, request: Request) -> Response | AsyncGenerator[bytes, None]:
        if not request.path.startswith(self._gate.base):
            raise BadRequest(404, "there is nothing here")
        name = request.path.removeprefix(self._gate.base)
        if name == EVENTS:
            if self._streams >= self._bounds.streams:
                raise BadRequest(503, "as many are watching as may; the page itself goes on")
            return self._site.events()
        try:
            async with asyncio.timeout(self._bounds.answer_s):
                return await self._site.answer(name, request)
        except TimeoutError as error:
            raise BadRequest(503, "the daemon is too slow; try again in a moment") from error
        except BadRequest:
            raise
        except Exception:  # noqa: BLE001 - a bug in a page ends no other one
            _report_bug()
            return plain(500, "ipsecctl web: this is a bug; what it says is where this page runs")

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        async with asyncio.timeout(self._bounds.answer_s):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        events: AsyncGenerator[bytes, None],
        *,
        is_head: bool,
    ) -> None:
        """Send events until the browser goes, which it does by ending the connection."""
        self._streams += 1
        leaving = asyncio.create_task(reader.read(1))
        coming = asyncio.create_task(_next(events))
        try:
            writer.write(head_of(200, EVENT_STREAM, {}))
            while not is_head and not leaving.done():
                async with asyncio.timeout(self._bounds.answer_s):
                    await writer.drain()
                await asyncio.wait(
                    {coming, leaving},
                    timeout=self._bounds.beat_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if coming.done():
                    writer.write(coming.result())
                    coming = asyncio.create_task(_next(events))
                else:
                    writer.write(b": still here\n\n")
        finally:
            self._streams -= 1
            leaving.cancel()
            coming.cancel()
            await asyncio.wait({leaving, coming})
            await events.aclose()


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def _next(events: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(events)


def _report_bug() -> None:
    complain(*traceback.format_exc().splitlines())
