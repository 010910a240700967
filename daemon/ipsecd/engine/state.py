"""Owns what is in force at one moment, as one value that never changes; must not know how.

Every change makes a new state from the one before. Whoever has one may read it in any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from math import inf

from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.volatile import Volatile
from ipsecd.engine.sources import SourceName
from ipsecd.errors import Refused
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Inventory
from ipsecd.model.quarantine import Quarantine
from ipsecd.sources.dynamic import DynamicRules
from ipsecd.sources.last_good import Enforceable
from ipsecd.sources.reading import Loaded


class Condition(Enum):
    """How what is in force came about."""

    STOPPED = "stopped"
    """Nothing is in force, because somebody wants that, or nothing has been started yet."""
    HELD = "held"
    """No policy could be loaded; what an earlier process or ``boot`` left is in force."""
    FAILED = "failed"
    """The kernel did not take what should be in force; it is offered again, and HELD until then."""
    ENFORCING = "enforcing"
    """What this state says is in force."""


@dataclass(frozen=True, slots=True)
class Due:
    """What the kernel did not take at start, with what to say once it does."""

    good: Enforceable
    source: SourceName
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Announced:
    """Addresses that a container is said to have, and when that was told, in monotonic seconds.

    They are its own from then on, unless they are ``shared`` with others in a network namespace.
    """

    at: float
    addresses: tuple[Network, ...]
    shared: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """What is known of containers: the inventory of each engine, and announcements by id.

    ``asked_at`` says when an engine was asked for it; what happened since may be missing in it.
    """

    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    announced: Mapping[str, Announced] = field(default_factory=dict)
    asked_at: Mapping[str, float] = field(default_factory=dict)

    def with_announced(self) -> dict[str, Inventory]:
        """The inventories with the addresses that were announced.

        Whoever was listed with one before has it no more, unless it is shared.
        """
        told = {identity: one.addresses for identity, one in self.announced.items()}
        return {
            source: inventory.with_announced(
                told, self._taken_since(self.asked_at.get(source, -inf))
            )
            for source, inventory in self.inventories.items()
        }

    def _taken_since(self, asked_at: float) -> set[Network]:
        """What was announced as somebody's own after an engine was asked."""
        return {
            address
            for one in self.announced.values()
            if one.at >= asked_at and not one.shared
            for address in one.addresses
        }


NOTHING = Enforceable("", None, Classifier())
"""What is in force where nothing is."""


@dataclass(frozen=True, slots=True)
class State:
    """All that is in force, and what it was made from.

    ``dynamic`` has all dynamic rules, also those of the ``quarantines``, which are by name; and
    ``taken_over`` is how many of both an earlier process had left.
    ``looked_up`` says of the DNS names of policies when this process had them looked up, in seconds
    since the epoch, and ``unresolved`` names those that had no answer when that was last tried.
    ``good`` is the policy in force, ``whole`` its classifier with what containers have for
    addresses. ``loaded`` is what the static
    store holds, and ``refused`` what a reload has read of it since and could not put in force.
    """

    condition: Condition = Condition.STOPPED
    source: SourceName = SourceName.NOTHING
    good: Enforceable = NOTHING
    whole: Classifier = NOTHING.classifier
    dynamic: DynamicRules = field(default_factory=DynamicRules)
    quarantines: Mapping[str, Quarantine] = field(default_factory=dict)
    taken_over: int = 0
    volatile: Volatile = field(default_factory=Volatile)
    news: News = field(default_factory=News)
    inventory: Inventory = field(default_factory=Inventory)
    names: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)
    looked_up: Mapping[str, float] = field(default_factory=dict)
    unresolved: frozenset[str] = frozenset()
    loaded: Loaded = field(default_factory=Loaded)
    refused: Loaded | None = None
    failures: tuple[str, ...] = ()
    due: Due | None = None

    @property
    def stopped(self) -> bool:
        """Whether nothing is in force by intent."""
        return self.condition is Condition.STOPPED

    @property
    def held(self) -> bool:
        """Whether the kernel holds what is not known here."""
        return self.condition in {Condition.HELD, Condition.FAILED}

    @property
    def enforcing(self) -> bool:
        """Whether the kernel holds what this state says."""
        return self.condition is Condition.ENFORCING

    def with_policy(self, source: SourceName, good: Enforceable, whole: Classifier) -> State:
        """This state with another policy in force, from now on if it was not stopped."""
        return replace(
            self,
            condition=Condition.STOPPED if self.stopped else Condition.ENFORCING,
            source=source,
            good=good,
            whole=whole,
            due=None,
        )

    def must_run(self) -> None:
        """Raise ``Refused`` unless this state is in force."""
        if self.stopped:
            raise Refused(
                "enforcement is stopped, so a dynamic rule would not be in force",
                "start it first: ipsecctl net start policyagent",
            )
        if self.held:
            raise Refused(
                "what should be in force is not, and what the kernel holds in its place is not "
                "known here",
                "mend what ipsecctl status shows, then run: ipsecctl reload",
            )
