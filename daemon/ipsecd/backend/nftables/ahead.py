"""Owns the sets of a list that are filled while its text is still being read; must not know texts.

It takes the kernel longer to fill sets than it takes us to read what goes into them, so it begins
with the first entries. No rule uses these sets: they are taken if they hold what is wanted in the
end, and deleted if not. Invariants:

1. A set is given away only if it holds the entries of its form of the list that was read, and
   these are the entries that are wanted. That is compared, entry by entry.
2. What fails here is no failure of a change: the sets are made in the ordinary way then, and that
   says what is wrong.
3. A list that differs little from what the kernel holds is left to be changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from queue import Queue
from threading import Thread

from ipsecd.backend.nftables import contents
from ipsecd.backend.nftables.early import LARGE
from ipsecd.backend.nftables.lists import (
    IN_PLACE,
    ListForm,
    ListSet,
    ListSets,
    additions,
    empty_set,
    least_size,
)
from ipsecd.backend.nftables.wire import Message
from ipsecd.errors import IpsecdError
from ipsecd.model.lists import AddressList, Form

LEAST_BYTES = 1 << 20
"""A shorter text is read before filling sets with it would have begun."""
LISTS_AT_ONCE = 3
"""How many lists of elements go into one transaction, which takes some five milliseconds. A piece
of addresses fills five, and between two transactions the kernel waits for us."""
WAITING = 64
"""So many pieces may wait for the kernel; each is what a quarter of a MiB of text holds."""
SAMPLE = 256
"""So many of the first entries of a form are looked for in the set there is."""
SURELY_MANY = 4 * IN_PLACE
"""From so many new entries on, as these let expect, a set is filled anew. If it need not have been,
that has cost time of the kernel and nothing else."""


class ListAhead:
    """Fills sets, in a thread of its own, with the entries of one list as they are read."""

    def __init__(
        self,
        name: str,
        size: int,
        held: ListSets,
        make: Callable[[ListForm, int], ListSet],
        commit: Callable[[list[Message]], bool],
        discard: Callable[[], None],
    ) -> None:
        """`size` is that of the text of list `name` in bytes, and `held` are the sets there are.

        `make` gives a new set with room for so many entries. `commit` carries out a transaction,
        and returns False if the sets have been given up meanwhile. `discard` deletes all of them
        that are not in force. The three may be called in any thread.
        """
        self._name, self._left = name, size
        self._held, self._make, self._commit, self._discard = held, make, commit, discard
        self._sets: dict[ListForm, ListSet | None] = {}
        self._sent: dict[ListForm, int] = {}
        self._read: AddressList | None = None
        self._is_given_up = False
        self._bug: Exception | None = None
        self._pieces: Queue[tuple[Mapping[Form, bytes], int] | None] = Queue(WAITING)
        self._thread = Thread(target=self._fill, name="ahead", daemon=True)
        self._thread.start()

    def take(self, entries: Mapping[Form, bytes], size: int) -> None:
        """Take the entries of `size` bytes of the text, packed in any order."""
        self._pieces.put((entries, size))

    def end(self, read: AddressList) -> None:
        """Take note that all has been read, and was taken here: it is the list `read`."""
        self._read = read
        self._pieces.put(None)

    def close(self) -> None:
        """Load no more, and delete what is not in force."""
        if self._read is None:
            self._is_given_up = True
            self._pieces.put(None)
        self._thread.join()
        self._discard()

    def loaded(self, form: ListForm, members: AddressList) -> ListSet | None:
        """The set that holds the entries of this form in a list; None if there is none.

        It waits until all is loaded that was taken, and is called after ``end``.
        """
        self._thread.join()
        if self._bug:
            raise self._bug
        list_set, of_entries = self._sets.get(form), form.of_entries
        if list_set is None or self._is_given_up or self._read is None:
            return None
        if not self._read.is_same(of_entries, members):
            return None
        if list_set.size < least_size(members.count(of_entries)):
            return None
        complete = contents.complete(list_set.set_name, members.digest_of(of_entries))
        return replace(list_set, members=members) if self._commit([complete]) else None

    def _fill(self) -> None:
        """Load what is taken, piece by piece; whoever reads is never left waiting for this."""
        while piece := self._pieces.get():
            try:
                if not self._is_given_up:
                    self._load(*piece)
            except IpsecdError:
                self._is_given_up = True
            except Exception as error:  # noqa: BLE001 - it is raised where somebody waits for it
                self._is_given_up, self._bug = True, error

    def _load(self, entries: Mapping[Form, bytes], size: int) -> None:
        steps: list[Message] = []
        for of_entries, packed in entries.items():
            form, count = ListForm(self._name, *of_entries), len(packed) // of_entries.width
            if form not in self._sets:
                # As many as come of the rest of the text if that is as this part of it.
                list_set = self._begun(form, packed, count * self._left // size)
                self._sets[form], self._sent[form] = list_set, 0
                if list_set:
                    steps.append(empty_set(form, list_set))
            if list_set := self._sets[form]:
                self._sent[form] += count
                if self._sent[form] > list_set.size:
                    self._sets[form] = None
                else:
                    steps += additions(form, list_set.set_name, packed)
        self._left -= size
        for start in range(0, len(steps), LISTS_AT_ONCE):
            if not self._commit(steps[start : start + LISTS_AT_ONCE]):
                self._is_given_up = True
                return

    def _begun(self, form: ListForm, packed: bytes, expected: int) -> ListSet | None:
        """A new set for so many entries as are `expected`; None if none should be filled early."""
        if expected < LARGE:
            return None
        if old := self._held.get(form):
            step = max(len(packed) // form.width // SAMPLE, 1) * form.width
            sample = [packed[at : at + form.width] for at in range(0, len(packed), step)]
            layers = old.members.layers
            new = sum(not layers.holds(form.of_entries, entry) for entry in sample)
            if new * expected // len(sample) < SURELY_MANY:
                return None
        return self._make(form, expected)
