"""Owns the judgement whether new content of a list looks like a mistake; must not know who asks.

A feed that breaks must not open a host that blocks by it, nor cut the host off. So content that
shrinks the list much, is empty, or covers what this host cannot do without is held back, until
somebody accepts it. What was in the list before is not held against it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ipsecd.language.addresses import format_value
from ipsecd.language.list_entries import format_entry
from ipsecd.model.addresses import Family
from ipsecd.model.lists import AddressList, Form
from ipsecd.model.packing import without
from ipsecd.quoting import count, few

SHRINKS = 0.5
"""The share of the entries that may go at once."""
_WHOLE = {Family.IPV4: "every IPv4 address", Family.IPV6: "every IPv6 address"}


@dataclass(frozen=True, slots=True)
class Needed:
    """An address that this host cannot do without, and what it is: ``the default gateway``."""

    family: Family
    address: int
    what: str


LOOPBACK = (
    Needed(Family.IPV4, 0x7F000001, "loopback"),
    Needed(Family.IPV6, 1, "loopback"),
)


def reasons_to_hold(
    old: AddressList,
    new: AddressList,
    needed: Iterable[Needed] = (),
    *,
    malformed: int = 0,
    shrinks: float = SHRINKS,
) -> tuple[str, ...]:
    """Why `new` should not take the place of `old` unseen; nothing if it may.

    `needed` is what this host needs besides loopback; `malformed` is how many lines could not be
    read; `shrinks` is the share of the entries that may go at once.
    """
    added = without(new, old)
    return (
        *_too_few(len(old), len(new), malformed, shrinks),
        *_too_wide(added, (*needed, *LOOPBACK)),
    )


def _too_few(old: int, new: int, malformed: int, shrinks: float) -> Iterator[str]:
    if not new:
        yield "it has no entry"
    elif old and new < old * (1 - shrinks):
        yield f"it would shrink from {count(old, 'entry')} to {new:,}"
    if malformed > new > 0:
        yield f"it has more malformed lines, {malformed:,}, than entries"


def _too_wide(added: AddressList, needed: tuple[Needed, ...]) -> Iterator[str]:
    for family in Family:
        if Form(family, 0) in added.entries:
            yield f"{format_entry(Form(family, 0), bytes(family.bits // 8))} is {_WHOLE[family]}"
    covered: dict[tuple[Form, bytes], list[str]] = {}
    for need in needed:
        for length in added.covering(need.family, need.address):
            form = Form(need.family, length)
            if length:
                said = f"{format_value(need.family, need.address)} ({need.what})"
                covered.setdefault((form, form.packed(need.address)), []).append(said)
    for (form, entry), addresses in covered.items():
        yield f"{format_entry(form, entry)} covers {few(addresses)}"
