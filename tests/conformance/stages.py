"""A backend under test: the rules it was told, what `decide` says of them, and real packets."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import product
from math import inf

from ipsecd.backend.base import Backend, Observation
from ipsecd.backend.memory import MemoryBackend
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.merge import merged
from ipsecd.compiler.policy import NO_LISTS, compile_filters
from ipsecd.compiler.rows import rows_of
from ipsecd.compiler.volatile import Volatile
from ipsecd.language.filters import parse_filter
from ipsecd.model.addresses import Family
from ipsecd.model.decide import Decision, decide
from ipsecd.model.list_names import lists_in, with_lengths
from ipsecd.model.lists import AddressList
from ipsecd.model.packets import Host, Packet, Point
from ipsecd.model.values import UDP, Action, InForce, Origin
from tests.conformance.refusals import Refusals, refusals
from tests.conformance.wire import ME, Datagram, Wire
from tests.counts import counts_of
from tests.netns.site import eventually

PORTS = (1434, 1435, 1436)
DATAGRAMS = tuple(
    Datagram(port, family, peer, outgoing)
    for port, family, peer, outgoing in product(PORTS, Family, (0, 1), (False, True))
)
"""The packets with which every state is tested."""
HOST = Host(frozenset((family, int(ip_address(address))) for family, address in ME.items()))
EMPTY = compile_filters([])


def block(text: str, name: str = "", store: str = "static") -> InForce:
    """A filter that blocks, in a rule whose name is `name`, or else the text of the filter."""
    policy = "" if store in ("dynamic", "configuration") else "P"
    return InForce(Origin(store, policy, name or text), parse_filter(text), Action.BLOCK)


def permit(text: str, name: str = "", store: str = "static") -> InForce:
    """The same as ``block``, but it permits."""
    blocking = block(text, name, store)
    return InForce(blocking.origin, blocking.filter, Action.PERMIT)


def audit(text: str, name: str = "", store: str = "static") -> InForce:
    """The same as ``block``, but it only counts."""
    blocking = block(text, name, store)
    return InForce(replace(blocking.origin, audits=True), blocking.filter, Action.AUDIT)


def packet_of(datagram: Datagram) -> Packet:
    """The datagram as a packet of the model."""
    source, target = (int(ip_address(end)) for end in datagram.ends)
    point = Point.SENDING if datagram.outgoing else Point.ARRIVING
    return Packet(point, datagram.family, source, target, UDP, 40_000, datagram.port)


def compiled(
    rules: Iterable[InForce],
    selected: Iterable[InForce],
    lists: Mapping[str, AddressList] = NO_LISTS,
    volatile: Volatile | None = None,
) -> Classifier:
    """The policy of `rules`, and entries for what names stand for, as the daemon has both."""
    of_names = [rule for rule in rules if lists_in(rule.filter)]
    policy = compile_filters(rule for rule in rules if not lists_in(rule.filter))
    of_now = compile_filters([*selected, *of_names], lists=lists)
    return merged(policy, of_now).with_lists(lists, volatile.tables if volatile else ())


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A change that somebody else tries to make; ``takes`` is whether the kernel lets him."""

    name: str
    do: Callable[[], object]
    takes: bool = True


