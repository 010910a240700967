"""Owns who waits: for a look at the domain, to be asked for one, and for enforcement to start.

Must not know sockets, nor how one looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

from ipsecd.errors import InvalidInput, Refused
from ipsecd.service.engine_lines import EngineLines

MOST_WAIT_S = 3600.0


class Waiting:
    """The calls that wait until something happens."""

    def __init__(self, engine: EngineLines) -> None:
        self._engine = engine
        self._sleepers: dict[asyncio.Future[None], Callable[[], bool]] = {}
        """Those who wait, and what tells whether it has happened."""
        self.lookers = 0
        self.starts = 0
        """How often enforcement was started after a stop."""

    def look(self) -> None:
        """Wake those for whom it has happened; called after every change."""
        for sleeper, has_happened in self._sleepers.items():
            if not sleeper.done() and has_happened():
                sleeper.set_result(None)

    async def asked(self, after: int) -> AsyncGenerator[dict[str, Any], None]:
        """The number of the last look that was asked for, whenever it exceeds the one before."""
        # A fetcher may have its number from the daemon before this one.
        number = min(after, self._engine.engine.lookups.asked)
        self.lookers += 1
        try:
            while True:
                await self._until(partial(self._is_asked, number))
                number = self._engine.engine.lookups.asked
                yield {"refresh": number}
        finally:
            self.lookers -= 1

    async def started(self) -> AsyncGenerator[dict[str, Any], None]:
        """A reply at once, and one whenever enforcement was started after a stop."""
        while True:
            number = self.starts
            yield {}
            await self._until(partial(self._is_started, number))

    async def have_looked(self, wait_s: float) -> int:
        """Ask for a look and wait until it was taken, but not for longer; its number."""
        if not 0 <= wait_s <= MOST_WAIT_S:
            raise InvalidInput(
                f"{wait_s:g} s is not between 0 and {MOST_WAIT_S:g} s", "wait for less"
            )
        engine = self._engine.engine
        number = await self._engine.run(engine.ask_domain)
        if not self.lookers:
            raise Refused(
                "nobody looks at the domain: its fetcher is not connected",
                "run: systemctl start ipsecd-domain; its log says why it does not run",
            )
        self.look()
        try:
            async with asyncio.timeout(wait_s):
                await self._until(lambda: engine.lookups.answered >= number)
        except TimeoutError:
            return number
        return number

    def _is_started(self, after: int) -> bool:
        return self.starts > after

    def _is_asked(self, after: int) -> bool:
        return self._engine.engine.lookups.asked > after

    async def _until(self, has_happened: Callable[[], bool]) -> None:
        while not has_happened():
            sleeper = asyncio.get_running_loop().create_future()
            self._sleepers[sleeper] = has_happened
            try:
                await sleeper
            finally:
                del self._sleepers[sleeper]
