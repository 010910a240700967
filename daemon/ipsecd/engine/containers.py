"""Owns what is known of containers, and enforcing by it; must not know how it is found out.

An announcement counts until the container engine, asked after it, lists all of its addresses, or
has had the time to. An answer to a question that was asked before the announcement tells of an
earlier run of the container, however late the answer comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from ipsecd.engine.compiling import classifier_by_names
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.lists import with_entries_of_now
from ipsecd.engine.state import Announcement, ContainerNews, State
from ipsecd.engine.view import policy_filters_by_name
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Inventory, has_selectors, merged
from ipsecd.sources.kept import KeptFiles

ASKED_S = 60.0
"""How long container engines are followed after somebody has looked at the containers."""
ANNOUNCED_S = 10.0
"""How long after an announcement the engine may not know of the container yet."""


@dataclass(slots=True)
class Containers:
    """Takes what engines tell and what is announced; ``engines`` has their states in a word."""

    enforcement: Enforcement
    kept_files: KeptFiles
    clock: Callable[[], float]
    engines: dict[str, str] = field(default_factory=dict)
    _asked_until: float = -inf

    @property
    def are_selected(self) -> bool:
        """Whether any filter in force names what a container engine knows, or somebody asks."""
        if self.clock() < self._asked_until:
            return True
        state = self.enforcement.state
        return bool(state.dynamic.selecting) or any(
            map(has_selectors, policy_filters_by_name(state))
        )

    def ask(self) -> None:
        """Follow the container engines for a while, although no filter needs it."""
        self._asked_until = self.clock() + ASKED_S

    def set_engine(
        self, source: str, inventory: Inventory | None, state: str, asked_at: float
    ) -> None:
        """Take the state of the engine behind `source`, and what containers it has if it told."""
        if inventory is not None:
            self.set_inventory(source, inventory, asked_at)
        self.engines[source] = state

    def set_inventory(
        self, source: str, inventory: Inventory, asked_at: float | None = None
    ) -> None:
        """Enforce by what the engine behind `source` has for containers.

        `asked_at` is when it was asked, in monotonic seconds; None is now. Raises ``IpsecdError``
        if the kernel does not take it; what was known before stays in force then.
        """
        news = self.enforcement.state.container_news
        if news.inventories.get(source) == inventory and not news.announced:
            return
        asked = {**news.asked_at, source: self.clock() if asked_at is None else asked_at}
        inventories = {**news.inventories, source: inventory}
        announced = _still_counting(inventories, news.announced, source, asked[source])
        self._take(ContainerNews(inventories, announced, asked))

    def announce(self, identity: str, addresses: tuple[Network, ...], *, shared: bool) -> bool:
        """Enforce by the addresses of a container that is about to start.

        Whoever had them before has ended, so they are taken from it, unless they are `shared` with
        other containers in the same network namespace. Returns False if no engine has told of the
        container yet. If no filter names containers, the answer is True: nothing need wait.
        """
        if not self.are_selected:
            return True
        state = self.enforcement.state
        if not any(container.id == identity for container in state.inventory.containers):
            return False
        taken = () if shared else addresses
        announced = {
            earlier_identity: replace(
                announcement,
                addresses=tuple(
                    address for address in announcement.addresses if address not in taken
                ),
            )
            for earlier_identity, announcement in state.container_news.announced.items()
        }
        announced[identity] = Announcement(self.clock(), addresses, shared)
        self._take(replace(state.container_news, announced=announced))
        return True

    def _take(self, news: ContainerNews) -> None:
        """Enforce by what engines know and what was announced, and keep it on disk."""
        inventories = news.with_announced()
        inventory = merged(inventories.values())
        new = replace(self.enforcement.state, container_news=news, inventory=inventory)
        if new.enforcing:
            self._enforce(new)
        else:
            self.enforcement.record_state(new)
        self.kept_files.save_inventories(inventories)

    def _enforce(self, new: State) -> None:
        """Put in force what selectors stand for now, as one change in the kernel."""
        classifier = classifier_by_names(new.compiled, new.inventory, new.lists)
        new, delta = with_entries_of_now(new, new.dynamic.selecting.values())
        self.enforcement.put_in_force(replace(new, classifier=classifier), delta)


def _still_counting(
    inventories: Mapping[str, Inventory],
    announced: Mapping[str, Announcement],
    source: str,
    asked_at: float,
) -> dict[str, Announcement]:
    """The announcements that still count once the engine behind `source` was asked."""
    listed = {
        container.id: {
            address for addresses in container.networks.values() for address in addresses
        }
        for container in inventories[source].containers
    }
    of_other_engines = {
        container.id
        for other_source, inventory in inventories.items()
        if other_source != source
        for container in inventory.containers
    }

    def counts(identity: str, announcement: Announcement) -> bool:
        if identity in of_other_engines or asked_at <= announcement.at:
            return True
        late = asked_at >= announcement.at + ANNOUNCED_S
        return not (late or listed.get(identity, set()) >= set(announcement.addresses))

    return {
        identity: announcement
        for identity, announcement in announced.items()
        if counts(identity, announcement)
    }
