"""Owns the order of precedence between filters. No other module knows the order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ipsecd.model.fields import FIELDS, Criterion, Field, Kind
from ipsecd.model.values import MAX_PORT, Action, Origin

Rank = tuple[int, ...]
Place = tuple[int | str | tuple[int, str], ...]

ANY_PORT_WIDTH = MAX_PORT + 1
_BEFORE_TRANSLATION = len(Action)
"""Greater than the strength of any action."""

_ORDER = (
    Criterion.ADDRESSES,
    Criterion.PROTOCOL,
    Criterion.DESTINATION_PORTS,
    Criterion.SOURCE_PORTS,
    Criterion.INTERFACE,
    Criterion.SENDER,
    Criterion.CONNECTION,
)
_FIELDS_OF = tuple(
    tuple(field.name for field in FIELDS if field.criterion is criterion) for criterion in _ORDER
)


def narrowness(field: Field, width: int) -> int:
    """How narrow a match is in `field`: 0 if it matches anything.

    `width` is a prefix length in bits for a PREFIX, where a host and ``me`` have the full length;
    how many numbers match for a RANGE; and for others, whether one is given. The name of a link
    counts more than its type.
    """
    return ANY_PORT_WIDTH - width if field.kind is Kind.RANGE else width * field.weight


def strength(action: Action) -> int:
    """What the action of a match adds to its rank: the greater is the first among equals.

    An audit stands where a block would: above a permit that is equal in all else. A block that is
    equal in all else comes before it, as with that no audit is needed.
    """
    return (Action.PERMIT, Action.AUDIT, Action.BLOCK).index(action)


def rank(
    narrow: Mapping[str, int],
    *,
    protected: bool,
    volatile: bool,
    action: Action,
    before_translation: bool = False,
) -> Rank:
    """The rank of one match. Of all matches of a packet, the one with the greatest rank decides.

    `narrow` says how narrow the match is in each field, by its name (see ``narrowness``). Ranks of
    one IP version compare as tuples. What is `protected` by the settings outranks all that is not.
    `before_translation` says that a permit matches a
    forwarded packet as it was before its source became an address of this host: a filter that names
    the container means the packet more than one that names this host. Raises ``KeyError`` for a
    field that is left out.
    """
    return (
        int(protected),
        *(sum(narrow[name] for name in names) for names in _FIELDS_OF),
        int(volatile),
        _BEFORE_TRANSLATION if before_translation else strength(action),
    )


def place(shape: Mapping[str, int | str | tuple[int, str]]) -> Place:
    """The order of matches of one rank: the least explains the verdict and counts the packet.

    The verdict is the same for all of them. `shape`
    has, by the name of each field, what tables are sorted by: a prefix length, or -1 for ``me``,
    with the name of the list that has the prefix, or ""; whether a number is given; the first
    number of a range, or 0 for no range; a word, or "".
    Raises ``KeyError`` for a field that is left out.
    """
    return tuple(shape[field.name] for field in FIELDS)


def credited(origins: Iterable[Origin]) -> Origin:
    """Of rules that have the same match and action, the one that is named and counts packets."""
    return min(origins)
