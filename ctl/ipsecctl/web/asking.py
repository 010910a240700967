"""Owns the talk of the page with the daemon; must not know what its answers are about.

1. Only methods in ``VIEWED`` are called: none of them changes anything.
2. However many look at once, a question that was just answered is not asked again, and one that is
   being answered is asked once. A few questions are open at a time.
3. Whatever becomes of the daemon, what is raised is an ``IpsecdError`` that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from ipsecctl.failures import UnreachableError
from ipsecd.errors import IpsecdError
from ipsecd.protocol.description import CONTROL
from ipsecd.protocol.errors import from_wire
from ipsecd.protocol.frames import encode_frame
from ipsecd.quoting import quote_path

VIEWED = frozenset(
    {
        *("Status", "Stats", "Explain", "ExplainAt", "Monitor", "Drops"),
        *("ListPolicies", "GetPolicy", "ListDynamic", "ListLists", "GetList", "ListContainers"),
        *("GetHistory", "GetDomain"),
    }
)
"""What is asked: methods for everybody who may look."""
ANSWER_S = 30.0
MOST_BYTES = 64 << 20
"""The longest answer that is read; a list of a million addresses has 20 MB."""
_KEEP_S = 1.0
_MOST_OPEN = 4
_UNKNOWN = frozenset(
    {"org.varlink.service.MethodNotFound", "org.varlink.service.MethodNotImplemented"}
)

Answer = dict[str, Any]
_Asked = tuple[float, asyncio.Task[Answer]]


class NotTold(IpsecdError):
    """The daemon is older than the method that it was asked by."""


class Daemon:
    """The daemon at one socket, however often it ends and starts again."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._asked: dict[str, _Asked] = {}
        self._open = asyncio.Semaphore(_MOST_OPEN)

    async def ask(self, method: str, **parameters: Any) -> Answer:
        """What `method` answers; at most a second old.

        Raises ``UnreachableError``, ``NotTold``, or the daemon's own error as it is worded.
        """
        now = asyncio.get_running_loop().time()
        self._asked = {
            key: (end, task)
            for key, (end, task) in self._asked.items()
            if end > now or not task.done()
        }
        key = json.dumps([method, parameters], sort_keys=True)
        if key not in self._asked:
            task = asyncio.create_task(self._call(method, parameters))
            task.add_done_callback(lambda done: self._keep(key, done))
            self._asked[key] = now + _KEEP_S, task
        # The question is others' too: it goes on when the one who asked first leaves.
        return await asyncio.shield(self._asked[key][1])

    async def follow(self, method: str, **parameters: Any) -> AsyncGenerator[Answer, None]:
        """What `method` answers again and again, until whoever listens closes this."""
        async with self._connection() as (reader, writer):
            await self._send(writer, method, parameters, more=True)
            while True:
                reply = await self._reply(reader)
                yield _parameters(reply)
                if reply.get("continues") is not True:
                    return

    def _keep(self, key: str, done: asyncio.Task[Answer]) -> None:
        """Let an answer be as old as it may get, from when it came."""
        if not done.cancelled():
            done.exception()
        self._asked[key] = asyncio.get_running_loop().time() + _KEEP_S, done

    async def _call(self, method: str, parameters: dict[str, Any]) -> Answer:
        async with self._open, self._connection() as (reader, writer):
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._send(writer, method, parameters, more=False)
                    return _parameters(await self._reply(reader))
            except TimeoutError as error:
                raise UnreachableError(
                    f"the daemon did not answer within {ANSWER_S:g} s", "try again in a moment"
                ) from error

    @contextlib.asynccontextmanager
    async def _connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        try:
            reader, writer = await asyncio.open_unix_connection(self.path, limit=MOST_BYTES)
        except PermissionError as error:
            raise UnreachableError(
                f"this page may not talk to the daemon at {quote_path(self.path)}",
                "run 'ipsecctl web' as root, or as a member of group 'ipsec-view'",
            ) from error
        except OSError as error:
            raise UnreachableError(
                f"the daemon cannot be reached at {quote_path(self.path)}: "
                f"{error.strerror or error}",
                "what is enforced stays so without it; start it with 'systemctl start ipsecd'",
            ) from error
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _send(
        self, writer: asyncio.StreamWriter, method: str, parameters: dict[str, Any], *, more: bool
    ) -> None:
        if method not in VIEWED:
            raise ValueError(f"{method} is not for looking")
        call: dict[str, Any] = {"method": f"{CONTROL}.{method}", "parameters": parameters}
        writer.write(encode_frame({**call, "more": True} if more else call))
        # A daemon that refuses a connection has said why, before anything was sent.
        with contextlib.suppress(ConnectionError):
            await writer.drain()

    async def _reply(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        try:
            frame = await reader.readuntil(b"\0")
            reply = json.loads(frame[:-1])
        except asyncio.LimitOverrunError as error:
            raise IpsecdError(
                f"the daemon's answer has more than {MOST_BYTES >> 20} MB", "ask with 'ipsecctl'"
            ) from error
        except (OSError, EOFError, ValueError) as error:
            raise UnreachableError(
                f"the daemon at {quote_path(self.path)} ended the connection without an answer",
                "it answers root and the groups 'ipsec' and 'ipsec-view' only, and nobody while "
                "it ends",
            ) from error
        if not isinstance(reply, dict):
            raise UnreachableError("what answers is not the daemon", f"see {quote_path(self.path)}")
        return reply


def _parameters(reply: dict[str, Any]) -> Answer:
    parameters: Answer = reply.get("parameters") or {}
    if "error" not in reply:
        return parameters
    name = str(reply["error"])
    if name in _UNKNOWN:
        raise NotTold(
            "this daemon does not tell that", "it is older than this page: upgrade ipsecd"
        )
    raise from_wire(name, parameters)
