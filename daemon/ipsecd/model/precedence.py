"""Owns the order of precedence between filters, and nothing else; nothing after it knows it."""

from __future__ import annotations

from ipsecd.model.values import MAX_PORT, Action

Rank = tuple[int, int, int, int, int, int, int, int]

ANY_PORT_WIDTH = MAX_PORT + 1


def rank(
    *,
    source_bits: int,
    destination_bits: int,
    protocol_given: bool,
    destination_width: int,
    source_width: int,
    interface_given: bool,
    process_given: bool = False,
    volatile: bool,
    action: Action,
    before_translation: bool = False,
) -> Rank:
    """The rank of one match; of those that match a packet the greatest decides.

    `source_bits` and `destination_bits` are prefix lengths, in which a host and ``me`` count as
    the full length and any address as 0. The widths count ports: 1 for a single port,
    ``ANY_PORT_WIDTH`` for any. Ranks of one IP version compare as tuples. `before_translation`
    says that the match is of a permit with what a forwarded packet was before it left as this
    host's: who names a container means it more than who names the host that it leaves as.
    """
    return (
        source_bits + destination_bits,
        int(protocol_given),
        -destination_width,
        -source_width,
        int(interface_given),
        int(process_given),
        int(volatile),
        2 if before_translation else int(action is Action.BLOCK),
    )
