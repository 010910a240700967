"""Owns looking DNS names up for the daemon, which needs no internet sockets so; keeps nothing.

1. A name whose answer nobody waits for any more is not looked up.
2. Whatever a look-up does, the others go on: each holds one thread, and there are some.
"""

from __future__ import annotations

import logging
import socket
from concurrent.futures import ThreadPoolExecutor

from ipsecd.errors import IpsecdError
from ipsecd.log import record, record_bug
from ipsecd_domain.fetcher.daemon import Daemon
from ipsecd_domain.fetcher.faults import DaemonUnreachable
from ipsecd_domain.fetcher.listening import listen_for_ever
from ipsecd_domain.fetcher.wake import now

AT_ONCE = 8
PATIENCE_S = 5.0
"""So long the daemon waits for an answer."""
AWAY_FIRST_S, AWAY_MOST_S = 0.1, 1.0
"""The pauses while the daemon is away; a name may be wanted as soon as it is back."""


class Names:
    """Looks up what the daemon asks for."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._threads = ThreadPoolExecutor(AT_ONCE, "name")

    def run(self) -> None:
        """Answer for ever."""
        listen_for_ever(self._listen, AWAY_FIRST_S, AWAY_MOST_S, "names-not-heard")

    def _listen(self) -> None:
        for number, names in self._daemon.names_wanted():
            for name in names:
                self._threads.submit(self._answer, number, name, now())

    def _answer(self, number: int, name: str, asked_at: float) -> None:
        if now() - asked_at > PATIENCE_S:
            return
        try:
            addresses, problem = addresses_of(name)
            self._daemon.answer_name(number, name, addresses, problem)
        except DaemonUnreachable:
            # It has ended, and with it whoever waited.
            pass
        except IpsecdError as error:
            record(logging.INFO, "answer-not-taken", name=name, reason=error.message)
        except Exception as error:
            record_bug("name-not-answered", error)


def addresses_of(name: str) -> tuple[list[str], str]:
    """All addresses of a name as the system's resolver gives them, or why there are none."""
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        return [], "it is not a name that DNS can hold"
    except OSError as error:
        return [], error.strerror or str(error)
    return [str(address[0]) for _, _, _, _, address in answers], ""
