"""Owns the history: every change that was made, by whom, and the policies before it.

It must not know how a change is made. Invariants:

1. Nothing here refuses or fails a change, and changes of rules and of lists wait for no disk: what
   one caller does within a second is one row, which is written later, in the line of changes.
2. The policies after a change of policies are those before the next one. Where they are not, since
   somebody has edited files meanwhile, a row of its own says so. So each such row has a state
   before it, and every state in force is in the history.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from math import inf
from pathlib import Path
from threading import Lock

from ipsecd.engine.history_words import differing_lists, what_changed
from ipsecd.engine.state import State
from ipsecd.errors import NotFound, StoreFailed
from ipsecd.log import record_bug
from ipsecd.quoting import quote
from ipsecd.sources.files import Disk
from ipsecd.sources.history_file import MAX_DOCUMENTS_BYTES, HistoryFile
from ipsecd.sources.history_rows import MOST_WHAT, Author, Kind, Manifest, Row
from ipsecd.sources.lists import Lists

MOST_ROWS = 1000
"""How many changes of policies are kept, and how many of rules and lists."""
MOST_STATES = 100
"""For how many changes of policies the documents before them are kept."""
ROW_S = 1.0
"""How long what one caller does to rules and lists goes into one row."""
PUT_BACK = "put-back"
"""Where a change comes from that puts another one back, which nobody has confirmed."""
RETRY_S = 5.0
"""The time between two tries to write what could not be."""


@dataclass(frozen=True, slots=True)
class Moment:
    """All that a change may change, as it is at one moment."""

    state: State
    lists: Lists

    def is_same(self, later: Moment) -> bool:
        """Whether nothing was put in the place of anything until a `later` moment."""
        was, is_ = self.state, later.state
        return (
            was.dynamic is is_.dynamic
            and was.quarantines is is_.quarantines
            and was.loaded is is_.loaded
            and was.domain is is_.domain
            and self.lists is later.lists
        )

    @property
    def manifest(self) -> Manifest:
        """The policies."""
        domain = self.state.domain
        return Manifest.of(self.state.loaded, domain.stored if domain else None)

    def has_other_policies(self, later: Moment) -> bool:
        """Whether the policies of a `later` moment are others."""
        was, is_ = self.state, later.state
        # This is asked whenever a list changes, and there may be thousands of policies.
        is_same = was.loaded is is_.loaded and was.domain is is_.domain
        return not is_same and self.manifest != later.manifest

    @property
    def texts(self) -> dict[str, str]:
        """The documents of all policies by SHA-256."""
        domain = self.state.domain
        of_domain = [domain.stored] if domain and domain.stored else []
        stored = chain(self.state.loaded.policies.values(), of_domain)
        texts = {each.digest: each.text for each in stored}
        shared = self.state.loaded.shared
        return {**texts, shared.digest: shared.text} if shared else texts


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody did: by which method, and what of it a state does not show.

    ``kind`` is RULES for what changes rules alone, and OTHER for what counts although it changes
    neither rules, lists nor policies; else None.
    """

    source: str
    method: str
    author: Author = Author()  # noqa: RUF009 - it is immutable
    message: str = ""
    kind: Kind | None = None
    what: tuple[str, ...] = ()
    put: int = 0
    removed: int = 0


def found_at(occasion: str) -> Deed:
    """What nobody is known to have done, and was found when something else was done."""
    return Deed(occasion, occasion, what=(f"found at the {occasion}",))


