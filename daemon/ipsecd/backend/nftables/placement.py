"""Owns moving the ranking of a point between its two places, so that every packet meets it.

Where rules ask whether a packet opens a connection, the whole ranking of that point stands in a
base chain just behind connection tracking; else in one before it, and then the base chain behind
is not there. A packet that is between the two places while the ranking moves could miss it. So:

1. Before the ranking moves behind connection tracking, the base chain there is created, and every
   packet that could not meet it has gone. A packet that was judged by the old rules before is then
   judged by the new ones as well, and no packet by neither.
2. Before the base chain behind is deleted, the new ranking stands at both places, until every
   packet that has not met it before connection tracking has met it behind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from ipsecd.backend.grace import wait_for_packets
from ipsecd.backend.nftables import expressions as ex
from ipsecd.backend.nftables import messages as nft
from ipsecd.backend.nftables import transactions as tx
from ipsecd.backend.nftables.looks import Ruleset
from ipsecd.backend.nftables.naming import TABLE, TRACKED, TRACKED_HOOKS
from ipsecd.backend.nftables.wire import Message
from ipsecd.errors import IpsecdError
from ipsecd.model.packets import Point

Render = Callable[[frozenset[Point]], Ruleset]
"""Makes the rules; at the points that it is given they stand before and behind."""
Commit = Callable[[list[Message]], None]


def replace_rules(
    commit: Commit,
    present: Collection[str],
    steps: Sequence[Message],
    render: Render,
    mark: str,
    after: Sequence[Message] = (),
) -> list[str]:
    """Carry out `steps`, replace the rules in the chains that are `present`, and then do `after`.

    Returns the chains that are there then. All of it is one transaction, unless the ranking of a
    point moves. Raises what `commit` raises; then nothing has changed.
    """
    wanted_rules = render(frozenset())
    wanted = wanted_rules.chains.keys() & TRACKED_HOOKS.keys()
    there = TRACKED_HOOKS.keys() & set(present)
    created: list[str] = sorted(wanted - there) if present else []
    if created:
        commit([step for name in created for step in _begin(name)])
        wait_for_packets()
    leaving = frozenset(point for point, name in TRACKED.items() if name in there - wanted)
    ruleset = render(leaving) if leaving else wanted_rules
    try:
        replacing = tx.replace_rules(ruleset, mark, [*present, *created])
        commit([*steps, *replacing, *after])
    except IpsecdError:
        if created:
            with suppress(IpsecdError):
                commit([nft.delete_chain(TABLE, name) for name in created])
        raise
    chains = [*ruleset.chains, mark]
    if leaving:
        wait_for_packets()
        # If this fails, the ranking stands at both places, which the next change mends.
        with suppress(IpsecdError):
            commit(tx.replace_rules(wanted_rules, mark, chains))
            chains = [*wanted_rules.chains, mark]
    return chains


def _begin(name: str) -> list[Message]:
    """Create a base chain behind connection tracking, which is on from then on."""
    return [tx.new_chain(name), nft.new_rule(TABLE, name, ex.tracked(ex.CT_STATE), "")]
