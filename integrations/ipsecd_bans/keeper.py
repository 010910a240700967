"""Owns keeping the bans of programs in force, whatever becomes of the daemon.

Must not know whose bans they are. Each is a dynamic rule with a name of its own, so that putting it
once more changes nothing but its end. Invariants:

1. What was put and has not ended is in force again, by itself, when a daemon that was away or has
   forgotten its dynamic rules is back. Whoever puts bans need not notice that.
2. Many bans are few calls, and each call is one change.
3. Only rules that were named here are ever put or removed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Any

from ipsecctl.client import Client
from ipsecctl.failures import UnreachableError
from ipsecd.errors import IpsecdError

MOST_IN_A_CALL = 500
"""How many bans go into a call. The daemon takes 45 µs for each, and others wait for that."""
ANSWER_S = 30.0
"""How long to wait for an answer: fail2ban bans nobody else meanwhile."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""How long to wait before another try to reach the daemon; each time twice as long."""
FOLLOWING_S = 1_000_000.0
"""How long to listen for news of the daemon before asking anew."""
SHORTEST_S, LONGEST_S = 0.001, 10 * 365 * 86400.0
"""The times to live that the daemon takes."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Ban:
    """A ban: the filters that are blocked, and its end in monotonic seconds, ``inf`` for none."""

    filters: tuple[str, ...]
    end: float = inf


def end_in(seconds: float) -> float:
    """The monotonic time in so many seconds from now, as ends of bans are given."""
    return time.monotonic() + seconds


class Keeper:
    """Keeps bans in force, by the names of their rules; any thread may use it.

    `tell` is called with a sentence about what happens to the daemon, now and then.
    """

    def __init__(self, path: str | None = None, tell: Tell = lambda _: None) -> None:
        """`path` is the socket of the daemon; None: as for ``ipsecctl``."""
        self._path = path
        self._tell = tell
        self._lock = threading.RLock()
        self._bans: dict[str, Ban] = {}
        self._ended: set[str] = set()
        """Names of bans that were ended, and that the daemon may still have."""
        self._client = Client(path, ANSWER_S)
        self._pause_s = FIRST_PAUSE_S
        self._watches = threading.Event()
        self._watcher: threading.Thread | None = None

    def bans(self, prefix: str = "") -> dict[str, Ban]:
        """The bans that have not ended, by their names, which begin with `prefix`."""
        now = time.monotonic()
        with self._lock:
            return {
                name: ban
                for name, ban in self._bans.items()
                if name.startswith(prefix) and ban.end > now
            }

    def take_over(self, prefix: str) -> int:
        """Keep what the daemon has from an earlier process; how many. Raises ``IpsecdError``."""
        self._watch()
        with self._lock:
            rules = self._rules(prefix)
            for rule in rules:
                left_s = rule["remaining_s"]
                end = inf if left_s is None else end_in(left_s)
                self._bans.setdefault(rule["name"], Ban(tuple(rule["filters"]), end))
            return len(rules)

    def change(
        self, put: Mapping[str, Ban] | None = None, remove: Iterable[str] = ()
    ) -> dict[str, str]:
        """Put bans in force by the names of their rules, and end others.

        Returns those that the daemon refuses, with its reasons; they are kept no longer. Raises
        ``UnreachableError`` if the daemon is not there, and another ``IpsecdError`` if it cannot do
        it now, as where enforcement is stopped. Then all of it is done when that changes.
        """
        self._watch()
        wanted = dict(put or {})
        with self._lock:
            ended = set(remove).difference(wanted)
            self._bans.update(wanted)
            for name in ended:
                self._bans.pop(name, None)
            self._ended.difference_update(wanted)
            self._ended.update(ended)
            return self._send(wanted)

    def clear(self, prefix: str) -> int:
        """End all bans whose names begin with `prefix`, those of an earlier process too.

        Returns how many they were. Raises as ``change`` does.
        """
        self._watch()
        with self._lock:
            for name in self.bans(prefix):
                self._ended.add(name)
                del self._bans[name]
            rules = {rule["name"] for rule in self._rules(prefix)}
            self._ended.update(rules)
            self._send({})
            return len(rules)

    def _send(self, put: Mapping[str, Ban]) -> dict[str, str]:
        """Send bans, and the names of those that have ended; the refused ones with reasons."""
        # What is removed goes first: where there is a limit on rules, others have room then.
        for names in _parts(sorted(self._ended)):
            self._call("ChangeDynamicRules", {"put": [], "remove": names})
            self._ended.difference_update(names)
        refused: dict[str, str] = {}
        for part in _parts(_wanted_rules(put)):
            reply = self._call("ChangeDynamicRules", {"put": part, "remove": []})
            refused |= {each["name"]: each["message"] for each in reply["refused"]}
        for name in refused:
            self._bans.pop(name, None)
        return refused

    def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """What the daemon answers. It ends connections that were silent, so two tries are made.

        What is called here may be called twice.
        """
        try:
            return self._client.call(method, parameters)
        except UnreachableError:
            self._client.close()
        try:
            return self._client.call(method, parameters)
        except UnreachableError:
            self._client.close()
            raise

    def _rules(self, prefix: str) -> list[dict[str, Any]]:
        rules = self._call("ListDynamic", {})["rules"]
        return [rule for rule in rules if rule["name"].startswith(prefix)]

    def _watch(self) -> None:
        """Follow the daemon from now on: before anything is put that it could forget."""
        with self._lock:
            if self._watcher is None:
                # It ends with the process, and does nothing that could be left half done.
                self._watcher = threading.Thread(target=self._follow, name="ipsecd", daemon=True)
                self._watcher.start()
        self._watches.wait(LONGEST_PAUSE_S)

    def _follow(self) -> None:
        """Put all bans once more whenever the daemon may have forgotten them."""
        while True:
            client = Client(self._path, FOLLOWING_S)
            try:
                client.call("AwaitStart", hear=self._put_all)
            except IpsecdError as error:
                if self._pause_s == FIRST_PAUSE_S:
                    self._tell(f"{error.message}; all bans are put again when it is back")
            client.close()
            self._watches.set()
            time.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _put_all(self, _: dict[str, Any]) -> None:
        self._pause_s = FIRST_PAUSE_S
        with self._lock:
            self._bans = self.bans()
            number = len(self._bans)
            try:
                refused = self._send(self._bans)
            except IpsecdError as error:
                self._tell(f"bans could not be put in force: {error.message}")
            else:
                if number:
                    self._tell(f"{number - len(refused)} bans were put again")
        self._watches.set()


_SHARED: dict[str | None, Keeper] = {}


def shared(path: str | None, tell: Tell) -> Keeper:
    """The keeper of this process for a daemon: the daemon limits the connections of a user."""
    return _SHARED.setdefault(path, Keeper(path, tell))


def _wanted_rules(bans: Mapping[str, Ban]) -> Iterator[dict[str, Any]]:
    """Bans as the daemon takes them, without those that have ended."""
    now = time.monotonic()
    for name, ban in bans.items():
        if ban.end - now >= SHORTEST_S:
            yield {
                "name": name,
                "filters": list(ban.filters),
                "action": "block",
                "ttl_s": None if ban.end == inf else min(ban.end - now, LONGEST_S),
            }


def _parts(things: Iterable[Any]) -> Iterator[list[Any]]:
    waiting = iter(things)
    while part := list(islice(waiting, MOST_IN_A_CALL)):
        yield part
