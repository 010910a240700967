"""Owns which of the policies that are offered a host takes; must not know where they come from.

The most specific one that selects the host wins as a whole; nothing is merged. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from ipsecd.errors import InvalidInput
from ipsecd.quoting import count, quote
from ipsecd_domain.layout import (
    MAX_LABELS,
    TARGETS,
    Index,
    Offer,
    check_group,
    check_host,
    check_label,
    group_of,
)

MAX_GROUPS = 32
MAX_BEATEN = 20
"""How many that did not win are named."""
_SHARES = 1 << 32


@dataclass(frozen=True)
class Host:
    """What a host says of itself; names of hosts are compared without regard to letter case."""

    name: str
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        check_host(self.name)
        if len(self.groups) > MAX_GROUPS or len(self.labels) > MAX_LABELS:
            raise InvalidInput(
                f"host {quote(self.name)} is in {count(len(self.groups), 'group')} and has "
                f"{count(len(self.labels), 'label')}",
                f"{MAX_GROUPS} groups and {MAX_LABELS} labels are the most",
            )
        for group in self.groups:
            check_group(group)
        for name, value in self.labels:
            check_label(name, value)


@dataclass(frozen=True)
class Candidate:
    """A policy that selects a host: the role that offers it, and its SHA-256 in hexadecimal."""

    offer: Offer
    role: str
    sha256: str


class Naming(Enum):
    """How a policy names a host; the value orders them."""

    NOT = 0
    PATTERN = 1
    EXACT = 2


Rank = tuple[int, int, bool, int, bool, str, str]
"""What candidates are compared by, in this order; the greatest wins."""


@dataclass(frozen=True)
class Choice:
    """What a host takes: the `chosen` one, or none; `withdrawn`: it is told to have none.

    `reasons` say why, one sentence each.
    """

    chosen: Candidate | None = None
    withdrawn: bool = False
    reasons: tuple[str, ...] = ()


def selects(offer: Offer, host: Host) -> bool:
    """Whether every selector of an offer matches a host, the canary apart."""
    if offer.hosts and naming(offer, host) is Naming.NOT:
        return False
    return set(offer.labels) <= set(host.labels)


def naming(offer: Offer, host: Host) -> Naming:
    """How an offer names a host: the strongest of its patterns that match counts."""
    name = host.name.lower()
    patterns = {pattern.lower() for pattern in offer.hosts}
    if name in patterns:
        return Naming.EXACT
    matches = any(fnmatchcase(name, pattern) for pattern in patterns)
    return Naming.PATTERN if matches else Naming.NOT


def covers(candidate: Candidate, host: Host) -> bool:
    """Whether a host is in the share of the hosts that a candidate is for so far.

    The share is the same for every host that computes it, and another one for every document.
    """
    text = candidate.sha256 + host.name.lower()
    drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    return drawn / _SHARES < candidate.offer.canary / 100


def rank(candidate: Candidate, host: Host) -> Rank:
    """How specific a candidate is for a host."""
    offer = candidate.offer
    return (
        naming(offer, host).value,
        len(offer.labels),
        candidate.role != TARGETS,
        offer.precedence,
        offer.canary < 100,
        offer.published,
        offer.path,
    )


def choose(
    indexes: Iterable[tuple[str, Index]], offered: Sequence[Candidate], host: Host
) -> Choice:
    """What `host` takes of the candidates that select it, given the role of each index and it."""
    withdrawn = sorted(role for role, index in indexes if index.withdrawn)
    covered = [candidate for candidate in offered if covers(candidate, host)]
    outside = [candidate for candidate in offered if candidate not in covered]
    ordered = sorted(covered, key=lambda candidate: rank(candidate, host), reverse=True)
    told = [f"the policy {_of(role)} is withdrawn" for role in withdrawn]
    told += [
        f"{_named(candidate)} is for {candidate.offer.canary:g}% of its hosts so far, and this "
        "one is not among them"
        for candidate in outside[:MAX_BEATEN]
    ]
    if ordered:
        chosen, *beaten = ordered
        reasons = [f"{_named(chosen)} is for {_selector(chosen, host)}"]
        reasons += [_beats(chosen, other, host) for other in beaten[:MAX_BEATEN]]
        if len(beaten) > MAX_BEATEN:
            reasons.append(f"and over {len(beaten) - MAX_BEATEN:,} more")
        return Choice(chosen, reasons=(*reasons, *told))
    if withdrawn:
        return Choice(withdrawn=True, reasons=tuple(told))
    return Choice(reasons=("no policy selects this host: what is in force stays", *told))


def _beats(chosen: Candidate, other: Candidate, host: Host) -> str:
    """Why one candidate goes before another: the first thing in which they differ."""
    mine, others = rank(chosen, host), rank(other, host)
    at = next(at for at in range(len(mine)) if mine[at] != others[at])
    return f"it goes before {_named(other)}: it {_DIFFERENCES[at]}"


_DIFFERENCES = (
    "names the host more closely",
    "asks for more labels",
    "is of a group",
    "has the higher precedence",
    "is new, and for some hosts first",
    "was published later",
    "has the later path",
)
"""In the order of ``Rank``."""


def _named(candidate: Candidate) -> str:
    return f"policy {quote(candidate.offer.policy)} ({candidate.offer.path})"


def _of(role: str) -> str:
    group = group_of(role)
    return "for all hosts" if group is None else f"of group {quote(group)}"


def _selector(candidate: Candidate, host: Host) -> str:
    """What of a candidate selects a host, in words."""
    group = group_of(candidate.role)
    words = ["all hosts" if group is None else f"group {quote(group)}"]
    match naming(candidate.offer, host):
        case Naming.EXACT:
            words.append(f"with the name {quote(host.name)}")
        case Naming.PATTERN:
            words.append("with a name that its pattern matches")
        case Naming.NOT:
            pass
    if candidate.offer.labels:
        labels = ", ".join(f"{name}={value}" for name, value in candidate.offer.labels)
        words.append(f"with {labels}")
    if candidate.offer.canary < 100:
        words.append(f"({candidate.offer.canary:g}% of them so far)")
    return " ".join(words)
