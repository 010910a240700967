"""Owns the order of precedence between filters, and nothing else; nothing after it knows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ipsecd.model.fields import FIELDS, Criterion, Field, Kind
from ipsecd.model.values import MAX_PORT, Action, Origin

Rank = tuple[int, ...]
Place = tuple[int | str, ...]

ANY_PORT_WIDTH = MAX_PORT + 1

_ORDER = (
    Criterion.ADDRESSES,
    Criterion.PROTOCOL,
    Criterion.DESTINATION_PORTS,
    Criterion.SOURCE_PORTS,
    Criterion.INTERFACE,
    Criterion.SENDER,
)
_FIELDS_OF = tuple(
    tuple(field.name for field in FIELDS if field.criterion is criterion) for criterion in _ORDER
)


def narrowness(field: Field, width: int) -> int:
    """How narrow a match is in `field`: 0 where it takes anything.

    `width` is a prefix length in bits for a PREFIX, where a host and ``me`` have the full length;
    how many numbers match for a RANGE; and for others, whether one is given.
    """
    return ANY_PORT_WIDTH - width if field.kind is Kind.RANGE else width


def rank(
    narrow: Mapping[str, int],
    *,
    volatile: bool,
    action: Action,
    before_translation: bool = False,
) -> Rank:
    """The rank of one match; of those that match a packet the greatest decides.

    `narrow` says how narrow the match is in each field, by its name (see ``narrowness``). Ranks of
    one IP version compare as tuples. `before_translation` says that the match is of a permit with
    what a forwarded packet was before it left as this host's: who names a container means it more
    than who names the host that it leaves as. Raises ``KeyError`` for a field that is left out.
    """
    return (
        *(sum(narrow[name] for name in names) for names in _FIELDS_OF),
        int(volatile),
        2 if before_translation else int(action is Action.BLOCK),
    )


def place(shape: Mapping[str, int | str]) -> Place:
    """Orders the matches of one rank that a packet can have in several ways; the least is named.

    The verdict is the same: this says only which filter explains it and counts the packet. `shape`
    has, by the name of each field, what tables are sorted by: a prefix length, or -1 for ``me``;
    whether a number is given; the first of a range, and 0 where it is no range; a word, or "".
    Raises ``KeyError`` for a field that is left out.
    """
    return tuple(shape[field.name] for field in FIELDS)


def credited(origins: Iterable[Origin]) -> Origin:
    """Of rules with the same match and action the one that is named and counts."""
    return min(origins)