class Stage(ABC):
    """A backend, the rules that it was told, and the outside world.

    Every change is made by the methods here, so that ``expected`` knows of it.
    """

    def __init__(self) -> None:
        self.backend = self.make()
        self.rules: tuple[InForce, ...] = ()
        self.selected: tuple[InForce, ...] = ()
        self.lists: Mapping[str, AddressList] = {}
        self.volatile = Volatile()
        self._dynamic: dict[Origin, tuple[tuple[InForce, ...], float]] = {}
        self.backend.apply(EMPTY, self.volatile)

    # -- what differs between rows ----------------------------------------------------------------

    @abstractmethod
    def make(self) -> Backend:
        """A new backend, as a process makes it that has just started."""

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
        """The changes that others can try to make to what is in force now."""
        return ()

    # -- what is told ----------------------------------------------------------------------------

    def put(
        self,
        *rules: InForce,
        selected: Sequence[InForce] = (),
        lists: Mapping[str, AddressList] | None = None,
    ) -> Classifier:
        """Apply a policy of these rules and what is `selected`, beside the dynamic ones.

        The lists stay as they are if none are given.
        """
        lists = self.lists if lists is None else lists
        classifier = compiled(rules, selected, lists, self.volatile)
        self.backend.check(classifier)
        self.backend.apply(classifier, self.volatile)
        self.rules, self.selected, self.lists = rules, tuple(selected), lists
        return classifier

    def add(self, rule: InForce, deadline: float = inf) -> None:
        """Add a dynamic rule, in the place of the one of its name if there is one."""
        self.change([rule.origin], [rule], deadline)

    def drop(self, *rules: InForce) -> None:
        """Remove dynamic rules."""
        self.change([rule.origin for rule in rules], [])

    def change(
        self, remove: Sequence[Origin], add: Sequence[InForce], deadline: float = inf
    ) -> None:
        """Change the dynamic rules; if that is refused, what is expected stays as it was."""
        rows = ((row, deadline) for row in rows_of(with_lengths(add, self.lists)))
        volatile, delta = self.volatile.changed(remove, rows)
        self.backend.change(delta, volatile)
        self._expect(volatile, remove, add, deadline)

    def switch(
        self, rules: Sequence[InForce], remove: Sequence[Origin], add: Sequence[InForce]
    ) -> None:
        """Apply a policy of these rules, and change the dynamic ones in the same moment."""
        rows = ((row, inf) for row in rows_of(with_lengths(add, self.lists)))
        volatile, _ = self.volatile.changed(remove, rows)
        classifier = compiled(rules, (), self.lists, volatile)
        self.backend.check(classifier)
        self.backend.apply(classifier, volatile)
        self.rules, self.selected = tuple(rules), ()
        self._expect(volatile, remove, add, inf)

    def _expect(
        self,
        volatile: Volatile,
        remove: Sequence[Origin],
        add: Sequence[InForce],
        deadline: float,
    ) -> None:
        self.volatile = volatile
        for origin in remove:
            self._dynamic.pop(origin, None)
        for rule in add:
            self._dynamic[rule.origin] = (
                tuple(o for o in add if o.origin == rule.origin),
                deadline,
            )

    def second_process(self) -> None:
        """Close the backend and make another, as a second process does; apply nothing."""
        self.backend.close()
        self.backend = self.make()

    def forget_dynamic(self) -> None:
        """Expect no dynamic rules: they end with a process, and the next does not know them."""
        self.volatile, self._dynamic = Volatile(), {}

    def reset(self) -> None:
        """Enforce nothing, for the next test; if that cannot be verified, make a new stage."""
        try:
            self.change(list(self._dynamic), [])
            self.put(lists={})
            clean = self.backend.observe() == Observation(EMPTY.digest)
        except Exception:  # noqa: BLE001 - what a test that failed has left is not known
            clean = False
        if not clean:
            self.close()
            Stage.__init__(self)

    def close(self) -> None:
        """Enforce nothing, and close the backend."""
        self.backend.remove()
        self.backend.close()

    # -- what is seen ----------------------------------------------------------------------------

    def expected(self, datagram: Datagram) -> Decision:
        """What `decide` says of a datagram by all rules whose deadline has not passed."""
        now = self.now()
        dynamic = [
            rule for rules, deadline in self._dynamic.values() if deadline > now for rule in rules
        ]
        host = replace(HOST, lists=self.lists)
        return decide([*self.rules, *self.selected, *dynamic], packet_of(datagram), host)

    def disagreements(self, datagrams: Sequence[Datagram] = DATAGRAMS) -> list[object]:
        """The datagrams whose fate is not what `decide` says, each with what it says."""
        wanted = [self.expected(datagram) for datagram in datagrams]
        passed = self.passes(*datagrams)
        return [
            (datagram, decision)
            for datagram, decision, got_through in zip(datagrams, wanted, passed, strict=True)
            if got_through != (decision.action is Action.PERMIT)
        ]

    def is_in_force(self, datagrams: Sequence[Datagram] = DATAGRAMS) -> bool:
        """Whether the backend reads back what was applied, and packets are treated accordingly."""
        observation = self.backend.observe()
        wanted = compiled(self.rules, self.selected, self.lists, self.volatile)
        assert observation == Observation(wanted.digest)
        assert self.disagreements(datagrams) == []
        return True

    def opens(self) -> bool:
        """Whether packets are treated as expected, some time after something was withdrawn.

        The kernel removes a program that nobody refers to any more, but not at once.
        """
        return eventually(lambda: self.disagreements() == [])

    def credited(self) -> Counter[Origin]:
        """How many packets are credited to each rule, dynamic ones too."""
        packets = Counter({origin: c.packets for origin, c in counts_of(self.backend).items()})
        writers = {
            place: origin for origin in self._dynamic for place in self.volatile.rows(origin)
        }
        for place, count in self.backend.volatile_counts().items():
            packets[writers[place]] += count.packets
        return +packets


class MemoryStage(Stage):
    """A stage for the backend in memory. Its clock stands still until a test moves it."""

    def __init__(self) -> None:
        self._clock = 1000.0
        super().__init__()

    def make(self) -> Backend:
        self._memory = MemoryBackend(self.now)
        return self._memory

    def passes(self, *datagrams: Datagram) -> list[bool]:
        verdicts = [self._memory.judge(packet_of(datagram), HOST) for datagram in datagrams]
        return [verdict.action is Action.PERMIT for verdict in verdicts]

    def now(self) -> float:
        return self._clock

    def wait_until(self, deadline: float) -> None:
        self._clock = deadline + 0.001

    @contextmanager
    def refusing(self, number: int) -> Iterator[Refusals]:
        yield Refusals(number)


class KernelStage(Stage):
    """A stage for a backend that the kernel carries out, with real packets on a wire."""

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
        # Sets end their elements by the clock of ticks, which advances each hundredth of a second.
        time.sleep(max(0.0, deadline + 0.05 - time.monotonic()))

    def refusing(self, number: int) -> AbstractContextManager[Refusals]:
        return refusals(number)

    def disturbances(self) -> Sequence[Disturbance]:
        return self._disturb()
