"""Owns the pairing of nftables, which decides, with programs that drop before and after it.

Invariants:

1. nftables holds the whole ranking at every point. What no program sees, or a program cannot
   judge, is judged all the same: another link, a new address, the inside of a tunnel.
2. A program drops only what nftables would drop. Where it cannot know that, it does not look: it
   does not know who sends, nor the addresses before source translation, nor those after what this
   host sends has been translated.
3. Programs count what they drop, and nftables counts all else, so that no packet counts twice.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace

from ipsecd.backend.base import (
    Count,
    EntryCounts,
    Line,
    Observation,
    Readings,
    WantsEntries,
    sum_of,
)
from ipsecd.backend.beside import ProgramsBeside, reason_of
from ipsecd.backend.joined_reports import JoinedReports
from ipsecd.backend.judgeable import judgeable_points
from ipsecd.backend.lines import at_once
from ipsecd.backend.nftables.backend import NftablesBackend
from ipsecd.backend.reporting import Reporting
from ipsecd.backend.xdp.backend import XdpBackend
from ipsecd.backend.xdp.expansion import takes_long
from ipsecd.backend.xdp.programs import Programs
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import NOTHING_DYNAMIC, Delta, Volatile
from ipsecd.errors import BackendFailed, IpsecdError
from ipsecd.model.packets import Point
from ipsecd.model.values import Origin
from ipsecd.progress import Tell, silent

NOT_IN_FORCE = "programs could not be put in force"
AWAITED = "programs follow: they are being filled, and nftables has all rules in force"


class NftablesWithPrograms(ProgramsBeside):
    """nftables, and programs that drop some packets before or after it."""

    def __init__(
        self,
        name: str,
        nftables: NftablesBackend,
        programs: Callable[[], XdpBackend] | None,
        *,
        required: bool,
    ) -> None:
        """`programs` are made when they are first needed, and again after they failed.

        None is for no programs. They are `required` if somebody asked for them; it is a failure
        then if there are none.
        """
        self.name = name
        self._required = required
        super().__init__(nftables, programs)

    @property
    def nftables(self) -> NftablesBackend:
        """What decides, and holds the whole state."""
        return self._nftables

    def probe(self) -> tuple[str, ...]:
        """The features of nftables, how programs catch packets, or why there are no programs."""
        programs = self._programs.probe() if self._programs and not self._failure else ()
        failure = (self._failure,) if self._failure else ()
        awaited = (AWAITED,) if self._awaited else ()
        return (*self._nftables.probe(), *programs, *failure, *awaited)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why there are no programs, if somebody asked for them."""
        return (self._failure,) if self._failure and self._required else ()

    @property
    def gaps(self) -> tuple[str, ...]:
        """Those of nftables, which decides."""
        return self._nftables.gaps

    @property
    def reporting(self) -> Reporting:
        """What tells of the packets that either drops."""
        return JoinedReports((self._nftables.reporting, self._reports))

    def check(self, classifier: Classifier) -> None:
        """Raise if nftables cannot do it; what programs cannot do, nftables does."""
        self._nftables.check(classifier)

    def prepare(
        self,
        classifier: Classifier,
        run: Line,
        tell: Tell = silent,
        *,
        dynamic: Volatile = NOTHING_DYNAMIC,
    ) -> None:
        """Have nftables load what is large, and the programs; raises only if nftables fails.

        Programs that are not ready take all at the switch, or fail then. `tell` is told how far
        nftables is.
        """
        programs, points = run(lambda: self._programs_for(classifier))
        if programs:
            # They come first, as the kernel may still be filling sets of nftables meanwhile.
            try:
                programs.prepare(classifier, run, silent, points)
            except (IpsecdError, OSError):
                run(programs.discard)
        self._nftables.prepare(classifier, run, tell, dynamic=dynamic)

    def _programs_for(self, classifier: Classifier) -> tuple[XdpBackend | None, frozenset[Point]]:
        """The programs that a policy can be prepared for, and the points that they would judge."""
        programs = None if self._failure or self._awaited else self._programs
        points = judgeable_points(classifier, self._volatile) if programs else frozenset[Point]()
        return programs, points

    def discard(self) -> None:
        """Have both forget what they loaded."""
        self._nftables.discard()
        if self._programs:
            self._programs.discard()

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Put the whole state in force; raises only if nftables does not take it.

        Programs stand aside meanwhile. Whenever this process dies, nftables alone judges, by the
        old state or by the new one.
        """
        programs = None if self._failure else self._programs
        puts_off, self._may_put_off = self._awaited or self._may_put_off, False
        with programs.set_aside() if programs else nullcontext():
            self._nftables.apply(classifier, volatile)
        self._classifier, self._volatile = classifier, volatile
        self._failure = ""
        if puts_off and takes_long(classifier):
            self._await_programs(classifier)
        else:
            self._awaited = self._must_remove = False
            self._with_programs(lambda programs: programs.apply(classifier, volatile))

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Change the dynamic rules; raises only if nftables does not take it."""
        self._nftables.change(delta, volatile)
        self._volatile = volatile
        if self._awaited:
            self._remove_programs()
        elif not self._failure:
            self._with_programs(lambda programs: programs.change(delta, volatile))

    def exchange_programs(
        self,
        name: str,
        make: Callable[[], XdpBackend] | None,
        held: tuple[Classifier, Volatile] | None,
        *,
        required: bool,
        ready: Programs | None = None,
    ) -> None:
        """Have others, or none, in the place of the programs; nftables judges all the while.

        `held` is the state that nftables holds, None if it holds none; the others are in force
        with it at the end, and begin with what is `ready`. Raises ``BackendFailed`` if they do not
        take it, or if those there are cannot be removed, and then nothing has changed.
        """
        if held is None:
            self._close_programs()
        else:
            self._classifier, self._volatile = held
            if make is None:
                self._take_away(*held)
            else:
                self._put_in_place(make, ready, *held)
        self.name, self._make_programs, self._required = name, make, required
        self._failure, self._must_remove, self._awaited = "", False, False

    def release(self) -> NftablesBackend:
        """Let go of nftables, which goes on without this object; there must be no programs."""
        self._reports.close()
        self._epoll.close()
        return self._nftables

    def observe(self) -> Observation:
        """Read back all of it."""
        observation = self._nftables.observe()
        if self._programs is None or self._failure or self._classifier is None:
            return observation
        with suppress(OSError):
            return replace(observation, drift=observation.drift + self._programs.observe().drift)
        return observation

    def owner_fd(self) -> int:
        """That of nftables."""
        return self._nftables.owner_fd()

    def adopt(self) -> None:
        """Own the table, so that nobody can flush it; programs stay attached."""
        self._nftables.adopt()
        if self._make_programs:
            with suppress(IpsecdError, OSError):
                self._ensure_programs(self._make_programs).adopt()

    def remove(self) -> None:
        """Withdraw everything, programs first; raises if nftables cannot be withdrawn."""
        self._classifier = None
        self._failure, self._awaited = "", False
        if self._make_programs:
            with suppress(IpsecdError, OSError):
                self._ensure_programs(self._make_programs).remove()
        self._nftables.remove()

    def give_way(self) -> None:
        """Delete the table; the attached programs belong to the backend that takes over."""
        self._nftables.remove()

    def close(self) -> None:
        """Let go of all of it and leave it in force."""
        self._close_programs()
        self._reports.close()
        self._epoll.close()
        self._nftables.close()

    def readings(self, known: Iterable[Origin], run: Line = at_once) -> Readings:
        """What all counters of rules hold in both; programs are a part of their own."""
        decided = self._nftables.readings(known, run)
        dropped, ended = run(lambda: (self._read_programs(), self._take_ended()))
        return Readings({**decided.now, **dropped}, {**decided.ended, **ended})

    def volatile_counts(self, run: Line = at_once) -> Mapping[tuple[TableId, bytes], Count]:
        """What every dynamic entry has matched, in both."""
        programs = run(lambda: self._programs)
        in_programs = programs.volatile_counts(run) if programs else {}
        return sum_of(self._nftables.volatile_counts(run), in_programs)

    def entry_counts(self, wanted: WantsEntries, run: Line = at_once) -> list[EntryCounts]:
        """Those of nftables, to which programs leave all packets that entries count."""
        return self._nftables.entry_counts(wanted, run)

    def entries_before(self) -> Callable[[str], bool]:
        """Likewise."""
        return self._nftables.entries_before()

    def unparsable(self) -> int:
        """How many packets could not be read; programs leave that to nftables."""
        return self._nftables.unparsable()

    def is_stale(self) -> bool:
        """Whether a service that a rule names has been started or stopped."""
        return self._nftables.is_stale()

    def watch_fd(self) -> int:
        """A descriptor that is readable when nftables or the programs have news."""
        return self._epoll.fileno()

    def changed(self) -> bool:
        """Follow interfaces, addresses and translation; whether all else has to be looked at."""
        due = self._nftables.changed()
        if self._programs is None:
            return due
        if self._must_remove:
            self._remove_programs()
        if self._classifier is None or self._failure or self._awaited:
            # The news are read, or the descriptor would stay readable for ever.
            self._programs.follow()
            return due
        classifier, volatile = self._classifier, self._volatile
        points = self._programs.points
        self._with_programs(lambda programs: programs.follow())
        if self._programs.points != points and not self._failure:
            self._with_programs(lambda programs: programs.apply(classifier, volatile))
        return due or self._has_drifted()

    # -- inside ----------------------------------------------------------------------------------

    def _put_in_place(
        self,
        make: Callable[[], XdpBackend],
        ready: Programs | None,
        classifier: Classifier,
        volatile: Volatile,
    ) -> None:
        """Have other programs take over what is attached; raises, and then it is as before."""
        others = self._made(make)
        if ready:
            others.begin_with(ready)
        try:
            others.points = judgeable_points(classifier, volatile)
            others.apply(classifier, volatile)
        except (IpsecdError, OSError) as error:
            if self._programs is None or self._failure or self._awaited:
                with suppress(IpsecdError, OSError):
                    others.remove()
            others.close()
            self._attach_again(classifier, volatile)
            raise not_exchanged(NOT_IN_FORCE, error) from error
        self._close_programs()
        self._programs = others
        self._epoll.register(others.watch_fd(), select.EPOLLIN)

    def _take_away(self, classifier: Classifier, volatile: Volatile) -> None:
        """Remove the programs and keep their counts; raises, and then it is as before."""
        if self._programs is None:
            return
        try:
            self._programs.remove()
        except (IpsecdError, OSError) as error:
            self._attach_again(classifier, volatile)
            raise not_exchanged("the programs could not be removed", error) from error
        self._close_programs()

    def _attach_again(self, classifier: Classifier, volatile: Volatile) -> None:
        """Have the programs there are look what is attached in their place, and mend that."""
        if self._programs is None or self._failure or self._awaited:
            return
        with suppress(OSError):
            self._programs.observe()
        self._with_programs(lambda programs: programs.apply(classifier, volatile))

    def _has_drifted(self) -> bool:
        if self._programs is None or self._failure:
            return False
        try:
            return self._programs.has_drifted()
        except OSError:
            return True


def not_exchanged(what: str, error: IpsecdError | OSError) -> BackendFailed:
    """The failure of an exchange, which is told by `what` failed and why."""
    return BackendFailed(
        f"{what}: {reason_of(error)}", "nothing has changed; ipsecctl doctor says what is missing"
    )