class History:
    """All rows, and how they get on disk."""

    def __init__(
        self, directory: Path, disk: Disk | None, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` gives seconds since the epoch."""
        self._file = HistoryFile(directory, disk)
        self._clock = clock
        self._problems: tuple[str, ...] = ()
        self._is_loaded = False
        self._changes: deque[Row] = deque(maxlen=MOST_ROWS)
        self._of_rules_and_lists: deque[Row] = deque(maxlen=MOST_ROWS)
        self._open: dict[tuple[object, ...], Row] = {}
        self._unsaved: deque[Row] = deque(maxlen=2 * MOST_ROWS)
        self._last_number = 0
        self._retry_at = 0.0
        self._lock = Lock()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the history, in words."""
        failure = self._file.failure
        if not failure:
            return self._problems
        hint = "look at the free space; what happens meanwhile is written when it can be"
        return (*self._problems, f"the history cannot be written: {failure}\n  hint: {hint}")

    # -- what happens ----------------------------------------------------------------------------

    def begin(self, now: Moment, put_back: str = "") -> None:
        """Read the history, and note what the files hold if it is not what they held last.

        `put_back` says in words what was put back just before, if anything was.
        """
        if not self._is_loaded:
            self._is_loaded = True
            rows, self._problems = self._file.load()
            for row in rows:
                self._deque_of(row).append(row)
                self._last_number = row.number
            self._forget_old_states()
        # What could not be read is not gone.
        if not now.state.held and not isinstance(now.state.loaded.assigned_error, StoreFailed):
            found = Deed(PUT_BACK, PUT_BACK, what=(put_back,)) if put_back else found_at("start")
            self._guarded(lambda: self._note_found(now, found))

    def note(
        self, before: Moment, after: Moment, make_deed: Callable[[], Deed], *, counts: bool = False
    ) -> None:
        """Note what was done between two moments, if it changed anything, or `counts` anyway."""
        if counts or not before.is_same(after):
            self._guarded(lambda: self._note(before, after, make_deed()))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - what is done is done, whether it is noted or not
            record_bug("history-not-kept", error)

    def _note(self, before: Moment, after: Moment, deed: Deed) -> None:
        if deed.kind is Kind.RULES:
            # Another map may hold the same rules.
            if deed.put or deed.removed:
                self._merge(self._row(deed, Kind.RULES))
            return
        lists = differing_lists(before.lists, after.lists)
        if before.has_other_policies(after):
            self._note_found(before, found_at("change"), begins=True)
            row = replace(
                self._row(deed, Kind.POLICIES),
                what=(
                    *what_changed(before.manifest, after.manifest, before.state, after.state),
                    *deed.what,
                ),
                lists=lists,
                digest_before=before.state.classifier.digest,
                digest_after=after.state.classifier.digest,
                after=after.manifest,
            )
            self._add(row, before, after)
        elif lists:
            self._merge(replace(self._row(deed, Kind.LISTS), lists=lists))
        elif deed.kind is Kind.OTHER:
            self._add(self._row(deed, Kind.OTHER))
        elif deed.put or deed.removed:
            self._merge(self._row(deed, Kind.RULES))

    def _note_found(self, now: Moment, deed: Deed, *, begins: bool = False) -> None:
        """Have a row for `now` if it is not what the last change of policies has left.

        The history `begins` with a row even if nothing is stored, so that the first can be undone.
        """
        last, manifest = self._last_manifest(), now.manifest
        if manifest == (Manifest() if last is None and not begins else last):
            return
        what = (
            what_changed(last, manifest, None, now.state) if last else ("the history begins here",)
        )
        row = self._row(deed, Kind.POLICIES)
        digest = now.state.classifier.digest
        row = replace(row, what=(*deed.what, *what), digest_after=digest, after=manifest)
        self._add(row, now, now)

    def _last_manifest(self) -> Manifest | None:
        rows = (row for row in reversed(self._changes) if row.kind is Kind.POLICIES)
        last = next(rows, None)
        return last.after if last else None

    def _row(self, deed: Deed, kind: Kind) -> Row:
        with self._lock:
            self._last_number += 1
            return Row(
                self._last_number,
                self._clock(),
                kind,
                deed.source,
                deed.method,
                deed.author,
                deed.message,
                deed.what,
                put=deed.put,
                removed=deed.removed,
            )

    def _merge(self, row: Row) -> None:
        """Put a row together with what its author did just before, if that is not over yet."""
        who = row.author
        author = (who.uid, who.user, who.login_uid, who.login_user, who.sudo_user, who.command)
        key = (row.kind, row.source, row.method, author, row.message)
        with self._lock:
            earlier = self._open.get(key)
            if earlier is None:
                if len(self._open) >= MOST_ROWS:
                    self._close_rows(older_than=inf)
                self._open[key] = replace(row, what=row.what[:MOST_WHAT])
            else:
                self._open[key] = earlier.with_more(row)

    def _add(self, row: Row, *moments: Moment) -> None:
        """Have a row on disk, with the documents of the `moments` before it."""
        for moment in moments:
            self._file.keep(moment.texts)
        with self._lock:
            self._close_rows(older_than=inf)
            self._changes.append(row)
            self._unsaved.append(row)
            if row.after:
                self._forget_old_states()
        self._save(durable=True)
        self._file.drop_all_but(self._documents_kept())

    def _deque_of(self, row: Row) -> deque[Row]:
        is_small = row.kind in {Kind.RULES, Kind.LISTS}
        return self._of_rules_and_lists if is_small else self._changes

    def _forget_old_states(self) -> None:
        """Take the policies out of rows that are so old that no documents are kept for them."""
        states = 0
        for at in range(len(self._changes) - 1, -1, -1):
            row = self._changes[at]
            if row.kind is Kind.POLICIES:
                states += 1
                if states > MOST_STATES + 1:
                    if row.after is None:
                        break
                    self._changes[at] = replace(row, after=None)

    def _documents_kept(self) -> frozenset[str]:
        """The documents of the policies now, and before as many changes as there is room for."""
        kept: set[str] = set()
        total = 0
        for at, manifest in enumerate(self._manifests()):
            new = manifest.digests - kept
            total += sum(map(self._file.size, new)) if at else 0
            if at > 1 and total > MAX_DOCUMENTS_BYTES:
                break
            kept |= new
        return frozenset(kept)

    def _manifests(self) -> Iterator[Manifest]:
        """The policies now, before the last change, before the last but one, and so on."""
        with self._lock:
            rows = [row for row in reversed(self._changes) if row.kind is Kind.POLICIES]
        for row in rows:
            if row.after is None:
                return
            yield row.after

    # -- writing ---------------------------------------------------------------------------------

    def due_in(self) -> float | None:
        """In how many seconds ``flush`` has something to do; None if never. For any thread."""
        with self._lock:
            if not self._open and not self._unsaved and not self._file.lacks_documents:
                return None
            begun = min((row.at for row in self._open.values()), default=self._retry_at - ROW_S)
            # The clock may have been set back meanwhile.
            return min(max(0.0, begun + ROW_S - self._clock()), RETRY_S)

    def flush(self, *, all_rows: bool = False) -> None:
        """Write the rows that are over, or all; nothing waits for the disk to have them."""
        now = self._clock()
        if self._file.lacks_documents:
            self._file.keep()
            self._retry_at = now + RETRY_S
        with self._lock:
            self._close_rows(inf if all_rows else now - ROW_S)
            if not self._unsaved:
                return
        self._save(durable=False)

    def _close_rows(self, older_than: float) -> None:
        over = [key for key, row in self._open.items() if not older_than < row.at <= self._clock()]
        for row in sorted((self._open.pop(key) for key in over), key=lambda row: row.number):
            self._of_rules_and_lists.append(row)
            self._unsaved.append(row)

    def _save(self, *, durable: bool) -> None:
        with self._lock:
            rows = list(self._unsaved)
            kept = sorted((*self._changes, *self._of_rules_and_lists), key=lambda row: row.number)
        if self._file.add(rows, kept, durable=durable):
            saved = {row.number for row in rows}
            with self._lock:
                unsaved = [row for row in self._unsaved if row.number not in saved]
                self._unsaved.clear()
                self._unsaved.extend(unsaved)
        else:
            self._retry_at = self._clock() + RETRY_S

    # -- questions, for any thread ---------------------------------------------------------------

    def listed(self, now: Moment) -> list[tuple[Row, int | None]]:
        """All rows, the newest first.

        A change of policies has the number of the state before it, if that can still be shown.
        """
        here = now.texts.keys()
        with self._lock:
            rows = [*self._changes, *self._of_rules_and_lists, *self._open.values()]
        rows.sort(key=lambda row: row.number, reverse=True)
        before = list(self._manifests())[1:]
        listed: list[tuple[Row, int | None]] = []
        states = 0
        for row in rows:
            states += row.kind is Kind.POLICIES
            has_state = row.kind is Kind.POLICIES and states <= len(before)
            has_state = has_state and all(
                digest in here or self._file.size(digest) for digest in before[states - 1].digests
            )
            listed.append((row, states if has_state else None))
        return listed

    @property
    def states(self) -> int:
        """How many states there are, with that of now."""
        return len(list(self._manifests()))

    def manifest(self, states_ago: int) -> Manifest:
        """The policies before as many changes of policies; raises ``NotFound``."""
        manifests = list(self._manifests())
        if not 0 <= states_ago < len(manifests):
            known = len(manifests) - 1
            raise NotFound(
                f"the history has no state @{states_ago}",
                f"it goes back to @{known}" if known > 0 else "no policy has changed yet",
            )
        return manifests[states_ago]

    def documents(self, manifest: Manifest, now: Moment) -> dict[str, str]:
        """The text of each file of a state, by its path; raises ``NotFound``."""
        texts = now.texts
        documents = {}
        for path, (name, digest) in manifest.files.items():
            text = texts.get(digest) or self._file.document(digest)
            if text is None:
                what = f"document that policy {quote(name)}" if name else "filter lists that it"
                raise NotFound(
                    f"the {what} had then is not kept any more",
                    "ipsecctl history numbers the states that can be shown",
                )
            documents[path] = text
        return documents
