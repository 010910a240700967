"""Owns the pairing of nftables, which decides, with programs that drop before and after it.

Invariants:

1. nftables holds the whole ranking at every point. What no program sees, or a program cannot
   judge, is judged all the same: another link, a new address, the inside of a tunnel.
2. A program drops only what nftables would drop. Where a program cannot know that (before source
   translation, after translation of what this host sends, the sender), it does not look.
3. Programs that cannot take a state are taken away: nothing is judged by an old one, and nothing is
   opened by it. The next state is tried on them again.
4. Programs count what they drop, and nftables the rest, so that no packet counts twice.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from ipsecd.backend.base import Count, Line, Observation
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.nftables.translation import may_be_translated
from ipsecd.backend.nftables.wire import KernelError, NftSocket
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.backend.xdp.program import needs_translation
from ipsecd.compiler.classifier import Classifier, HasTableId
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.errors import IpsecdError
from ipsecd.model.addresses import Family
from ipsecd.model.packets import Point
from ipsecd.model.values import Origin
from ipsecd.progress import Tell, silent

Key = TypeVar("Key")


class NftablesWithPrograms:
    """nftables, and programs beside it."""

    def __init__(
        self,
        name: str,
        nftables: NftablesBackend,
        programs: Callable[[], XdpBackend],
        *,
        required: bool,
    ) -> None:
        """`programs` are made when they are first needed, and again after they failed.

        They are `required` where somebody asked for them: then it is a failure if there are none.
        """
        self.name = name
        self._nftables = nftables
        self._make_programs = programs
        self._required = required
        self._programs: XdpBackend | None = None
        self._classifier: Classifier | None = None
        self._volatile = Volatile()
        self._left: dict[Origin, Count] = {}
        self._trouble = ""
        self._are_left = False
        self._epoll = select.epoll()
        if (descriptor := nftables.watch_fd()) >= 0:
            self._epoll.register(descriptor, select.EPOLLIN)

    def probe(self) -> tuple[str, ...]:
        """What nftables has, how packets are caught before it, and why they are not."""
        programs = self._programs.probe() if self._programs and not self._trouble else ()
        trouble = (self._trouble,) if self._trouble else ()
        return (*self._nftables.probe(), *programs, *trouble)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why there are no programs, if somebody asked for them."""
        return (self._trouble,) if self._trouble and self._required else ()

    def check(self, classifier: Classifier) -> None:
        """Raise what nftables cannot do; what programs cannot do, nftables does."""
        self._nftables.check(classifier)

    def prepare(self, classifier: Classifier, run: Line, tell: Tell = silent) -> None:
        """Have nftables load what is large."""
        self._nftables.prepare(classifier, run, tell)

    def discard(self) -> None:
        """Have nftables forget what it loaded."""
        self._nftables.discard()

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Put the whole state in force; raises only if nftables does not take it."""
        self._nftables.apply(classifier, volatile)
        self._classifier, self._volatile = classifier, volatile
        self._left = {o: count for o, count in self._left.items() if o in classifier.origins}
        self._trouble = ""
        self._have_programs(lambda programs: programs.apply(classifier, volatile))

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Change the dynamic rules; raises only if nftables does not take it."""
        self._nftables.change(delta, volatile)
        self._volatile = volatile
        if not self._trouble:
            self._have_programs(lambda programs: programs.change(delta, volatile))

    def observe(self) -> Observation:
        """Read back all of it."""
        seen = self._nftables.observe()
        if self._programs is None or self._trouble or self._classifier is None:
            return seen
        with suppress(OSError):
            return replace(seen, drift=seen.drift + self._programs.observe().drift)
        return seen

    def owner_fd(self) -> int:
        """That of nftables."""
        return self._nftables.owner_fd()

    def adopt(self) -> None:
        """Own the table, so that nobody can flush it; programs stay attached."""
        self._nftables.adopt()

    def remove(self) -> None:
        """Withdraw everything, programs first; raises if nftables cannot be withdrawn."""
        self._classifier = None
        self._trouble = ""
        with suppress(IpsecdError, OSError):
            self._ready_programs().remove()
        self._nftables.remove()

    def give_way(self) -> None:
        """Delete the table; the programs that are attached are the other's now."""
        self._nftables.remove()

    def close(self) -> None:
        """Let go of all of it and leave it in force."""
        self._drop_programs()
        self._epoll.close()
        self._nftables.close()

    def counts(self) -> Mapping[Origin, Count]:
        """What every rule has matched, in both."""
        programs = self._programs.counts() if self._programs else {}
        counts = _sum(_sum(self._nftables.counts(), programs), self._left)
        rules = self._classifier.origins if self._classifier else frozenset()
        return {origin: count for origin, count in counts.items() if origin in rules}

    def volatile_counts(self) -> Mapping[tuple[TableId, bytes], Count]:
        """What every dynamic entry has matched, in both."""
        programs = self._programs.volatile_counts() if self._programs else {}
        return _sum(self._nftables.volatile_counts(), programs)

    def unparsable(self) -> int:
        """How many packets could not be read; programs leave that to nftables."""
        return self._nftables.unparsable()

    def is_stale(self) -> bool:
        """Whether a service that a rule names has been started or stopped."""
        return self._nftables.is_stale()

    def watch_fd(self) -> int:
        """One that is readable when either has news, whenever the programs are made."""
        return self._epoll.fileno()

    def changed(self) -> bool:
        """Follow interfaces, addresses and translation; whether a look at the rest is due."""
        due = self._nftables.changed()
        if self._programs is None:
            return due
        if self._are_left:
            self._step_aside()
        if self._classifier is None or self._trouble:
            # What there is to hear is read, or it would be told of without end.
            self._programs.follow()
            return due
        classifier, volatile = self._classifier, self._volatile
        points = self._programs.points
        self._have_programs(lambda programs: programs.follow())
        if self._programs.points != points and not self._trouble:
            self._have_programs(lambda programs: programs.apply(classifier, volatile))
        return due or self._has_drifted()

    # -- inside ----------------------------------------------------------------------------------

    def _have_programs(self, do: Callable[[XdpBackend], object]) -> None:
        """Have the programs do something; if they cannot, take them away and say why."""
        assert self._classifier is not None
        try:
            programs = self._ready_programs()
            programs.points = self._judgeable(self._classifier, self._volatile)
            do(programs)
        except (IpsecdError, OSError) as error:
            reason = error.message if isinstance(error, IpsecdError) else str(error)
            self._trouble = f"no programs: {reason}; nftables judges everything"
            self._step_aside()

    def _ready_programs(self) -> XdpBackend:
        """The programs, made if there are none yet; raises ``IpsecdError``."""
        if self._programs is None:
            self._programs = self._make_programs()
            self._epoll.register(self._programs.watch_fd(), select.EPOLLIN)
        return self._programs

    def _step_aside(self) -> None:
        """Take away the programs, also those that an earlier process attached.

        What cannot be taken away is tried again at the next news, which come every second.
        """
        if not self._programs:
            return
        with suppress(IpsecdError, OSError):
            self._left = _sum(self._left, self._programs.counts())
        try:
            self._programs.remove()
        except (IpsecdError, OSError):
            self._are_left = True
        else:
            self._are_left = False

    def _drop_programs(self) -> None:
        if self._programs:
            self._programs.close()
            self._programs = None

    def _has_drifted(self) -> bool:
        if self._programs is None or self._trouble:
            return False
        try:
            return self._programs.has_drifted()
        except OSError:
            return True

    def _judgeable(self, classifier: Classifier, volatile: Volatile) -> frozenset[Point]:
        """Where a program that sees a packet knows what nftables knows of it."""
        tables: list[HasTableId] = [*classifier.tables, *volatile.tables]
        points = {Point.ARRIVING}
        if not any(needs_translation(tables, family) for family in Family):
            points.add(Point.LEAVING)
        sending = [table for table in tables if Point.SENDING in table.id.points]
        if sending and not any(t.id.process for t in sending) and not _may_translate():
            points.add(Point.SENDING)
        return frozenset(points)


def _may_translate() -> bool:
    socket = NftSocket()
    try:
        return may_be_translated(socket)
    except KernelError:
        return True
    finally:
        socket.close()


def _sum(counts: Mapping[Key, Count], others: Mapping[Key, Count]) -> dict[Key, Count]:
    keys: Iterable[Key] = counts.keys() | others.keys()
    return {key: counts.get(key, Count()) + others.get(key, Count()) for key in keys}
