"""Owns one client's connection: its bytes in and out, in time; must not know what calls mean.

1. Calls are answered one after the other, and nothing is read while one is being answered. So a
   connection holds at most one frame that comes in and one reply that goes out. Of the progress of
   a call only the newest is kept, and nothing waits until the client has read it.
2. A slow client delays nobody else: every wait leaves the event loop free, and has a time limit.
3. Every descriptor that was received is closed when its connection is, if not before.
"""

from __future__ import annotations

import array
import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from ipsecd.errors import InvalidInput, IpsecdError, LimitExceeded
from ipsecd.log import record
from ipsecd.progress import LatestProgress, Tell, silent
from ipsecd.protocol.errors import to_wire
from ipsecd.protocol.frames import MAX_FRAME_BYTES, FrameDecoder, ProtocolError, encode_frame
from ipsecd.protocol.messages import Call, call_of, reply_of
from ipsecd.service.access import Peer
from ipsecd.service.descriptors import Descriptors

PIECE_BYTES = 64 << 10
DESCRIPTOR_BYTES = array.array("i").itemsize
UNSENT_BYTES = 256 << 20
PROGRESS_PAUSE_S = 0.25
"""The time before and between messages about progress: a person reads no faster."""

Answer = Callable[[Peer, Call, Descriptors, Tell], Awaitable[bytes]]
"""Gives the frame to reply with, and raises nothing. It closes the descriptors that it takes."""
Replies = AsyncGenerator[dict[str, Any], None]


class Followed(NamedTuple):
    """What to reply again and again, until the client says something, and what to reply then.

    That is once more the ``last`` reply, with what is said ``at_end``; ``last`` is first what to
    reply if there was none.
    """

    last: dict[str, Any]
    replies: Replies
    at_end: Mapping[str, Any] = MappingProxyType({})


Follow = Callable[[Peer, Call], Followed | None]
"""Gives what to reply to a call; None for calls that have one answer."""


def no_more(_: Peer, __: Call) -> None:
    """Have one answer for every call."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many bytes a frame may have, and how many seconds a call and a reply may take.

    ``idle_timeout_s`` is the time from one reply to the end of the next call. So it ends the
    connection of a client that sends nothing, and of one that sends very slowly.
    """

    frame_bytes: int = MAX_FRAME_BYTES
    idle_timeout_s: float = 60.0
    write_timeout_s: float = 30.0


class UnsentBytes:
    """How many bytes of replies wait to be read by their clients, over all connections."""

    def __init__(self, limit: int = UNSENT_BYTES) -> None:
        self._limit = limit
        self._waiting = 0

    def take(self, size: int) -> bool:
        """Add `size` bytes if the limit permits it or nothing else waits; whether they were."""
        if self._waiting and self._waiting + size > self._limit:
            return False
        self._waiting += size
        return True

    def give_back(self, size: int) -> None:
        """Subtract `size` bytes, which have been sent or given up."""
        self._waiting -= size


