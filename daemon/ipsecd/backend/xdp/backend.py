"""Owns the XDP and tc programs in force and where they are attached; must not know nftables.

The programs judge alone, or they drop early and another backend judges every packet that they
let pass. Invariants:

1. Attached programs always judge by a whole state. A new process prepares maps and programs of its
   own and then puts them in the place of the old ones, link by link. So does a process that finds
   its maps changed by somebody else, or too small for the counts of a new policy.
2. Pins lie in ``maps-NUMBER`` and ``links``; only the newest maps are kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from ipsecd.backend.base import Count, Line, Observation, Readings
from ipsecd.backend.failures import not_taken
from ipsecd.backend.gaps import unseen_senders
from ipsecd.backend.lines import at_once
from ipsecd.backend.xdp.coverage import Covered, covered_interfaces
from ipsecd.backend.xdp.ended import EndedCounts, NoEntryCounts, read_entries
from ipsecd.backend.xdp.events import Events
from ipsecd.backend.xdp.expansion import Expansions
from ipsecd.backend.xdp.links import Attachment, Links, exists
from ipsecd.backend.xdp.mounts import must_be_bpf_file_system
from ipsecd.backend.xdp.pinned_maps import PinnedMaps, remove
from ipsecd.backend.xdp.program import is_of_types
from ipsecd.backend.xdp.programs import Programs
from ipsecd.backend.xdp.refusals import must_be_known, must_fit
from ipsecd.backend.xdp.reported import Reported
from ipsecd.backend.xdp.reports import end_left
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import NOTHING_DYNAMIC, Delta, Volatile
from ipsecd.errors import BackendFailed
from ipsecd.host.interfaces import HostReader, HostState
from ipsecd.model.packets import Point
from ipsecd.model.values import Origin
from ipsecd.progress import Tell, silent

LINKS_A_LOOK = 128
"""How many attachments are checked each second: all of them on a host of sixty interfaces."""
LOOK_S = 0.05
"""How long a check may keep others waiting, such as a container that is about to start."""


class XdpBackend(Reported, NoEntryCounts):
    """Programs on every interface but loopback, pinned below `directory`."""

    name = "xdp"

    def __init__(
        self,
        directory: Path,
        *,
        host: Callable[[], HostState] | None = None,
        alone: bool = True,
        xdp: bool = True,
        tcx: bool = True,
        reason: str = "",
    ) -> None:
        """`directory` must lie in a BPF file system; raises ``BackendFailed`` if it does not.

        `alone` says that nobody else judges what the programs let pass, and `reason` why that is a
        failure, "" if it is none. Without `xdp` the programs are at tc only, where they change
        nothing in how a driver works.
        """
        must_be_bpf_file_system(directory)
        super().__init__()
        self._directory = directory
        self._host = host or HostReader()
        self._pins = PinnedMaps(directory)
        self._alone, self._expansions = alone, Expansions(alone=alone)
        self._links = Links(directory / "links", xdp=xdp, tcx=tcx)
        self._programs: Programs | None = None
        self._fresh: Programs | None = None
        self._classifier: Classifier | None = None
        self._drifted = False
        self._ended, self._events = EndedCounts(lambda: self._pins.state()[1]), Events()
        self._names: dict[int, str] = {}
        self.failures = (reason,) if reason else ()
        self.points = frozenset(Point)

    def probe(self) -> tuple[str, ...]:
        """How packets are caught, and on which interface in which way."""
        how = "tcx" if self._links.uses_tcx else "clsact"
        modes = [
            f"{self._names.get(index, index)}: {mode}"
            for index, mode in sorted(self._links.modes().items())
        ]
        return (how, *self._links.failures.values(), *modes)

    @property
    def gaps(self) -> tuple[str, ...]:
        """One if nobody else judges: programs do not see sockets."""
        if not self._alone or self._classifier is None:
            return ()
        tables = (table.id for table in self._loaded().tables)
        return unseen_senders(tables, "programs do not see who sends")

    def check(self, classifier: Classifier) -> None:
        """Raise ``LimitExceeded`` for a policy of more steps than a packet can take.

        Raise ``Refused`` for what programs do not know, if nobody else judges.
        """
        classifier = self._expansions.of(classifier)
        if self._alone:
            must_be_known(classifier.tables, self._loaded().max_steps)
        must_fit(classifier, self._loaded().max_steps)

    def prepare(
        self,
        classifier: Classifier,
        run: Line,
        tell: Tell = silent,
        points: frozenset[Point] | None = None,
        *,
        dynamic: Volatile = NOTHING_DYNAMIC,
    ) -> None:
        """Write what steps look into to memory, or, without room for counters, make all anew."""
        del dynamic
        programs = run(lambda: self._programs if self._classifier and not self._drifted else None)
        if programs is None:
            return
        classifier = self._expansions.of(classifier)
        if programs.has_room(classifier):
            programs.prepare(classifier, points or self.points, run, tell)
        else:
            self._prepare_fresh(classifier, points or self.points, run)

    def make_ready(
        self, classifier: Classifier, volatile: Volatile, points: frozenset[Point], run: Line
    ) -> Programs:
        """Maps and programs that hold a state and judge nothing; for any thread.

        The caller closes them, or gives them to a backend to begin with. Raises ``BackendFailed``.
        """
        classifier = self._expansions.of(classifier)
        try:
            fresh = Programs(len(classifier.origins), alone=self._alone)
            try:
                state, names = run(lambda: self._surroundings(classifier, volatile))
                fresh.points = points
                fresh.set_host(state.host)
                fresh.apply(classifier, volatile)
                for name in names:
                    fresh.program(name)
            except BaseException:
                fresh.close()
                raise
        except OSError as error:
            raise not_taken(error.strerror) from error
        return fresh

    def begin_with(self, programs: Programs) -> None:
        """Use what was made ready for the first state, before there is one."""
        self._programs = programs

    def discard(self) -> None:
        """Free what was prepared and has not been applied."""
        if self._programs:
            self._programs.discard()
        fresh, self._fresh = self._fresh, None
        if fresh:
            fresh.close()

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Put the whole state in force."""
        classifier = self._expansions.of(classifier)
        if self._alone:
            must_be_known((*classifier.tables, *volatile.tables), self._loaded().max_steps)
        if self._classifier is None or self._drifted or not self._loaded().has_room(classifier):
            self._install(classifier, volatile)
        else:
            programs = self._loaded()
            programs.points = self.points
            programs.apply(classifier, volatile)
            self._links.load_more(programs.program, of_types=is_of_types(programs.tables))
        if classifier is not self._classifier:
            self.discard()
        self._classifier, self._drifted = classifier, False

    def set_aside(self) -> AbstractContextManager[None]:
        """Let every packet pass to whoever judges after this, until an error or ``apply``."""
        return self._programs.set_aside() if self._programs else nullcontext()

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Add and remove dynamic entries."""
        if self._alone:
            must_be_known(volatile.tables, self._loaded().max_steps)
        programs = self._loaded()
        programs.points = self.points
        programs.change(delta, volatile)
        self._links.load_more(programs.program, of_types=is_of_types(programs.tables))

    def observe(self) -> Observation:
        """Read back the maps and the links."""
        if self._programs is None or self._classifier is None:
            return Observation(self._pins.state()[0])
        drift = self._drift(self._programs, self._classifier, self._links.lost())
        return Observation(self._programs.digest(), drift)

    def has_drifted(self) -> bool:
        """Whether all maps, or some links, show drift: to look at one locks all of the host's."""
        if self._programs is None or self._classifier is None:
            return False
        lost = self._links.lost_among(LINKS_A_LOOK, LOOK_S)
        return bool(self._drift(self._programs, self._classifier, lost))

    def _drift(
        self, programs: Programs, classifier: Classifier, lost: Sequence[Attachment]
    ) -> tuple[str, ...]:
        drift = programs.drift()
        if (digest := programs.digest()) != classifier.digest:
            drift.append(f"the kernel holds policy {digest}, not {classifier.digest}")
        drift += [
            f"the program on interface {self._names.get(index, index)} ({hook}) was detached"
            for index, hook in lost
            if exists(index)
        ]
        self._drifted = self._drifted or bool(drift)
        return tuple(drift)

    def owner_fd(self) -> int:
        """-1: the kernel lets everybody with the privilege change maps."""
        return -1

    def adopt(self) -> None:
        """Leave what is attached, but for its reports, which nobody reads."""
        for path in self._pins.directories():
            end_left(path)

    def remove(self) -> None:
        """Detach and unpin everything, in ways that the kernel cannot refuse."""
        attached = self._programs if self._classifier else None  # else what was left has counted
        self._classifier, self._drifted = None, False
        self.discard()
        programs, self._programs = self._programs, None
        try:
            self._links.remove()
            self._ended.end(attached)
            for path in self._pins.directories():
                shutil.rmtree(path)
            with suppress(OSError):
                self._directory.rmdir()
        finally:
            self._let_go(programs)

    def give_way(self) -> None:
        """Do nothing: the programs of the next backend have replaced the attached ones."""

    def close(self) -> None:
        """Let go of programs and maps; what is attached or pinned stays."""
        self._events.close()
        self.discard()
        self._let_go(self._programs)
        self._programs = None
        self._close_reports()

    def readings(self, known: Iterable[Origin], run: Line = at_once) -> Readings:
        """What all counters of rules hold, and the last values of those that have gone."""
        del known
        return run(lambda: self._ended.readings(self._programs if self._classifier else None))

    def volatile_counts(self, run: Line = at_once) -> Mapping[tuple[TableId, bytes], Count]:
        """What every dynamic entry has matched."""
        return read_entries(lambda: self._programs, run)

    def unparsable(self) -> int:
        """How many frames could not be read as packets while anything was blocked."""
        results = self._programs.parse_results() if self._programs else {}
        return sum(count for name, count in results.items() if name != "not-ip")

    def is_stale(self) -> bool:
        """Never: interfaces and addresses make news, and programs do not judge senders."""
        return False

    def watch_fd(self) -> int:
        """Readable when interfaces or addresses changed, and once a second."""
        return self._events.fileno()

    def changed(self) -> bool:
        """Follow interfaces and addresses; returns whether a short check finds drift."""
        self.follow()
        return self.has_drifted()

    def follow(self) -> None:
        """Follow interfaces and addresses, if there are news of any."""
        news = self._events.drain()
        if self._programs and self._classifier is not None and (news or self._links.failures):
            self._follow(self._programs)

    # -- inside ----------------------------------------------------------------------------------

    def _loaded(self) -> Programs:
        if self._programs is None:
            self._programs = Programs(alone=self._alone)
        return self._programs

    def _prepare_fresh(self, classifier: Classifier, points: frozenset[Point], run: Line) -> None:
        """Make maps and programs that hold `classifier` and the dynamic rules of now."""
        run(self.discard)
        volatile = run(lambda: self._programs.volatile if self._programs else Volatile())
        fresh = self.make_ready(classifier, volatile, points, run)
        run(lambda: self._keep_fresh(fresh))

    def _surroundings(
        self, classifier: Classifier, volatile: Volatile
    ) -> tuple[HostState, list[str]]:
        """The host, and the names of the programs that are needed, as of now."""
        state = self._host()
        of_types = is_of_types((*classifier.tables, *volatile.tables))
        covered = covered_interfaces(state.interfaces)
        return state, self._links.needed(covered, of_types=of_types)

    def _keep_fresh(self, fresh: Programs) -> None:
        """Keep what was made, unless everything has been withdrawn meanwhile."""
        if self._classifier is None:
            fresh.close()
        else:
            self._fresh = fresh

    def _take_fresh(self, classifier: Classifier) -> Programs:
        """Maps and programs to which nothing is attached: those made before, or new ones."""
        if self._fresh and classifier is not self._classifier and self._fresh.has_room(classifier):
            fresh, self._fresh = self._fresh, None
            return fresh
        return Programs(len(classifier.origins), alone=self._alone)

    def _install(self, classifier: Classifier, volatile: Volatile) -> None:
        """Prepare new maps and programs, and replace the attached programs by them."""
        if self._programs and self._classifier is not None:
            counts = self._programs.counts()
            fresh = self._take_fresh(classifier)
        else:
            _, counts = self._pins.state()
            if self._programs and not self._programs.has_room(classifier):
                self._let_go(self._programs)
                self._programs = None
            fresh = self._programs or Programs(len(classifier.origins), alone=self._alone)
        self._programs, old = fresh, self._programs
        directories, pins = self._pins.directories(), self._pins.following()
        try:
            fresh.points = self.points
            state = self._host()
            fresh.set_host(state.host)
            if fresh.digest():
                fresh.change(fresh.volatile.difference(volatile), volatile)
            fresh.apply(classifier, volatile)
            fresh.rules.restore(counts)
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.pin(pins)
            self._begin_reports(fresh)
            self._attach(fresh, old, state)
            self._ended.exchange(old, fresh, counts, self._pins.counts(directories))
        except BaseException as error:
            self._programs = old
            if old is not fresh:
                self._let_go(fresh)
            remove([pins])
            if isinstance(error, OSError):
                raise BackendFailed(
                    f"the programs could not be put in force: {error.strerror}",
                    "what was in force still is",
                ) from error
            raise
        if old and old is not fresh:
            self._let_go(old)
        remove(directories)

    def _attach(self, fresh: Programs, old: Programs | None, state: HostState) -> None:
        """Attach new programs everywhere, and replace the old ones where there are any."""
        covered = covered_interfaces(state.interfaces)
        self._links.prepare(covered, fresh.program, of_types=is_of_types(fresh.tables))
        self._links.forget_lost(covered)
        try:
            self._sync(fresh, state, covered)
            self._links.replace(fresh.program)
        except BaseException:
            if old and old is not fresh:
                self._links.replace(old.program)
            raise

    def _follow(self, programs: Programs) -> None:
        state = self._host()
        programs.set_host(state.host)
        covered = covered_interfaces(state.interfaces)
        self._links.forget_lost(covered)
        self._sync(programs, state, covered)

    def _sync(self, programs: Programs, state: HostState, covered: Covered) -> None:
        self._names = {interface.index: interface.name for interface in state.interfaces}
        self._links.sync(covered, programs.program)
