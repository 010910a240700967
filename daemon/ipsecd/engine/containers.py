"""Owns what is known of containers, and enforcing by it; must not know how it is found out.

An announcement counts until its engine, asked after it, lists all of it or has had the time to.
What an engine was asked before tells of an earlier run of the container, however late it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from ipsecd.compiler.tables import Row
from ipsecd.engine.compiling import rows_for, with_containers
from ipsecd.engine.enforcement import Enforcement
from ipsecd.engine.state import Announced, News, State
from ipsecd.engine.view import policy_filters_by_name
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Inventory, has_selectors, merged
from ipsecd.model.values import Origin
from ipsecd.sources.kept import Kept

ASKED_S = 60.0
"""How long a look at the containers keeps their engines being followed."""
ANNOUNCED_S = 10.0
"""How long after an announcement its engine may be asked, and not know of it yet."""


@dataclass(slots=True)
class Containers:
    """Takes news and announcements; ``engines`` has the state of each engine in a word."""

    enforcement: Enforcement
    kept: Kept
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
        """Take the news of the engine behind `source`, if there are any, and its state."""
        if inventory is not None:
            self.set_inventory(source, inventory, asked_at)
        self.engines[source] = state

    def set_inventory(
        self, source: str, inventory: Inventory, asked_at: float | None = None
    ) -> None:
        """Enforce by what the engine behind `source` has for containers.

        It was asked for that at `asked_at`, in monotonic seconds, or just now. Raises
        ``IpsecdError`` if the kernel does not take it; what was known is in force then.
        """
        news = self.enforcement.state.news
        if news.inventories.get(source) == inventory and not news.announced:
            return
        asked = {**news.asked_at, source: self.clock() if asked_at is None else asked_at}
        inventories = {**news.inventories, source: inventory}
        announced = _awaited(inventories, news.announced, source, asked[source])
        self._take(News(inventories, announced, asked))

    def announce(self, identity: str, addresses: tuple[Network, ...], *, shared: bool) -> bool:
        """Enforce by the addresses of a container that is about to start.

        They are taken from whoever had them, who has ended, unless they are shared with others that
        are in the same network namespace. False if no engine has told of the container yet; that no
        filter names any is no reason to wait for it.
        """
        if not self.are_selected:
            return True
        state = self.enforcement.state
        if not any(one.id == identity for one in state.inventory.containers):
            return False
        taken = () if shared else addresses
        announced = {
            other: replace(told, addresses=tuple(one for one in told.addresses if one not in taken))
            for other, told in state.news.announced.items()
        }
        announced[identity] = Announced(self.clock(), addresses, shared)
        self._take(replace(state.news, announced=announced))
        return True

    def _take(self, news: News) -> None:
        """Enforce by what engines know and was announced, and keep it."""
        inventories = news.with_announced()
        inventory = merged(inventories.values())
        new = replace(self.enforcement.state, news=news, inventory=inventory)
        if new.enforcing:
            self._enforce(new)
        else:
            self.enforcement.note(new)
        self.kept.save_inventories(inventories)

    def _enforce(self, new: State) -> None:
        """Put what selectors stand for now in force, in one effect in the kernel."""
        whole = with_containers(new.good, new.inventory)
        gone: list[Origin] = []
        come: list[tuple[Row, float]] = []
        for rule in new.dynamic.selecting.values():
            rows = rows_for(rule, new.inventory)
            if {(row.table, row.key) for row in rows} != set(new.volatile.rows(rule.origin)):
                gone.append(rule.origin)
                come += [(row, rule.deadline) for row in rows]
        volatile, delta = new.volatile.changed(gone, come)
        new = replace(new, whole=whole, volatile=volatile)
        self.enforcement.become(new, delta)


def _awaited(
    inventories: Mapping[str, Inventory],
    announced: Mapping[str, Announced],
    source: str,
    asked_at: float,
) -> dict[str, Announced]:
    """Those that still count after the engine behind `source` has been asked at that time."""
    listed = {
        one.id: {address for found in one.networks.values() for address in found}
        for one in inventories[source].containers
    }
    of_others = {
        one.id
        for other, inventory in inventories.items()
        if other != source
        for one in inventory.containers
    }

    def counts(identity: str, told: Announced) -> bool:
        if identity in of_others or asked_at <= told.at:
            return True
        late = asked_at >= told.at + ANNOUNCED_S
        return not (late or listed.get(identity, set()) >= set(told.addresses))

    return {identity: told for identity, told in announced.items() if counts(identity, told)}
