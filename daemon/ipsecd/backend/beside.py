"""Owns the programs beside nftables: whether there are any, why there are none, if they follow.

Invariants:

1. Programs that cannot take a state are removed, so that no packet is judged by an old state. The
   next state is tried on them again. Without programs nothing passes that nftables would drop.
2. At a start programs may follow later. What an earlier process left attached stays until then only
   as long as it holds the same state; at the first change it is taken away.
"""

from __future__ import annotations

import select
from collections.abc import Callable

from ipsecd.backend.base import UNREADABLE, Count, CountsByPart, Line, sum_of
from ipsecd.backend.judgeable import judgeable_points
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.backend.xdp.programs import Programs
from ipsecd.backend.xdp.reports import ProgramReports
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import Volatile
from ipsecd.errors import IpsecdError
from ipsecd.model.packets import Point
from ipsecd.model.values import Origin


class ProgramsBeside:
    """Programs, and the state that they hold or are to hold."""

    def __init__(
        self, nftables: NftablesBackend, programs: Callable[[], XdpBackend] | None
    ) -> None:
        """`programs` are made when they are first needed; None is for no programs."""
        self._nftables = nftables
        self._make_programs = programs
        self._reports = ProgramReports()
        self._programs: XdpBackend | None = None
        self._classifier: Classifier | None = None
        self._volatile = Volatile()
        self._ended: dict[str, dict[Origin, Count]] = {}
        self._failure = ""
        self._must_remove = False
        self._may_put_off = False
        self._awaited = False
        self._epoll = select.epoll()
        if (descriptor := nftables.watch_fd()) >= 0:
            self._epoll.register(descriptor, select.EPOLLIN)

    def put_off_programs(self) -> None:
        """Have ``load_programs`` put the next state on programs, if that takes long."""
        self._may_put_off = True

    def load_programs(self, run: Line) -> bool:
        """Have the programs follow that were put off; for any thread. Whether they are in force."""
        awaited = run(self._what_is_awaited)
        if awaited is None:
            return False
        programs, classifier, volatile, points = awaited
        try:
            ready = programs.make_ready(classifier, volatile, points, run)
        except Exception as error:
            failure = error
            run(lambda: self._end_awaiting(programs, failure))
            if isinstance(error, (IpsecdError, OSError)):
                return False
            raise
        return run(lambda: self._end_awaiting(programs, ready))

    # -- inside ----------------------------------------------------------------------------------

    def _with_programs(self, do: Callable[[XdpBackend], object]) -> None:
        """Call `do` with the programs; if it fails, remove them and remember why."""
        assert self._classifier is not None
        if self._make_programs is None:
            return
        try:
            programs = self._ensure_programs(self._make_programs)
            programs.points = judgeable_points(self._classifier, self._volatile)
            do(programs)
        except Exception as error:
            # Half-made programs may pass everything, and must not look as if they were in force.
            self._fail(error)
            if not isinstance(error, (IpsecdError, OSError)):
                raise

    def _fail(self, error: Exception) -> None:
        self._failure = f"no programs: {reason_of(error)}; nftables judges everything"
        self._remove_programs()

    def _await_programs(self, classifier: Classifier) -> None:
        """Have programs follow; those that are there stay only if they hold this state."""

        def leave(programs: XdpBackend) -> None:
            programs.adopt()
            if programs.observe().digest != classifier.digest:
                self._remove_programs()

        self._with_programs(leave)
        self._awaited = self._programs is not None and not self._failure

    def _what_is_awaited(
        self,
    ) -> tuple[XdpBackend, Classifier, Volatile, frozenset[Point]] | None:
        if not self._awaited or self._programs is None or self._classifier is None:
            return None
        return self._programs, self._classifier, self._volatile, self._programs.points

    def _end_awaiting(self, programs: XdpBackend, outcome: Programs | Exception) -> bool:
        """Put in force what was made for `programs`, unless they are awaited no more."""
        classifier, is_awaited = self._classifier, self._awaited and programs is self._programs
        if classifier is None or not is_awaited:
            if isinstance(outcome, Programs):
                outcome.close()
            return False
        self._awaited = False
        if isinstance(outcome, Programs):
            programs.begin_with(outcome)
            self._must_remove = False
            self._with_programs(lambda programs: programs.apply(classifier, self._volatile))
        else:
            self._fail(outcome)
        return not self._failure

    def _ensure_programs(self, make: Callable[[], XdpBackend]) -> XdpBackend:
        """The programs; makes them if there are none yet. Raises ``IpsecdError``."""
        if self._programs is None:
            self._programs = self._made(make)
            self._epoll.register(self._programs.watch_fd(), select.EPOLLIN)
        return self._programs

    def _made(self, make: Callable[[], XdpBackend]) -> XdpBackend:
        """Programs that tell what they drop as those before them did."""
        programs = make()
        programs.report_to(self._reports)
        return programs

    def _remove_programs(self) -> None:
        """Remove the programs, also those that an earlier process attached.

        If that fails it is tried again at the next news, which come every second.
        """
        if not self._programs:
            return
        try:
            self._programs.remove()
        except (IpsecdError, OSError):
            self._must_remove = True
        else:
            self._must_remove = False

    def _read_programs(self) -> CountsByPart:
        """What the counters of the programs hold; what has gone is kept for ``_take_ended``."""
        if self._programs is None:
            return {}
        readings = self._programs.readings(())
        for part, counts in readings.ended.items():
            self._ended[part] = sum_of(self._ended.get(part, {}), counts)
        return {
            part: {origin: count for origin, count in counts.items() if origin != UNREADABLE}
            for part, counts in readings.now.items()
        }

    def _take_ended(self) -> CountsByPart:
        ended, self._ended = self._ended, {}
        return ended

    def _close_programs(self) -> None:
        if self._programs:
            self._read_programs()
            self._programs.close()
            self._programs = None


def reason_of(error: Exception) -> str:
    """What went wrong, in one line."""
    return error.message if isinstance(error, IpsecdError) else str(error) or repr(error)
