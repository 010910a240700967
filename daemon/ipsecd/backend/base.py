"""Owns the contract of what enforces a classifier; must not know any kernel interface.

A backend has verbs on whole states and one fast path, ``change``, for dynamic rules. What it
cannot express it refuses by name; it never weakens a rule. A call that raises has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.tables import TableId
from ipsecd.compiler.volatile import Delta, Volatile
from ipsecd.model.values import Origin
from ipsecd.progress import Tell, silent

T = TypeVar("T")


class Count(NamedTuple):
    """Packets and bytes that a rule matched."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: object) -> Count:
        if not isinstance(other, Count):
            return NotImplemented
        return Count(self.packets + other.packets, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Observation:
    """What is in force as read back from where it is enforced.

    ``digest`` is that of the policy's classifier, None if nothing is enforced. ``drift`` has one
    sentence for every way in which this is not what was applied.
    """

    digest: str | None
    drift: tuple[str, ...] = ()


class Line(Protocol):
    """What runs work where the kernel is spoken to, and waits for its outcome."""

    def __call__(self, work: Callable[[], T], /) -> T:
        """What `work` returns or raises."""
        ...


class Backend(Protocol):
    """What enforces a classifier and the dynamic rules beside it."""

    name: str

    @property
    def failures(self) -> tuple[str, ...]:
        """What keeps it from being what was asked for, in sentences; something else enforces."""

    def probe(self) -> tuple[str, ...]:
        """The features that were found and are used, as words for ``status``."""

    def check(self, classifier: Classifier) -> None:
        """Raise ``Refused`` if the classifier holds what this backend cannot enforce."""

    def prepare(self, classifier: Classifier, run: Line, tell: Tell = silent) -> None:
        """Do beforehand what takes long when `classifier` is applied; what is in force stays.

        Called in another thread than everything else: what speaks to the kernel is given to `run`
        in short pieces, between which dynamic rules may change. ``apply`` does without it as well.
        `tell` hears how far it is. Raises ``BackendFailed`` or ``LimitExceeded``.
        """

    def discard(self) -> None:
        """Forget what was prepared and has not been applied."""

    def apply(self, classifier: Classifier, volatile: Volatile) -> None:
        """Put the whole state in force at once, in the place of whatever is.

        Rules that stay keep their counts. Raises ``BackendFailed``, and then the old state is
        in force.
        """

    def change(self, delta: Delta, volatile: Volatile) -> None:
        """Carry out a change to the dynamic rules, of which `volatile` is the outcome.

        Costs the same however many rules there are. Raises ``BackendFailed`` or
        ``LimitExceeded``, and then nothing has changed.
        """

    def observe(self) -> Observation:
        """Read back what is in force, and compare it with what was applied."""

    def owner_fd(self) -> int:
        """A descriptor that keeps others from what is enforced as long as it is open; or -1."""

    def adopt(self) -> None:
        """Protect what an earlier process left in force, and leave it as it is."""

    def remove(self) -> None:
        """Withdraw everything."""

    def give_way(self) -> None:
        """Withdraw what would judge beside another backend that takes the place of this one.

        Raises ``BackendFailed``.
        """

    def close(self) -> None:
        """Let go of what is enforced and leave it in force."""

    def counts(self) -> Mapping[Origin, Count]:
        """What every rule of the policy has matched since it was first enforced."""

    def volatile_counts(self) -> Mapping[tuple[TableId, bytes], Count]:
        """What every entry of the dynamic rules has matched since it was added."""

    def unparsable(self) -> int:
        """How many packets were dropped because their headers could not be read."""

    def is_stale(self) -> bool:
        """Whether what rules name has changed without any news; ``apply`` puts it right."""

    def watch_fd(self) -> int:
        """A descriptor that is readable when somebody may have changed what is enforced.

        It is -1 if nobody can, and then ``changed`` need not be called.
        """

    def changed(self) -> bool:
        """Read what ``watch_fd`` has, and return whether somebody else changed our state."""
