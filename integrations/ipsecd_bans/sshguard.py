"""Owns ``sshg-fw-ipsecd``, a backend of sshguard: its commands on standard input become rules.

A line is ``block ADDRESS VERSION LENGTH``, ``release`` with the same words, ``flush`` or
``flushonexit`` (sshguard-setup(7)). sshguard itself says when a block ends, and knows nothing of an
earlier run. So what there is from one ends at the start, and everything at the end.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from ipsecd.errors import IpsecdError
from ipsecd.quoting import quote
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
from ipsecd_bans.keeper import Ban, Keeper

PROGRAM = "sshg-fw-ipsecd"
PREFIX = "sshguard "


def main() -> int:
    """Do what sshguard says until it ends; the exit code."""
    tell = teller(PROGRAM)
    keeper = Keeper(tell=tell)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        _clear(keeper, tell)
        for lines in batches(sys.stdin.fileno()):
            serve(keeper, lines, tell)
    finally:
        with suppress(IpsecdError):
            keeper.clear(PREFIX)
    return 0


def serve(keeper: Keeper, lines: list[bytes], tell: Tell) -> None:
    """Do what lines say; those that mean nothing are told."""
    changes: Changes = {}
    for line in lines:
        words = line.decode(errors="replace").split()
        if words == ["flush"]:
            # What came before it would end at once.
            changes = {}
            _clear(keeper, tell)
            continue
        try:
            changes.update(change_in(words))
        except MeaninglessError as error:
            tell(str(error))
    if changes:
        carry_out(keeper, changes, tell)


def change_in(words: list[str]) -> Changes:
    """What a command comes to; raises ``MeaninglessError``."""
    if not words or words == ["flushonexit"]:
        return {}
    if len(words) != 4 or words[0] not in ("block", "release"):
        raise MeaninglessError(f"{quote(' '.join(words))} is no command")
    network = network_of(f"{words[1]}/{words[3]}")
    ban = Ban((filter_of(network),)) if words[0] == "block" else None
    return {PREFIX + network: ban}


def _clear(keeper: Keeper, tell: Tell) -> None:
    try:
        keeper.clear(PREFIX)
    except IpsecdError as error:
        tell(error.message)
