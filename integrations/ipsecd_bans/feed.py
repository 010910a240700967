"""Owns what the programs have in common that are fed bans by lines on their standard input.

Must not know what the lines say. A line that means nothing is told and left out: whoever feeds such
a program starts it once, and has no ear for its complaints.
"""

from __future__ import annotations

import ipaddress
import os
import select
import syslog
from collections.abc import Callable, Iterator
from pathlib import Path

from ipsecctl.failures import UnreachableError
from ipsecd.errors import IpsecdError
from ipsecd.output import complain
from ipsecd.quoting import quote, visible
from ipsecd_bans.keeper import Ban, Keeper

MOST_LINES = 2000
"""How many lines are taken at a time; what comes meanwhile waits in the pipe."""
LONGEST_LINE = 64 << 10
"""Bytes; what is longer is no line of any program that feeds this one."""
PIECE = 256 << 10
SILENCE_S = 0.05
"""What comes within this time of what came before is taken together with it."""

Tell = Callable[[str], None]
Changes = dict[str, Ban | None]
"""Bans by the names of their rules; None for one that ends."""


class MeaninglessError(ValueError):
    """A line, or a part of it, that nothing can be made of; its text says why."""


def teller(program: str) -> Tell:
    """A function that says lines on standard error, or in the system's log.

    CrowdSec's bouncer gives what it starts no standard error.
    """
    nowhere = Path(os.devnull).stat().st_rdev
    try:
        leads_nowhere = os.fstat(2).st_rdev == nowhere
    except OSError:
        leads_nowhere = True
    if leads_nowhere:
        syslog.openlog(program, syslog.LOG_PID, syslog.LOG_DAEMON)
        return lambda text: syslog.syslog(syslog.LOG_WARNING, visible(text))
    return lambda text: complain(f"{program}: {text}")


def batches(descriptor: int) -> Iterator[list[bytes]]:
    """The lines that come, as many at a time as there are; ends when the input does."""
    rest, skipping, open_ = b"", False, True
    while open_:
        lines: list[bytes] = []
        wait_s: float | None = None
        while len(lines) < MOST_LINES and select.select([descriptor], [], [], wait_s)[0]:
            piece = os.read(descriptor, PIECE)
            open_ = bool(piece)
            if not piece:
                break
            *whole, rest = (rest + piece).split(b"\n")
            if skipping and whole:
                whole, skipping = whole[1:], False
            lines += whole
            if len(rest) > LONGEST_LINE:
                # The beginning is told as a line that means nothing; the rest is not looked at.
                lines += [] if skipping else [rest[:80]]
                rest, skipping = b"", True
            wait_s = SILENCE_S
        yield lines
    if rest and not skipping:
        yield [rest]


def network_of(text: str) -> str:
    """The network that an address or a network is, in its shortest form.

    Bits beyond the prefix are left out. Raises ``MeaninglessError``, also for all addresses at
    once: that is no attacker.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise MeaninglessError(f"{quote(text)} is no address") from error
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            # No packet carries such an address: what was meant is the one of IPv4.
            network = ipaddress.ip_network((mapped, network.prefixlen - 96))
        elif network.network_address.scope_id:
            raise MeaninglessError(f"{quote(text)} is an address on one link")
    if not network.prefixlen:
        raise MeaninglessError(f"{quote(text)} is everybody, and is not blocked")
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if whole else str(network)


def filter_of(network: str) -> str:
    """The filter for all that a network sends to this host."""
    if ":" not in network:
        return f"{network}=0"
    address, slash, length = network.partition("/")
    return f"[{address}]{slash}{length}=0"


def carry_out(keeper: Keeper, changes: Changes, tell: Tell) -> None:
    """Have bans put in force or ended; what cannot be done is told, and done when it can be."""
    put = {name: ban for name, ban in changes.items() if ban is not None}
    try:
        refused = keeper.change(put, changes.keys() - put.keys())
    except UnreachableError:
        # The keeper has told that already, and goes on trying.
        return
    except IpsecdError as error:
        tell(f"{len(changes)} changes wait until enforcement starts: {error.message}")
        return
    for name, reason in refused.items():
        tell(f"{name} is refused: {reason}")
