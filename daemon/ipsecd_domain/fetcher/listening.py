"""Owns listening to the daemon for ever; must not know what it says."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from ipsecd.errors import IpsecdError
from ipsecd.log import record_bug
from ipsecd_domain.fetcher.schedule import Backoff


def listen_for_ever(
    listen: Callable[[], None],
    first_s: float,
    most_s: float,
    bug: str,
    afterwards: Callable[[], None] = lambda: None,
) -> None:
    """Call `listen`, which ends when the daemon does, again and again, and `afterwards` each time.

    In between are pauses from `first_s` to `most_s`. `bug` names in the log what must not happen.
    """
    pauses = Backoff(first_s, most_s, random.random)
    while True:
        started = time.monotonic()
        try:
            listen()
        except IpsecdError:
            # The main loop meets the same, and says it.
            pass
        except Exception as error:
            record_bug(bug, error)
        if time.monotonic() - started > most_s:
            pauses.reset()
        time.sleep(pauses.next_s())
        afterwards()
