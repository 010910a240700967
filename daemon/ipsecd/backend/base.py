"""Owns the contract of what enforces a classifier; must not know any kernel interface.

A backend's methods work on whole states, but for ``change``, the fast path for dynamic rules. A
backend refuses what it cannot express, and names it; it never weakens a rule. A call that raises
has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from ipsecd.backend.lines import at_once
from ipsecd.backend.reporting import Reporting
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import NOTHING_DYNAMIC, Delta, Volatile
from ipsecd.model.lists import Form
from ipsecd.model.values import Origin
from ipsecd.progress import Tell, silent

T = TypeVar("T")
Key = TypeVar("Key")


class Count(NamedTuple):
    """Packets and bytes that a rule matched."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: object) -> Count:
        if not isinstance(other, Count):
            return NotImplemented
        return Count(self.packets + other.packets, self.bytes + other.bytes)

    def without(self, other: Count) -> Count:
        """What was counted beyond `other`."""
        return Count(self.packets - other.packets, self.bytes - other.bytes)


UNREADABLE = Origin("", "", "")
"""What packets are counted for that were dropped because their headers could not be read."""


def sum_of(counts: Mapping[Key, Count], others: Mapping[Key, Count]) -> dict[Key, Count]:
    """What both have counted."""
    if not counts or not others:
        return dict(counts or others)
    keys: Iterable[Key] = counts.keys() | others.keys()
    return {key: counts.get(key, Count()) + others.get(key, Count()) for key in keys}


CountsByPart = Mapping[str, Mapping[Origin, Count]]
"""What rules have matched, by the name of what counts for them."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What the counters of rules hold.

    ``now`` has those that count on. A part counts on from what it held when it was read before,
    in an earlier process too; a part of another name has begun at zero. ``ended`` has the
    last values of counters that have gone since these were last read; each is told once.
    """

    now: CountsByPart
    ended: CountsByPart


class EntryCounts(NamedTuple):
    """What one counter holds of what the entries of one form of a list have matched.

    ``part`` names the counter, which goes on in the next process; no other ever has that name.
    ``counter`` is what the backend calls it now. ``counts`` has those entries that have matched
    anything, by their packed form; None if nobody wanted to know. It took ``took_s`` seconds to
    read. A counter that has ended has told its last values, once.
    """

    part: str
    list_name: str
    form: Form
    counter: str
    counts: Mapping[bytes, Count] | None
    took_s: float = 0.0
    has_ended: bool = False


WantsEntries = Callable[[str, str], bool]
"""Whether it should be read what a part holds, which counts for a list."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is in force, as it was read back from where it is enforced.

    ``digest`` is the digest of the policy's classifier, None if nothing is enforced. ``drift`` has
    one sentence for every way in which this differs from what was applied.
    """

    digest: str | None
    drift: tuple[str, ...] = ()


class TransactionRecord(Protocol):
    """Keeps for the next process in which network namespace which transaction was the last."""

    def read(self) -> tuple[int, int] | None:
        """The number of the namespace and of the transaction; None if they are not known."""

    def write(self, namespace: int, generation: int) -> None:
        """Keep both; where that fails, the next process fills all sets anew."""


class Line(Protocol):
    """Runs work in the one thread that speaks to the kernel, and waits for its outcome."""

    def __call__(self, work: Callable[[], T], /) -> T:
        """What `work` returns or raises."""
        ...


class Backend(Protocol):
    """What enforces a classifier and the dynamic rules."""

    name: str

    @property
    def failures(self) -> tuple[str, ...]:
        """Why something else enforces than what was asked for; one sentence for each reason."""

    @property
    def gaps(self) -> tuple[str, ...]:
        """What of the rules in force this kernel cannot judge; one sentence for each gap."""

    @property
    def reporting(self) -> Reporting | None:
        """What tells which packets are dropped; None if nothing can."""

    def probe(self) -> tuple[str, ...]:
        """The features that were found and are used, as words for ``status``."""

    def check(self, classifier: Classifier) -> None:
        """Raise ``Refused`` if the classifier holds what this backend cannot enforce."""

    def prepare(
        self,
        classifier: Classifier,
        run: Line,
        tell: Tell = silent,
        *,
        dynamic: Volatile = NOTHING_DYNAMIC,
    ) -> None:
        """Do beforehand what takes long when `classifier` is applied; what is in force stays.

        `dynamic` has the dynamic rules that are to be in force with it, as far as it is known yet.
        This runs in another thread than all other methods. It hands what speaks to the kernel to
        `run`, in short pieces, between which dynamic rules may change. ``apply`` works without it
        too. `tell` is told how far it is. Raises ``BackendFailed`` or ``LimitExceeded``.
        """

    def discard(self) -> None:
        """Forget what was prepared and has not been applied."""

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Put the whole state in force at once, in the place of what was in force.

        A packet meets all of the old or all of the new, also where dynamic rules change with the
        policy; that costs as much as there are of the same form, unless they were prepared. Rules
        that stay keep their counts.
        Raises ``BackendFailed``, and then the old state is in force.
        """

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Carry out a change to the dynamic rules, of which `volatile` is the outcome.

        Costs the same however many rules there are. Raises ``BackendFailed`` or
        ``LimitExceeded``, and then nothing has changed.
        """

    def observe(self) -> Observation:
        """Read back what is in force, and compare it with what was applied."""

    def owner_fd(self) -> int:
        """A descriptor that keeps others from changing the rules while it is open; -1 for none."""

    def adopt(self) -> None:
        """Protect what an earlier process left in force, and leave it as it is."""

    def remove(self) -> None:
        """Withdraw everything."""

    def give_way(self) -> None:
        """Withdraw whatever would still judge packets when another backend takes over.

        Raises ``BackendFailed``.
        """

    def close(self) -> None:
        """Let go of what is enforced and leave it in force."""

    def readings(self, known: Iterable[Origin], run: Line = at_once) -> Readings:
        """What all counters of rules hold; also the last values of those of `known` rules.

        For any thread: it hands what must be done in the kernel's line to `run`, in short pieces.
        Nothing that was counted is missing in the readings of one process, nor there twice.
        """

    def volatile_counts(self, run: Line = at_once) -> Mapping[tuple[TableId, bytes], Count]:
        """What every entry of the dynamic rules has matched since it was added.

        For any thread: it hands what must be done in the kernel's line to `run`, in short pieces.
        """

    def entry_counts(self, wanted: WantsEntries, run: Line = at_once) -> list[EntryCounts]:
        """What the entries have matched of lists that count, and of those that do so no more.

        Each entry counts the packets that a filter has decided about, or an audit counted, which
        found the address in this entry. For any thread, as ``readings``.
        """

    def entries_before(self) -> Callable[[str], bool]:
        """Tells of a ``counter`` that ends whether all that it counted was before this moment.

        Entries that go from a list go from the counters of now, and not from those.
        """

    def unparsable(self) -> int:
        """How many packets were dropped because their headers could not be read."""

    def is_stale(self) -> bool:
        """Whether something that rules name has changed unannounced; ``apply`` puts it right."""

    def watch_fd(self) -> int:
        """A descriptor that is readable when somebody may have changed what is enforced.

        It is -1 if nobody can, and then ``changed`` need not be called.
        """

    def changed(self) -> bool:
        """Read the news of ``watch_fd``; return whether somebody else changed what is enforced."""
