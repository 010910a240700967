"""Owns the state: what is in force at one moment, as one value; must not know how it is enforced.

A state never changes: a change makes a new one. So it may be read in any thread.
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
from ipsecd.model.lists import AddressList
from ipsecd.model.quarantine import Quarantine
from ipsecd.model.values import Store
from ipsecd.sources.domain import Taken
from ipsecd.sources.dynamic import DynamicRules
from ipsecd.sources.last_good import CompiledPolicy
from ipsecd.sources.reading import Loaded


class Condition(Enum):
    """Whether what should be in force is in force."""

    STOPPED = "stopped"
    """Nothing is in force, because somebody wants that, or nothing has been started yet."""
    HELD = "held"
    """No policy could be loaded; what an earlier process or ``boot`` left is in force."""
    FAILED = "failed"
    """The kernel did not take what should be in force; it is offered again, and HELD until then."""
    ENFORCING = "enforcing"
    """What this state says is in force."""


@dataclass(frozen=True, slots=True)
class PendingPolicy:
    """A policy that the kernel did not take at start, with the failures to report once it does."""

    compiled: CompiledPolicy
    source: SourceName
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Announcement:
    """Addresses that a container will have; ``at`` is when that was told, in monotonic seconds.

    No other container has them from then on, unless they are ``shared`` in a network namespace.
    """

    at: float
    addresses: tuple[Network, ...]
    shared: bool = False


@dataclass(frozen=True, slots=True)
class ContainerNews:
    """What is known of containers: the inventory of each engine, and announcements by container id.

    ``asked_at`` is when each engine was asked; its inventory may lack what happened since.
    """

    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    announced: Mapping[str, Announcement] = field(default_factory=dict)
    asked_at: Mapping[str, float] = field(default_factory=dict)

    def with_announced(self) -> dict[str, Inventory]:
        """The inventories with the addresses that were announced.

        A container that was listed with such an address has it no more, unless it is shared.
        """
        addresses = {
            identity: announcement.addresses for identity, announcement in self.announced.items()
        }
        return {
            source: inventory.with_announced(
                addresses, self._taken_since(self.asked_at.get(source, -inf))
            )
            for source, inventory in self.inventories.items()
        }

    def _taken_since(self, asked_at: float) -> set[Network]:
        """The addresses that were announced, and not as shared, since `asked_at`."""
        return {
            address
            for announcement in self.announced.values()
            if announcement.at >= asked_at and not announcement.shared
            for address in announcement.addresses
        }


NOTHING = CompiledPolicy("", None, Classifier())
"""What is in force where nothing is."""


@dataclass(frozen=True, slots=True)
class State:
    """All that is in force, and what it was made from.

    ``compiled`` is the policy in force; ``classifier`` is its classifier with the addresses that
    containers have, and with those of the ``lists`` that it or dynamic rules name; those that
    ``counted_lists`` names count what their entries match. ``dynamic`` has
    all dynamic rules, also those of ``quarantines``, which are by name; ``taken_over`` is how many
    of both an earlier process left, and ``unprotecting`` names the rules of these that block what
    the settings protect now. ``names`` are the addresses of DNS names; ``looked_up`` is when
    this process looked each name up, in seconds since the epoch; ``unresolved`` are the names
    without an answer when that was last tried. ``loaded`` is what the static store holds;
    ``refused`` is what a reload has read since and could not put in force. ``domain`` is what was
    taken from the domain last, None if that is not known.
    """

    condition: Condition = Condition.STOPPED
    source: SourceName = SourceName.NOTHING
    compiled: CompiledPolicy = NOTHING
    classifier: Classifier = NOTHING.classifier
    dynamic: DynamicRules = field(default_factory=DynamicRules)
    quarantines: Mapping[str, Quarantine] = field(default_factory=dict)
    taken_over: int = 0
    unprotecting: tuple[str, ...] = ()
    volatile: Volatile = field(default_factory=Volatile)
    container_news: ContainerNews = field(default_factory=ContainerNews)
    inventory: Inventory = field(default_factory=Inventory)
    lists: Mapping[str, AddressList] = field(default_factory=dict)
    counted_lists: frozenset[str] = frozenset()
    names: Mapping[str, tuple[Network, ...]] = field(default_factory=dict)
    looked_up: Mapping[str, float] = field(default_factory=dict)
    unresolved: frozenset[str] = frozenset()
    loaded: Loaded = field(default_factory=Loaded)
    refused: Loaded | None = None
    domain: Taken | None = None
    failures: tuple[str, ...] = ()
    pending: PendingPolicy | None = None

    @property
    def stopped(self) -> bool:
        """Whether nothing is in force because somebody wants that."""
        return self.condition is Condition.STOPPED

    @property
    def held(self) -> bool:
        """Whether it is not known here what the kernel holds."""
        return self.condition in {Condition.HELD, Condition.FAILED}

    @property
    def enforcing(self) -> bool:
        """Whether the kernel holds what this state says."""
        return self.condition is Condition.ENFORCING

    @property
    def stand_in(self) -> str | None:
        """The name of this host's last good policy, if that is in force for a broken file."""
        policy, is_own = self.compiled.policy, self.compiled.store is Store.STATIC
        return policy.name if policy and is_own and self.source is SourceName.LAST_GOOD else None

    def with_policy(
        self, source: SourceName, compiled: CompiledPolicy, classifier: Classifier
    ) -> State:
        """This state with another policy; it is in force unless the state is stopped."""
        return replace(
            self,
            condition=Condition.STOPPED if self.stopped else Condition.ENFORCING,
            source=source,
            compiled=compiled,
            classifier=classifier,
            pending=None,
        )

    def with_lists(self, lists: Mapping[str, AddressList]) -> State:
        """This state with other lists, of which the classifier has those that are named."""
        classifier = self.classifier.with_lists(lists, self.volatile.tables)
        return replace(self, lists=lists, classifier=classifier)

    def with_used_lists(self) -> State:
        """This state, whose classifier has the lists that it and dynamic rules name, as they are.

        A list that nothing names is not given to the kernel.
        """
        classifier = self.classifier.with_lists(self.lists, self.volatile.tables)
        return self if classifier is self.classifier else replace(self, classifier=classifier)

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
