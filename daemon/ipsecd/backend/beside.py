"""Owns what XDP needs nftables beside it for, and keeps the two in step.

1. A permit that names the source of a forwarded packet keeps its rank against a block of what
   leaves as this host's only if the addresses before source translation are known. Connection
   tracking knows them and the tc programs do not: then nftables judges ``Point.LEAVING``.
2. What this host sends is judged as it is sent. Where somebody translates its destination, the tc
   programs would see another, and nowhere do they know the sender: then nftables judges
   ``Point.SENDING``.
3. An interface has no program in its first moments, and the programs do not know an address in
   its first moments: the gate drops what meets no program, and what they cannot judge.

Packets are never judged by neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ipsecd.backend.base import Count, Observation
from ipsecd.backend.gate import Gate, Known
from ipsecd.backend.nftables import cgroups
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.reading import translates_output
from ipsecd.backend.nftables.wire import KernelError, NftSocket
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.backend.xdp.program import needs_translation
from ipsecd.compiler.classifier import Classifier, Ranked
from ipsecd.compiler.tables import ME, TableId
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.errors import IpsecdError
from ipsecd.host import HostState
from ipsecd.model.packets import Point
from ipsecd.model.values import Action, Family, Origin

Key = TypeVar("Key")
ALL = frozenset(Point)
NOWHERE: frozenset[Point] = frozenset()
LEGACY_TABLES = (Path("/proc/self/net/ip_tables_names"), Path("/proc/self/net/ip6_tables_names"))
"""The tables of x_tables that are loaded in this network namespace, one on each line."""

_WORDS = {
    Point.SENDING: "nftables for what this host sends, by its sender and before translation",
    Point.LEAVING: "nftables for what leaves after source translation",
}


class XdpWithNftables:
    """XDP and tc, and nftables beside them where a policy or the host needs it."""

    name = "xdp"

    def __init__(
        self,
        xdp: XdpBackend,
        nftables: Callable[[], NftablesBackend] = NftablesBackend,
        gate: Callable[[], Gate] = Gate,
    ) -> None:
        """`nftables` and `gate` are called when they are first needed."""
        self._xdp = xdp
        xdp.before_news = self._narrow_gate
        self._make_nftables = nftables
        self._make_gate = gate
        self._nftables: NftablesBackend | None = None
        self._gate: Gate | None = None
        self._adopted: list[NftablesBackend | Gate] = []
        self._classifier: Classifier | None = None
        self._volatile = Volatile()
        self._is_output_translated = False
        self._trouble = ""

    def probe(self) -> tuple[str, ...]:
        """How packets are caught, and what nftables does beside."""
        points = self._nftables.points if self._nftables else NOWHERE
        beside = tuple(text for point, text in _WORDS.items() if point in points)
        gate = (
            ("new interfaces and addresses pass nothing until the programs know them",)
            if self._gate
            else ()
        )
        trouble = (self._trouble,) if self._trouble else ()
        return self._xdp.probe() + beside + gate + trouble

    def check(self, classifier: Classifier) -> None:
        """Raise ``LimitExceeded`` or ``Refused`` for what neither can do."""
        self._xdp.check(classifier)
        cgroups.require(classifier.tables)

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Put the whole state in force; nftables first where it is needed, last where it goes."""
        self._let_go()
        before = self._classifier
        self._is_output_translated = _is_output_translated()
        wanted = self._points(classifier, volatile)
        old = self._judge_beside(wanted, classifier, volatile)
        self._xdp.points = ALL - wanted
        try:
            self._xdp.apply(classifier, volatile)
        except BaseException:
            self._go_back(old, before, volatile)
            raise
        self._classifier, self._volatile = classifier, volatile
        if before is None:
            self._withdraw_what_is_left()
        self._end(wanted)

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Change the dynamic rules in both; they may bring nftables in or let it go."""
        assert self._classifier is not None
        wanted = self._points(self._classifier, volatile)
        old = self._nftables.points if self._nftables else NOWHERE
        if self._nftables:
            # A table that is there takes over no dynamic rules when it is applied anew.
            self._nftables.change(delta, volatile)
        try:
            if wanted != old:
                self._judge_beside(wanted, self._classifier, volatile)
            self._xdp.points = ALL - wanted
            self._xdp.change(delta, volatile)
        except BaseException:
            self._xdp.points = ALL - old
            if not old:
                self._drop_nftables()
            elif self._nftables:
                self._nftables.change(delta.reversed(), volatile)
            raise
        self._volatile = volatile
        self._end(wanted)

    def observe(self) -> Observation:
        """Read back all of it."""
        seen = self._xdp.observe()
        if self._classifier is None and seen.digest is None:
            return self._observe_left_table()
        beside = self._nftables.observe().drift if self._nftables else ()
        gate = self._gate.drift() if self._gate else ()
        return replace(seen, drift=seen.drift + beside + gate)

    def adopt(self) -> None:
        """Own the tables that were left, so that nobody can flush them; programs stay attached."""
        self._xdp.adopt()
        with suppress(IpsecdError, OSError):
            left = self._make_nftables()
            self._adopted.append(left)
            if left.observe().digest is not None:
                left.adopt()
        with suppress(IpsecdError, OSError):
            gate = self._make_gate()
            self._adopted.append(gate)
            gate.adopt()

    def _let_go(self) -> None:
        """Leave the tables that were adopted to whoever enforces next."""
        for one in self._adopted:
            one.close()
        self._adopted.clear()

    def remove(self) -> None:
        """Withdraw everything."""
        self._let_go()
        with suppress(IpsecdError, OSError):
            gate = self._gate or self._make_gate()
            gate.remove()
            gate.close()
        self._gate = None
        self._xdp.remove()
        self._drop_nftables()
        self._classifier = None

    def close(self) -> None:
        """Let go of all of it and leave it in force."""
        self._let_go()
        self._xdp.close()
        if self._nftables:
            self._nftables.close()
        if self._gate:
            self._gate.close()

    def counts(self) -> Mapping[Origin, Count]:
        """What every rule has matched, in both."""
        return _sum(self._xdp.counts(), self._nftables.counts() if self._nftables else {})

    def volatile_counts(self) -> Mapping[tuple[TableId, bytes], Count]:
        """What every dynamic entry has matched, in both."""
        beside = self._nftables.volatile_counts() if self._nftables else {}
        return _sum(self._xdp.volatile_counts(), beside)

    def unparsable(self) -> int:
        """How many packets could not be read; what leaves is not judged by that."""
        return self._xdp.unparsable() + (self._nftables.unparsable() if self._nftables else 0)

    def is_stale(self) -> bool:
        """Whether a service that a rule names has been started or stopped."""
        return self._nftables is not None and self._nftables.is_stale()

    def watch_fd(self) -> int:
        """That of the programs: it is readable once a second, which is enough for both."""
        return self._xdp.watch_fd()

    def changed(self) -> bool:
        """Follow interfaces, addresses and translation; whether a look at the rest is due."""
        due = self._xdp.changed()
        if self._classifier is not None:
            self._follow_gate()
            self._is_output_translated = _is_output_translated()
            now = self._nftables.points if self._nftables else NOWHERE
            if self._points(self._classifier, self._volatile) != now:
                try:
                    self.apply(self._classifier, self._volatile)
                except (IpsecdError, OSError) as error:
                    self._trouble = f"NOT YET BESIDE NFTABLES ({error})"
        return due

    # -- inside ----------------------------------------------------------------------------------

    def _points(self, classifier: Classifier, volatile: Volatile) -> frozenset[Point]:
        """Where nftables must judge."""
        tables: list[Ranked] = [*classifier.tables, *volatile.tables]
        found = set()
        if any(needs_translation(tables, family) for family in Family):
            found.add(Point.LEAVING)
        sending = [t for t in tables if Point.SENDING in t.id.points]
        if (self._is_output_translated and sending) or any(t.id.process for t in sending):
            found.add(Point.SENDING)
        return frozenset(found)

    def _judge_beside(
        self, wanted: frozenset[Point], classifier: Classifier, volatile: Volatile
    ) -> frozenset[Point]:
        """Have nftables judge at the points `wanted` and where it does; where it did."""
        old = self._nftables.points if self._nftables else NOWHERE
        if wanted | old:
            self._set_nftables(wanted | old, classifier, volatile)
        return old

    def _set_nftables(
        self, points: frozenset[Point], classifier: Classifier, volatile: Volatile
    ) -> None:
        beside = self._nftables or self._make_nftables()
        before, beside.points = beside.points, points
        try:
            beside.apply(_part(classifier, points), volatile)
        except BaseException:
            beside.points = before
            if beside is not self._nftables:
                beside.close()
            raise
        self._nftables = beside

    def _end(self, wanted: frozenset[Point]) -> None:
        """Let nftables go from where it is no longer needed; set the gate; no failure counts."""
        assert self._classifier is not None
        self._trouble = ""
        try:
            if self._nftables and not wanted:
                self._drop_nftables()
            elif self._nftables and self._nftables.points != wanted:
                self._set_nftables(wanted, self._classifier, self._volatile)
        except (IpsecdError, OSError) as error:
            # Judging a packet twice by the same rules changes no verdict.
            self._trouble = f"nftables stays beside ({error})"
        self._follow_gate()

    def _go_back(
        self, old: frozenset[Point], before: Classifier | None, volatile: Volatile
    ) -> None:
        self._xdp.points = ALL - old
        if not old:
            self._drop_nftables()
        elif before is not None:
            self._set_nftables(old, before, volatile)

    def _follow_gate(self) -> None:
        """Gate what has no programs, while anything is blocked."""
        assert self._classifier is not None
        tables: list[Ranked] = [*self._classifier.tables, *self._volatile.tables]
        try:
            if any(table.id.action is Action.BLOCK for table in tables):
                self._gate = self._gate or self._make_gate()
                self._gate.close_but_for(self._known(tables))
            elif self._gate:
                self._gate.remove()
                self._gate.close()
                self._gate = None
        except (IpsecdError, OSError) as error:
            self._trouble = (
                f"new interfaces and addresses are NOT COVERED in their first moments ({error})"
            )

    def _narrow_gate(self, state: HostState) -> None:
        """Take away from the gate the addresses that the programs are about to forget."""
        if self._gate:
            try:
                self._gate.forget_addresses(state.host.addresses)
            except (IpsecdError, OSError) as error:
                self._trouble = f"the gate does not follow the addresses ({error})"

    def _known(self, tables: Iterable[Ranked]) -> Known:
        """What the programs judge rightly; addresses count only where a filter names ``me``."""
        state = self._xdp.known
        if state is None or not any(ME in (t.id.source, t.id.destination) for t in tables):
            return Known(self._xdp.covered)
        return Known(self._xdp.covered, state.host.addresses, state.local_networks)

    def _withdraw_what_is_left(self) -> None:
        """Take over the gate of an earlier process, and remove its table if it is not used."""
        with suppress(IpsecdError, OSError):
            self._gate = self._make_gate()
        if self._nftables:
            return
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


def _is_output_translated() -> bool:
    """Whether somebody may translate what this host sends, by nftables or by x_tables."""
    for names in LEGACY_TABLES:
        with suppress(OSError):
            if "nat" in names.read_text(encoding="ascii").split():
                return True
    try:
        socket = NftSocket()
    except OSError:
        return False
    try:
        return translates_output(socket)
    except KernelError:
        return False
    finally:
        socket.close()


def _part(classifier: Classifier, points: frozenset[Point]) -> Classifier:
    """The part of the policy that what passes at `points` is judged by."""
    tables = tuple(table for table in classifier.tables if points & table.id.points)
    return replace(classifier, tables=tables)


def _sum(one: Mapping[Key, Count], other: Mapping[Key, Count]) -> dict[Key, Count]:
    keys: Iterable[Key] = one.keys() | other.keys()
    return {key: one.get(key, Count()) + other.get(key, Count()) for key in keys}