class Connection:
    """One connection on an accepted, non-blocking socket, which the caller closes."""

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        bounds: ConnectionLimits,
        unsent: UnsentBytes,
        answer: Answer,
        follow: Follow = no_more,
    ) -> None:
        self._sock = sock
        self._peer = peer
        self._bounds = bounds
        self._unsent_bytes = unsent
        self._answer = answer
        self._follow = follow
        self._decoder = FrameDecoder(bounds.frame_bytes)
        self._descriptors = Descriptors()
        self._unsent_frame = memoryview(b"")
        self._readable = Readable(sock)

    async def serve(self) -> None:
        """Answer calls until the client goes, is too slow or breaks the protocol."""
        try:
            while (call := await self._next_call()) is not None:
                followed = self._follow(self._peer, call)
                if followed is not None:
                    await self._send_all(*followed)
                    continue
                reply = await self._answered(call)
                if not call.oneway:
                    await self._send(reply)
                if self._decoder.pending:
                    # Let others have a turn: this client may have many calls ready.
                    await asyncio.sleep(0)
        except ProtocolError as error:
            record(logging.WARNING, "protocol-error", peer=self._peer, reason=error.message)
            await self._say_goodbye(error)
        except TimeoutError:
            record(logging.INFO, "timeout", peer=self._peer)
        except OSError as error:
            record(logging.DEBUG, "connection-lost", peer=self._peer, reason=error.strerror)
        finally:
            self._readable.close()
            self._descriptors.close()

    async def _answered(self, call: Call) -> bytes:
        """The last frame to reply with. A client that asked for more gets the progress first."""
        if call.oneway or not call.more:
            return await self._answer(self._peer, call, self._descriptors, silent)
        latest = LatestProgress()
        telling = asyncio.create_task(self._tell(latest))
        try:
            return await self._answer(self._peer, call, self._descriptors, latest.tell)
        finally:
            telling.cancel()
            await asyncio.wait({telling})

    async def _tell(self, latest: LatestProgress) -> None:
        """Send the progress to the client, as fast as it reads, until this is cancelled."""
        last_sent = None
        # If the client is gone, that is noticed when the reply is sent.
        with suppress(OSError):
            while True:
                await asyncio.sleep(PROGRESS_PAUSE_S)
                await wait_writable(self._sock)
                progress = latest.progress
                if progress is None or progress == last_sent:
                    continue
                last_sent = progress
                words = {
                    "phase": progress.phase.value,
                    "done": progress.done,
                    "total": progress.total,
                }
                reply = reply_of({"progress": words}, continues=True)
                self._unsent_frame = memoryview(encode_frame(reply))
                await self._send_unsent_frame()

    async def _send_all(
        self, last: dict[str, Any], replies: Replies, at_end: Mapping[str, Any]
    ) -> None:
        """Send replies as they come; the `last` once more when the client says something."""
        leaving = asyncio.create_task(self._readable.wait())
        coming: asyncio.Task[Any] = leaving
        try:
            while True:
                coming = asyncio.create_task(anext(replies))
                await asyncio.wait({leaving, coming}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    break
                last = coming.result()
                await self._send(encode_frame(reply_of(last, continues=True)))
        except StopAsyncIteration:
            # There is nothing more to say, as at the end of the daemon.
            pass
        except IpsecdError as error:
            await self._send(encode_frame(to_wire(error)))
            return
        finally:
            # Also where this is cancelled: replies cannot be closed while one is awaited.
            leaving.cancel()
            coming.cancel()
            await asyncio.wait({leaving, coming})
            await replies.aclose()
        await self._send(encode_frame(reply_of({**last, **at_end})))

    async def _next_call(self) -> Call | None:
        """The next call, or None at the end; raises ``TimeoutError`` if it takes too long."""
        end = asyncio.get_running_loop().time() + self._bounds.idle_timeout_s
        while (message := self._decoder.next_message()) is None:
            if not self._decoder.pending:
                # No call is unfinished, so descriptors that were received belong to none.
                self._descriptors.close()
            await self._readable.wait(end)
            piece = self._receive()
            if piece == b"":
                return None
            self._decoder.feed(piece or b"")
        return call_of(message)

    def _receive(self) -> bytes | None:
        """What has arrived, b"" at the end, or None if there is nothing after all.

        The kernel does not read on past bytes that carry descriptors, so at most one call in a
        piece has any (af_unix.c). There is room for one descriptor: the kernel closes all others.
        """
        try:
            piece, ancillary, _, _ = self._sock.recvmsg(
                PIECE_BYTES, socket.CMSG_LEN(DESCRIPTOR_BYTES), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(data[: len(data) - len(data) % DESCRIPTOR_BYTES])
                self._descriptors.add(received)
        return piece

    async def _send(self, frame: bytes) -> None:
        if not self._unsent_bytes.take(len(frame)):
            refusal = LimitExceeded(
                f"the reply of {len(frame)} bytes does not fit beside those that other clients "
                "have not read yet",
                "try again in a moment",
            )
            await self._write(encode_frame(to_wire(refusal)))
            return
        try:
            await self._write(frame)
        finally:
            self._unsent_bytes.give_back(len(frame))

    async def _write(self, frame: bytes) -> None:
        self._unsent_frame = memoryview(
            bytes(self._unsent_frame) + frame if self._unsent_frame else frame
        )
        self._send_what_fits()
        if self._unsent_frame:
            async with asyncio.timeout(self._bounds.write_timeout_s):
                await self._send_unsent_frame()

    async def _send_unsent_frame(self) -> None:
        """Send the unsent bytes of a frame. If this is cancelled, those still unsent are kept."""
        self._send_what_fits()
        while self._unsent_frame:
            await wait_writable(self._sock)
            self._send_what_fits()

    def _send_what_fits(self) -> None:
        """Send as much of the unsent bytes as the socket takes now."""
        while self._unsent_frame:
            try:
                self._unsent_frame = self._unsent_frame[
                    self._sock.send(self._unsent_frame, socket.MSG_NOSIGNAL) :
                ]
            except BlockingIOError:
                return
        # An empty view of the frame would keep the whole frame in memory.
        self._unsent_frame = memoryview(b"")

    async def _say_goodbye(self, error: ProtocolError) -> None:
        refusal = InvalidInput(
            error.message, "a call is one JSON object in UTF-8, ended by a NUL byte"
        )
        try:
            await self._write(encode_frame(to_wire(refusal)))
        except OSError as send_error:
            record(logging.DEBUG, "connection-lost", peer=self._peer, reason=send_error.strerror)


class Readable:
    """Tells when a socket has something to read, or is at its end, or has an error.

    A client that waits for each answer makes as many waits as calls. So what the loop is told for a
    wait stays for the next one: that this is watched, and the timer, which moves on when it ends.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        # For a socket the selector would write out the addresses of both its ends, twice, in the
        # text of an error that nobody sees.
        self._descriptor = sock.fileno()
        self._is_watched = self._was_told_in_vain = False
        self._waiting: asyncio.Future[None] | None = None
        self._end: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, end: float | None = None) -> None:
        """Return once it is so. Raises ``TimeoutError`` at the `end`, a time of the loop."""
        if end is not None and end <= self._loop.time():
            # Otherwise somebody who sends a byte all the time would never be too late.
            raise TimeoutError
        self._end = end
        if end is not None and self._timer is None:
            self._timer = self._loop.call_at(end, self._look_at_clock)
        self._was_told_in_vain = False
        self._waiting = self._loop.create_future()
        if not self._is_watched:
            self._loop.add_reader(self._descriptor, self._tell)
            self._is_watched = True
        try:
            await self._waiting
        finally:
            self._waiting = None

    def close(self) -> None:
        """Wait no more; the socket is still open."""
        self._watch_no_more()
        if self._timer:
            self._timer.cancel()

    def _tell(self) -> None:
        if self._waiting is not None:
            _set(self._waiting)
        elif self._was_told_in_vain:
            # There is more to read than anybody reads now.
            self._watch_no_more()
        else:
            # The loop has asked once more before what there was had been read.
            self._was_told_in_vain = True

    def _watch_no_more(self) -> None:
        if self._is_watched:
            self._loop.remove_reader(self._descriptor)
            self._is_watched = False

    def _look_at_clock(self) -> None:
        self._timer = None
        if self._waiting is None or self._waiting.done() or self._end is None:
            return
        if self._end <= self._loop.time():
            self._waiting.set_exception(TimeoutError())
        else:
            self._timer = self._loop.call_at(self._end, self._look_at_clock)


async def wait_readable(descriptor: int) -> None:
    """Return once a descriptor has something to read, or is at its end, or has an error."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def wait_writable(sock: socket.socket) -> None:
    """Return once `sock` takes more bytes, or has an error."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, _set, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
