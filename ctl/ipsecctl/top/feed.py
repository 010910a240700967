"""Owns what ``top`` knows from the daemon, asked in threads of its own: no key waits for it.

Must not know what is shown. When something is new, `wake` is called, in one of the threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import UnreachableError
from ipsecctl.top.rates import RuleRate, RuleRates, Sight, SourceRate, SourceRates
from ipsecd.errors import IpsecdError

INTERVAL_S = 1.0
SHARE = 10
"""A reply that took long is waited for again only after so many times as long."""
REPORTS_PER_S = 1000
"""Enough to see who sends most; each packet that is reported costs the daemon and the kernel."""
AGAIN_S = 1.0
LATER_S = 10.0
"""How long until a daemon that refused to report is asked again: it may have been upgraded."""
_QUIET_S = 24 * 3600.0
"""How long to wait for a report: where nothing is dropped there is none."""


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known at a moment.

    `problem` is why nothing new comes; `no_sources` why nothing is known of sources, "" if it is;
    `blocked` and `lost` are those of ``Monitor`` since it reports.
    """

    rules: tuple[RuleRate, ...] = ()
    sources: tuple[SourceRate, ...] = ()
    unparsable: int = 0
    problem: str = ""
    no_sources: str = ""
    blocked: int = 0
    lost: int = 0

    @property
    def reported(self) -> int:
        """How many of the packets that were dropped were reported."""
        return max(0, self.blocked - self.lost)


class Feed:
    """The talk with the daemon, from `start` to `close`."""

    def __init__(self, path: str, wake: Callable[[], None]) -> None:
        self._path = path
        self._wake = wake
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._rule_rates = RuleRates()
        self._source_rates = SourceRates()
        self._rules: tuple[RuleRate, ...] = ()
        self._unparsable = 0
        self._problem = self._no_sources = ""
        self._numbers = (0, 0)
        self._monitor: Client | None = None
        self._fault: BaseException | None = None

    def start(self) -> None:
        """Ask from now on, again and again."""
        self._thread(self._poll)
        self.listen()

    def listen(self) -> None:
        """Have reports of packets from now on, and ask nothing else."""
        self._thread(self._listen)

    def close(self) -> None:
        """Ask no more; threads that wait for an answer end when it comes, or with the process."""
        self._ended.set()
        with self._lock:
            monitor = self._monitor
        if monitor:
            monitor.interrupt()

    def known(self) -> Known:
        """What is known now; raises what a thread has met that nobody expected."""
        with self._lock:
            if self._fault:
                raise self._fault
            return Known(
                self._rules,
                tuple(self._source_rates.rates(time.monotonic())),
                self._unparsable,
                self._problem,
                self._no_sources,
                *self._numbers,
            )

    def last_of_rule(self, key: tuple[str, str, str]) -> Sight | None:
        """The last packet that a rule decided about, if one was reported."""
        with self._lock:
            return self._source_rates.last_of_rule(key)

    def explain(self, packet: str, answer: Callable[[dict[str, Any] | IpsecdError], None]) -> None:
        """Ask what decides about `packet`; `answer` gets it in another thread."""

        def ask() -> None:
            client = Client(self._path)
            try:
                answer(client.call("Explain", {"packet": packet})["explanation"])
            except IpsecdError as error:
                answer(error)
            finally:
                client.close()
            self._wake()

        self._thread(ask)

    def count(self, client: Client) -> float:
        """Ask once what rules have matched; how long that took, in seconds."""
        began_s = time.monotonic()
        counts = client.call("Stats")
        at_s = time.monotonic()
        with self._lock:
            self._rules = tuple(self._rule_rates.take(counts["rules"], at_s))
            self._unparsable = counts["unparsable"]
            self._problem = ""
        return at_s - began_s

    def _poll(self) -> None:
        client = Client(self._path)
        while not self._ended.is_set():
            try:
                took_s = self.count(client)
            except IpsecdError as error:
                client.close()
                with self._lock:
                    self._problem = error.message
                    # What was counted over the gap would be no rate of now.
                    self._rule_rates = RuleRates()
                took_s = 0.0
            self._wake()
            self._ended.wait(max(INTERVAL_S - took_s, SHARE * took_s))
        client.close()

    def _listen(self) -> None:
        while not self._ended.is_set():
            client = Client(self._path, timeout_s=_QUIET_S)
            with self._lock:
                self._monitor = client
                self._source_rates.begin(time.monotonic())
            try:
                client.call("Monitor", {"rules": None, "rate": REPORTS_PER_S}, hear=self._hear)
                again_s = AGAIN_S
            except UnreachableError:
                again_s = AGAIN_S
            except IpsecdError as error:
                again_s = LATER_S
                self._refused(error.message)
            client.close()
            self._ended.wait(again_s)

    def _hear(self, reply: dict[str, Any]) -> None:
        with self._lock:
            self._source_rates.take(reply, time.monotonic())
            self._numbers = (reply["blocked"], reply["lost"])
            self._no_sources = ""

    def _refused(self, why: str) -> None:
        with self._lock:
            self._no_sources = why
        self._wake()

    def _thread(self, ask: Callable[[], None]) -> None:
        def run() -> None:
            try:
                ask()
            except BaseException as fault:  # noqa: BLE001 - `known` raises it where it is seen
                with self._lock:
                    self._fault = fault
                self._wake()

        threading.Thread(target=run, daemon=True).start()
