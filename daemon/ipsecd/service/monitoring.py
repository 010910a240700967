"""Owns the replies to a client that watches what is dropped; must not know sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from ipsecd.control.monitor import seen_packets
from ipsecd.service.watching import RATE, Watching

AT_END: dict[str, Any] = {"packets": []}
"""What the last reply has in the place of packets, which were told of before."""


async def monitored(
    watching: Watching, parameters: dict[str, Any], uid: int
) -> AsyncGenerator[dict[str, Any], None]:
    """What is dropped from now on, batch after batch, for a user; raises ``IpsecdError``.

    The first reply comes once packets are told of, and may have none.
    """
    rate, rules = parameters["rate"], parameters["rules"]
    wanted = None if rules is None else frozenset(rules)
    watch = watching.watch(RATE if rate is None else rate, uid)
    try:
        async for batch in watch:
            # Words for a hundred packets take some milliseconds, and the loop has others to serve.
            packets = await asyncio.to_thread(seen_packets, batch.sightings, wanted)
            yield {"packets": packets, "blocked": batch.blocked, "lost": batch.lost}
    finally:
        await watch.aclose()
