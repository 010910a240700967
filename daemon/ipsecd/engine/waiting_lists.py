"""Owns what other changes of lists do to one that waits to be confirmed.

Entries that are added and removed by command go on, and so do updates of feeds: they stay, as what
is put back are only those entries that the change has put or removed, and that nobody else has put
or removed since. What a file holds, and whether there is a list at all, could not be told apart so.
"""

from __future__ import annotations

from dataclasses import replace

from ipsecd.errors import Refused
from ipsecd.quoting import quote
from ipsecd.sources.lists import ListChange, Lists
from ipsecd.sources.lists_before import ListBefore, ListsBefore


def still_waiting(waiting: ListsBefore, change: ListChange, now: Lists) -> ListsBefore:
    """What is still put back of lists once another `change` of lists is made; `waiting` if all is.

    Raises ``Refused`` if a list of which a change is `waiting` would be made anew or be gone.
    """
    left = dict(waiting)
    for name in waiting.keys() & change.after.keys():
        old, new = now.get(name), change.after[name]
        if old is None or new is None or ListBefore.of(old, new, change.keys).file:
            raise Refused(
                f"a change of list {quote(name)} waits to be confirmed",
                "keep it with: ipsecctl confirm; or put it back now with: ipsecctl revert; "
                "meanwhile entries can be added, and those that were added removed",
            )
        ends = waiting[name].ends
        # Who adds an entry again may give it the end that it has: it is his entry then, too.
        if not ends.keys().isdisjoint(change.keys):
            others = {key: both for key, both in ends.items() if key not in change.keys}
            left[name] = replace(waiting[name], ends=others)
    return waiting if left == waiting else left
