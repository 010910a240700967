"""Owns when open connections are judged for a reply; must not know how."""

from __future__ import annotations

import asyncio
from typing import Any

from ipsecd.service.engine_lines import EngineLike


class Judging:
    """Has replies say which open connections are cut, one reply after the other.

    With many connections that takes seconds, so it is done in a thread of its own, and no line of
    work waits for it.
    """

    def __init__(self, engine: EngineLike) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()

    async def judge(self, reply: dict[str, Any]) -> None:
        """Complete a reply that waits for it; raises ``IpsecdError``."""
        if (reply.get("outcome") or reply).get("live") is not None:
            async with self._turn:
                await asyncio.to_thread(self._engine.judge_live, reply)
