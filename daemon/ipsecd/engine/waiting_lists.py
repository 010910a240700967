"""Owns which changes of lists must not be made while one of them waits to be confirmed.

Entries that are added and removed by command go on, and so do updates of feeds: they stay, as what
is put back are only those entries that the change has put or removed. What a file holds, and
whether there is a list at all, could not be told apart so.
"""

from __future__ import annotations

from ipsecd.errors import Refused
from ipsecd.quoting import quote
from ipsecd.sources.lists import ListChange, Lists
from ipsecd.sources.lists_before import ListBefore, ListsBefore


def must_not_concern(waiting: ListsBefore, change: ListChange, now: Lists) -> None:
    """Raise ``Refused`` if a list of which a change is `waiting` would be made anew or be gone."""
    for name in waiting.keys() & change.after.keys():
        old, new = now.get(name), change.after[name]
        if old is None or new is None or ListBefore.of(old, new, change.keys).file:
            raise Refused(
                f"a change of list {quote(name)} waits to be confirmed",
                "keep it with: ipsecctl confirm; or put it back now with: ipsecctl revert; "
                "meanwhile entries can be added, and those that were added removed",
            )
