"""Owns reading what comes with calls as files; must not know what any call is about."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ipsecd.errors import Refused
from ipsecd.protocol.errors import invalid_parameter
from ipsecd.protocol.frames import ProtocolError, parse_frame
from ipsecd.service.descriptors import MAX_REST_BYTES, read_document

READ_TIMEOUT_S = 10.0


class Documents:
    """Reads the documents of all calls, in threads of its own."""

    def __init__(self) -> None:
        self._readers = ThreadPoolExecutor(4, "document")

    def shut_down(self) -> None:
        """Read no more documents, and do not wait for those that are being read."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def document(self, text: str | None, descriptor: int | None, limit: int) -> bytes:
        """The document of a call: its text, or the content of the file that was passed with it."""
        if descriptor is None:
            if text is None:
                raise invalid_parameter("document", "is missing, and no file was passed")
            return text.encode("utf-8")
        if text is not None:
            os.close(descriptor)
            raise invalid_parameter("document", "is given, and a file was passed too")
        # The file can be on a server that does not answer, so it is read in another thread.
        reading = self._readers.submit(read_document, descriptor, limit)
        reading.add_done_callback(_closer(descriptor))
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await asyncio.wrap_future(reading)
        except TimeoutError as error:
            raise Refused(
                f"the file that was passed could not be read within {READ_TIMEOUT_S:g} s",
                "copy it to a local disk first",
            ) from error

    async def with_rest(self, parameters: dict[str, Any], descriptor: int | None) -> dict[str, Any]:
        """The parameters of a call with those that are in the file that was passed with it.

        They are a JSON object there, as they would be in the call, and are not checked yet.
        """
        if descriptor is None:
            raise invalid_parameter("rest", "is true, and no file was passed")
        content = await self.document(None, descriptor, MAX_REST_BYTES)
        try:
            rest = await asyncio.to_thread(parse_frame, content)
        except ProtocolError as error:
            raise invalid_parameter(
                "rest", f"has a file that holds none: {error.message}"
            ) from None
        return {**parameters, **rest, "rest": None}


def _closer(descriptor: int) -> Callable[[Future[bytes]], None]:
    """A callback that closes `descriptor` once it was read, or its reading was cancelled."""

    def close(_: Future[bytes]) -> None:
        os.close(descriptor)

    return close
