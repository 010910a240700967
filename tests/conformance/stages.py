"""One backend on trial: what it was told, what decide says of that, and what becomes of packets."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import product
from math import inf

from ipsecd.backend.base import Backend, Observation
from ipsecd.backend.memory import MemoryBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.merge import merged
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.tables import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.decide import Decision, decide
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import UDP, Action, InForce, Origin
from tests.conformance.refusals import Refusals, refusals
from tests.conformance.wire import ME, Datagram, Wire
from tests.netns.site import eventually

PORTS = (1434, 1435, 1436)
DATAGRAMS = tuple(
    Datagram(port, family, peer, outgoing)
    for port, family, peer, outgoing in product(PORTS, Family, (0, 1), (False, True))
)
"""What every state is tried with."""
HOST = Host(frozenset((family, int(ip_address(address))) for family, address in ME.items()))
EMPTY = compile_filters([])


def block(text: str, name: str = "", store: str = "static") -> InForce:
    """A filter that blocks, of a rule that has its text as name unless it is given one."""
    policy = "" if store == "dynamic" else "P"
    return InForce(Origin(store, policy, name or text), parse_filter(text), Action.BLOCK)


def permit(text: str, name: str = "", store: str = "static") -> InForce:
    """The same that permits."""
    one = block(text, name, store)
    return InForce(one.origin, one.filter, Action.PERMIT)


def packet_of(one: Datagram) -> Packet:
    """A datagram as the model has it."""
    source, target = (int(ip_address(end)) for end in one.ends)
    point = Point.SENDING if one.outgoing else Point.ARRIVING
    return Packet(point, one.family, source, target, UDP, 40_000, one.port)


def compiled(rules: Iterable[InForce], selected: Iterable[InForce]) -> Classifier:
    """The policy of `rules`, and entries for what selectors stand for, as the daemon has both."""
    return merged(compile_filters(rules), compile_filters(selected))


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that somebody else does to what is enforced; ``takes`` is whether it is let."""

    name: str
    do: Callable[[], object]
    takes: bool = True


