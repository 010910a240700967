"""Owns what names the state of all that a script may change; must not know how it is changed.

Policies, what is assigned, and shared filters go into it by their digests. Dynamic rules come and
go all the time, and there may be hundreds of thousands: a state of them has a number, and is kept
while it is one of the last that were asked for. So what a change was made for can be compared in
just those rules that it concerns.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from hashlib import sha256
from threading import Lock

from ipsecd.engine.state import State
from ipsecd.errors import Changed
from ipsecd.sources.dynamic import DynamicRules
from ipsecd.sources.reading import Loaded

MOST_KEPT = 256
"""How many states of dynamic rules are kept; they share what is the same in them."""


class Workspaces:
    """Fingerprints of states, and the dynamic rules that each was given out for."""

    def __init__(self) -> None:
        self._rules: OrderedDict[str, DynamicRules] = OrderedDict()
        self._lock = Lock()

    def fingerprint(self, state: State) -> str:
        """What names `state`; for any thread."""
        return f"{of_files(state.loaded)}-{self._number(state.dynamic)}"

    def expected(self, fingerprint: str, state: State) -> DynamicRules:
        """The dynamic rules as they were when `fingerprint` was given out.

        Raises ``Changed`` if the files hold something else now, or if the rules of then are not
        known any more.
        """
        files, _, number = fingerprint.partition("-")
        with self._lock:
            rules = self._rules.get(number)
        if files != of_files(state.loaded) or rules is None:
            raise Changed(
                "somebody else has changed policies or filter lists meanwhile",
                "look at what is there now, and try again",
            )
        return rules

    def _number(self, rules: DynamicRules) -> str:
        with self._lock:
            last = next(reversed(self._rules), None)
            if last is not None and self._rules[last] is rules:
                return last
            # One that nobody guesses: that of an earlier process must not be taken for this one's.
            number = secrets.token_hex(8)
            self._rules[number] = rules
            if len(self._rules) > MOST_KEPT:
                self._rules.popitem(last=False)
            return number


def of_files(loaded: Loaded) -> str:
    """SHA-256 of what the static store holds, in hexadecimal."""
    files = sorted((stored.path, name, stored.digest) for name, stored in loaded.policies.items())
    shared = loaded.shared.digest if loaded.shared else None
    broken = sorted(file.path for file in loaded.broken)
    what = [files, loaded.link, loaded.assigned, shared, broken]
    return sha256(json.dumps(what).encode()).hexdigest()
