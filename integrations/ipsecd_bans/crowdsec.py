"""Owns ``ipsecd-crowdsec``: decisions that CrowdSec's custom bouncer writes become dynamic rules.

With ``feed_via_stdin: true`` the bouncer starts it once and writes a JSON object a line, a decision
of the local API with ``action`` (``add`` or ``del``). What an address was banned for is not its
business: the last decision on an address counts. Decisions that write a network in different ways
are told apart, as the API does, so that one of them can end without the others. Where the bouncer
is started again it tells all decisions anew, and where only this program is, nothing: it finds its
bans at the daemon.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from ipsecd.errors import IpsecdError
from ipsecd.output import complain_text, flush, say
from ipsecd.quoting import count, quote
from ipsecd_bans.feed import (
    Changes,
    MeaninglessError,
    Tell,
    batches,
    carry_out,
    filter_of,
    network_of,
    teller,
)
from ipsecd_bans.keeper import LONGEST_S, SHORTEST_S, Ban, Keeper, end_in

PROGRAM = "ipsecd-crowdsec"
PREFIX = "crowdsec "
SCOPES = ("ip", "range")
_UNIT_S = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|ns)")
_DURATION = re.compile(rf"([-+]?)((?:{_PART.pattern})+)")
USAGE = f"""usage: {PROGRAM} [--flush]
It is started by crowdsec-custom-bouncer, and reads decisions from standard input.
--flush ends all bans that it has made."""


def main(arguments: list[str] | None = None) -> int:
    """Keep decisions in force until the bouncer ends; the exit code.

    The bans stay then, with their ends: a bouncer that is started again leaves no gap.
    """
    words = sys.argv[1:] if arguments is None else arguments
    tell = teller(PROGRAM)
    keeper = Keeper(tell=tell)
    if words == ["--flush"]:
        try:
            say(f"{count(keeper.clear(PREFIX), 'ban')} of CrowdSec ended")
        except IpsecdError as error:
            tell(str(error))
            return 1
        flush()
        return 0
    if words:
        complain_text(USAGE)
        return 2
    try:
        keeper.take_over(PREFIX)
    except IpsecdError as error:
        tell(f"bans of an earlier process are not known: {error.message}")
    for lines in batches(sys.stdin.fileno()):
        if changes := changes_in(lines, tell):
            carry_out(keeper, changes, tell)
    return 0


def changes_in(lines: list[bytes], tell: Tell) -> Changes:
    """What decisions come to, one after the other; those that mean nothing here are told."""
    changes: Changes = {}
    for line in lines:
        if not line.strip():
            continue
        try:
            changes.update(change_in(decision_in(line)))
        except MeaninglessError as error:
            tell(str(error))
    return changes


def decision_in(line: bytes) -> dict[str, Any]:
    """The decision that a line holds; raises ``MeaninglessError``."""
    try:
        decision = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MeaninglessError(
            f"{quote(line[:80].decode(errors='replace'))} is no decision"
        ) from error
    if not isinstance(decision, dict):
        raise MeaninglessError(f"{quote(str(decision)[:80])} is no decision")
    return decision


def change_in(decision: dict[str, Any]) -> Changes:
    """What one decision comes to: nothing, if it is about other things than bans of addresses.

    Raises ``MeaninglessError``.
    """
    if _word(decision, "type") != "ban" or _word(decision, "scope") not in SCOPES:
        return {}
    if decision.get("simulated"):
        return {}
    value = str(decision.get("value"))
    network = network_of(value)
    action = _word(decision, "action")
    if action == "del":
        return {PREFIX + value: None}
    if action != "add":
        raise MeaninglessError(f"{quote(action)} is nothing to do about {network}")
    left_s = min(seconds_in(str(decision.get("duration"))), LONGEST_S)
    if left_s < SHORTEST_S:
        return {PREFIX + value: None}
    return {PREFIX + value: Ban((filter_of(network),), end_in(left_s))}


def seconds_in(duration: str) -> float:
    """The seconds in a length of time as Go writes them, ``3h59m56.5s``.

    Raises ``MeaninglessError``.
    """
    whole = _DURATION.fullmatch(duration)
    if not whole or len(duration) > 80:
        raise MeaninglessError(f"{quote(duration)} is no length of time")
    seconds = sum(float(n) * _UNIT_S[unit] for n, unit in _PART.findall(whole[2]))
    return -seconds if whole[1] == "-" else seconds


def _word(decision: dict[str, Any], key: str) -> str:
    return str(decision.get(key, "")).lower()