class Stage(ABC):
    """A backend, the rules that it was told, and the outside world.

    What is changed goes through the methods here, so that ``expected`` knows of it.
    """

    def __init__(self) -> None:
        self.backend = self.make()
        self.rules: tuple[InForce, ...] = ()
        self.selected: tuple[InForce, ...] = ()
        self.volatile = Volatile()
        self._dynamic: dict[Origin, tuple[tuple[InForce, ...], float]] = {}
        self.backend.apply(EMPTY, self.volatile)

    # -- what a row has of its own ---------------------------------------------------------------

    @abstractmethod
    def make(self) -> Backend:
        """A backend as a new process makes it."""

    @abstractmethod
    def passes(self, *datagrams: Datagram) -> list[bool]:
        """Which of the datagrams the backend lets pass."""

    @abstractmethod
    def now(self) -> float:
        """The clock of deadlines, in seconds."""

    @abstractmethod
    def wait_until(self, deadline: float) -> None:
        """Let time pass until just after a deadline."""

    @abstractmethod
    def refusing(self, number: int) -> AbstractContextManager[Refusals]:
        """Have the kernel refuse one call that changes something, counted from 0."""

    def disturbances(self) -> Sequence[Disturbance]:
        """What others can try to do to what is in force now."""
        return ()

    # -- what is told ----------------------------------------------------------------------------

    def put(self, *rules: InForce, selected: Sequence[InForce] = ()) -> Classifier:
        """Apply a policy of these rules and what is `selected`, beside the dynamic ones."""
        classifier = compiled(rules, selected)
        self.backend.check(classifier)
        self.backend.apply(classifier, self.volatile)
        self.rules, self.selected = rules, tuple(selected)
        return classifier

    def add(self, one: InForce, deadline: float = inf) -> None:
        """Add a dynamic rule, in the place of the one of its name if there is one."""
        self.change([one.origin], [one], deadline)

    def drop(self, *rules: InForce) -> None:
        """Remove dynamic rules."""
        self.change([one.origin for one in rules], [])

    def change(
        self, remove: Sequence[Origin], add: Sequence[InForce], deadline: float = inf
    ) -> None:
        """Change the dynamic rules; what was told stays as it was if that is refused."""
        before = [origin for origin in remove if origin in self._dynamic]
        rows = ((row, deadline) for row in rows_of(add))
        volatile, delta = self.volatile.changed(remove, rows)
        self.backend.change(delta, volatile)
        self.volatile = volatile
        for origin in before:
            del self._dynamic[origin]
        for one in add:
            self._dynamic[one.origin] = (tuple(o for o in add if o.origin == one.origin), deadline)

    def second_process(self) -> None:
        """Let go of the backend, and make another, which has been told nothing yet."""
        self.backend.close()
        self.backend = self.make()

    def forget_dynamic(self) -> None:
        """Dynamic rules end with a process: the next one does not know them."""
        self.volatile, self._dynamic = Volatile(), {}

    def reset(self) -> None:
        """Enforce nothing, and be sure of it, for the next test."""
        try:
            self.change(list(self._dynamic), [])
            self.put()
            clean = self.backend.observe() == Observation(EMPTY.digest)
        except Exception:  # noqa: BLE001 - what a test that failed has left is not known
            clean = False
        if not clean:
            self.close()
            Stage.__init__(self)

    def close(self) -> None:
        """Enforce nothing, and let go."""
        self.backend.remove()
        self.backend.close()

    # -- what is seen ----------------------------------------------------------------------------

    def expected(self, one: Datagram) -> Decision:
        """What decide says of a datagram, by all rules that have not ended."""
        now = self.now()
        dynamic = [
            one for filters, deadline in self._dynamic.values() if deadline > now for one in filters
        ]
        return decide([*self.rules, *self.selected, *dynamic], packet_of(one), HOST)

    def disagreements(self, datagrams: Sequence[Datagram] = DATAGRAMS) -> list[object]:
        """The datagrams that are not treated as decide says, with what it says."""
        wanted = [self.expected(one) for one in datagrams]
        passed = self.passes(*datagrams)
        return [
            (one, decision)
            for one, decision, seen in zip(datagrams, wanted, passed, strict=True)
            if seen != (decision.action is Action.PERMIT)
        ]

    def is_in_force(self, datagrams: Sequence[Datagram] = DATAGRAMS) -> bool:
        """Whether what was told is what is read back, and what packets meet."""
        seen = self.backend.observe()
        assert seen == Observation(compiled(self.rules, self.selected).digest)
        assert self.disagreements(datagrams) == []
        return True

    def opens(self) -> bool:
        """Whether packets meet what was told, a moment after something was withdrawn.

        The kernel lets go of a program when it gets to it, as soon as nobody names it any more.
        """
        return eventually(lambda: self.disagreements() == [])

    def credited(self) -> Counter[Origin]:
        """How many packets are credited to each rule, dynamic ones too."""
        found = Counter({origin: c.packets for origin, c in self.backend.counts().items()})
        writers = {
            place: origin for origin in self._dynamic for place in self.volatile.rows(origin)
        }
        for place, count in self.backend.volatile_counts().items():
            found[writers[place]] += count.packets
        return +found


class MemoryStage(Stage):
    """The backend that evaluates, with a clock that stands."""

    def __init__(self) -> None:
        self._clock = 1000.0
        super().__init__()

    def make(self) -> Backend:
        self._memory = MemoryBackend(self.now)
        return self._memory

    def passes(self, *datagrams: Datagram) -> list[bool]:
        verdicts = [self._memory.judge(packet_of(one), HOST) for one in datagrams]
        return [verdict.action is Action.PERMIT for verdict in verdicts]

    def now(self) -> float:
        return self._clock

    def wait_until(self, deadline: float) -> None:
        self._clock = deadline + 0.001

    @contextmanager
    def refusing(self, number: int) -> Iterator[Refusals]:
        yield Refusals(number)


class KernelStage(Stage):
    """A backend that a kernel carries out, and real packets on a wire."""

    def __init__(
        self,
        wire: Wire,
        make: Callable[[], Backend],
        disturb: Callable[[], Sequence[Disturbance]],
    ) -> None:
        self.wire = wire
        self._make = make
        self._disturb = disturb
        super().__init__()

    def make(self) -> Backend:
        return self._make()

    def passes(self, *datagrams: Datagram) -> list[bool]:
        return self.wire.passes(*datagrams)

    def now(self) -> float:
        return time.monotonic()

    def wait_until(self, deadline: float) -> None:
        # Sets end their elements by the clock of ticks, which has a hundredth of a second.
        time.sleep(max(0.0, deadline + 0.05 - time.monotonic()))

    def refusing(self, number: int) -> AbstractContextManager[Refusals]:
        return refusals(number)

    def disturbances(self) -> Sequence[Disturbance]:
        return self._disturb()
