"""Owns the one case in which XDP needs nftables beside it, and keeps the two in step.

A permit that names the source of a forwarded packet keeps its rank against a block of what
leaves as this host's only if the addresses before source translation are known. Connection
tracking knows them and the tc programs do not, so for such a policy nftables judges what leaves
(``Point.LEAVING``) and the programs judge the rest. Packets are never judged by neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from ipsecd.backend.base import Count, Observation
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.backend.xdp.program import needs_translation
from ipsecd.compiler.classifier import Classifier, Ranked
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.errors import IpsecdError
from ipsecd.model.packets import Point
from ipsecd.model.values import Family, Origin

Key = TypeVar("Key")
ALL = frozenset(Point)
ONLY_LEAVING = frozenset({Point.LEAVING})


class XdpWithNftables:
    """XDP and tc, and nftables beside them where a policy needs it."""

    name = "xdp"

    def __init__(
        self, xdp: XdpBackend, nftables: Callable[[], NftablesBackend] = NftablesBackend
    ) -> None:
        """`nftables` is called when it is first needed."""
        self._xdp = xdp
        self._make_nftables = nftables
        self._nftables: NftablesBackend | None = None
        self._classifier: Classifier | None = None

    def probe(self) -> tuple[str, ...]:
        """How packets are caught, and whether nftables judges what leaves."""
        beside = ("nftables for what leaves after source translation",)
        return self._xdp.probe() + (beside if self._nftables else ())

    def check(self, classifier: Classifier) -> None:
        """Raise ``LimitExceeded`` for what XDP cannot do."""
        self._xdp.check(classifier)

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Put the whole state in force; nftables first where it is needed, last where it goes."""
        before = self._classifier
        added = self._begin(classifier, volatile)
        try:
            self._xdp.apply(classifier, volatile)
        except BaseException:
            self._go_back(before, volatile, added=added)
            raise
        first = self._classifier is None
        self._classifier = classifier
        if first and not self._nftables:
            self._withdraw_left_table()
        self._end(volatile)

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Change the dynamic rules in both; they may bring nftables in or let it go."""
        assert self._classifier is not None
        was_beside = self._nftables is not None
        added = False
        if was_beside and _needed(self._classifier, volatile):
            assert self._nftables is not None
            self._nftables.change(delta, volatile)
        else:
            added = self._begin(self._classifier, volatile)
        try:
            self._xdp.change(delta, volatile)
        except BaseException:
            if added:
                self._go_back(self._classifier, volatile, added=True)
            elif self._nftables and _needed(self._classifier, volatile):
                self._nftables.change(delta.reversed(), volatile)
            raise
        self._end(volatile)

    def observe(self) -> Observation:
        """Read back both."""
        seen = self._xdp.observe()
        if self._classifier is None and seen.digest is None:
            return self._observe_left_table()
        beside = self._nftables.observe().drift if self._nftables else ()
        return replace(seen, drift=seen.drift + beside)

    def adopt(self) -> None:
        """Nothing to do for programs; a table that is left is judged by until there is a policy."""
        self._xdp.adopt()

    def remove(self) -> None:
        """Withdraw everything."""
        self._xdp.remove()
        self._drop_nftables()
        self._classifier = None

    def close(self) -> None:
        """Let go of both and leave them in force."""
        self._xdp.close()
        if self._nftables:
            self._nftables.close()

    def counts(self) -> Mapping[Origin, Count]:
        """What every rule has matched, in both."""
        return _sum(self._xdp.counts(), self._nftables.counts() if self._nftables else {})

    def volatile_counts(self) -> Mapping[tuple[TableId, bytes], Count]:
        """What every dynamic entry has matched, in both."""
        beside = self._nftables.volatile_counts() if self._nftables else {}
        return _sum(self._xdp.volatile_counts(), beside)

    def unparsable(self) -> int:
        """How many frames could not be read; what leaves is not judged by that."""
        return self._xdp.unparsable()

    def watch_fd(self) -> int:
        """That of the programs: it is readable once a second, which is enough for both."""
        return self._xdp.watch_fd()

    def changed(self) -> bool:
        """Follow interfaces and addresses; whether a look at the rest is due."""
        return self._xdp.changed()

    # -- inside ----------------------------------------------------------------------------------

    def _begin(self, classifier: Classifier, volatile: Volatile) -> bool:
        """Have nftables judge what leaves, if it must; whether it did not before."""
        if not _needed(classifier, volatile):
            self._xdp.points = ALL
            return False
        added = self._nftables is None
        beside = self._nftables or self._make_nftables()
        beside.points = ONLY_LEAVING
        try:
            beside.apply(_leaving(classifier), volatile)
        except BaseException:
            if added:
                beside.close()
            raise
        self._nftables = beside
        self._xdp.points = ALL - ONLY_LEAVING
        return added

    def _end(self, volatile: Volatile) -> None:
        """Let nftables go if it is no longer needed."""
        assert self._classifier is not None
        if self._nftables and not _needed(self._classifier, volatile):
            self._drop_nftables()

    def _go_back(self, before: Classifier | None, volatile: Volatile, *, added: bool) -> None:
        if added:
            self._drop_nftables()
            self._xdp.points = ALL
        elif self._nftables and before is not None:
            self._nftables.apply(_leaving(before), volatile)
            self._xdp.points = ALL - ONLY_LEAVING

    def _withdraw_left_table(self) -> None:
        """Remove the table of an earlier process that used nftables."""
        with suppress(IpsecdError, OSError):
            left = self._make_nftables()
            left.remove()
            left.close()

    def _observe_left_table(self) -> Observation:
        try:
            left = self._make_nftables()
        except (IpsecdError, OSError):
            return Observation(None)
        try:
            return left.observe()
        finally:
            left.close()

    def _drop_nftables(self) -> None:
        if self._nftables:
            self._nftables.remove()
            self._nftables.close()
            self._nftables = None


def _needed(classifier: Classifier, volatile: Volatile) -> bool:
    tables: list[Ranked] = [*classifier.tables, *volatile.tables]
    return any(needs_translation(tables, family) for family in Family)


def _leaving(classifier: Classifier) -> Classifier:
    """The part of the policy that what leaves is judged by."""
    tables = tuple(table for table in classifier.tables if Point.LEAVING in table.id.points)
    return replace(classifier, tables=tables)


def _sum(one: Mapping[Key, Count], other: Mapping[Key, Count]) -> dict[Key, Count]:
    keys: Iterable[Key] = one.keys() | other.keys()
    return {key: one.get(key, Count()) + other.get(key, Count()) for key in keys}
