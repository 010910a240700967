"""Owns refusing dynamic rules that would block what the settings protect.

It is about bans by address: a filter whose remote side is ``*`` blocks a port or a direction for
everybody, and is not meant. Policies are not judged here: who writes them means it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ipsecd.engine.quarantines import is_of_quarantine
from ipsecd.engine.state import State
from ipsecd.errors import Refused
from ipsecd.language.filters import format_filter
from ipsecd.model.addresses import HostName, Network, Selector
from ipsecd.model.inventory import Inventory
from ipsecd.model.protected import Protected, ProtectedNetworks
from ipsecd.model.quarantine import Quarantine
from ipsecd.model.values import Action, Endpoint, Filter
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule


class Protection:
    """Judges dynamic rules by what is protected."""

    def __init__(self, entries: Iterable[Protected] = ()) -> None:
        self._networks = ProtectedNetworks(entries)

    def check(self, rule: DynamicRule, inventory: Inventory) -> None:
        """Raise ``Refused`` if the rule would block an address that is protected."""
        if covered := self.covered(rule, inventory):
            rule_filter, entry = covered
            raise Refused(
                f"{quote(format_filter(rule_filter))} would block {entry.written}, which is "
                f"protected: {entry.where}",
                "nothing has changed; leave it out, or take the address off the list protect in "
                "ipsecd.yaml and restart the daemon",
            )

    def check_quarantine(self, quarantine: Quarantine, inventory: Inventory) -> None:
        """Raise ``Refused`` if an address that would be cut off is protected."""
        who = quarantine.who
        networks = inventory.addresses(who) if isinstance(who, Selector) else ()
        for entry in filter(None, map(self._networks.find, networks)):
            raise Refused(
                f"{quarantine.name} has {entry.written}, which is protected: {entry.where}",
                "nothing has changed; take the address off the list protect in ipsecd.yaml and "
                "restart the daemon",
            )

    def covered(self, rule: DynamicRule, inventory: Inventory) -> tuple[Filter, Protected] | None:
        """A filter of a rule that blocks what is protected, and what that is; None if none does."""
        if not self._networks or rule.action is not Action.BLOCK:
            return None
        for rule_filter in rule.filters:
            for network in _networks_of(rule_filter, inventory):
                if entry := self._networks.find(network):
                    return rule_filter, entry
        return None

    def covering(self, rules: Iterable[DynamicRule], inventory: Inventory) -> tuple[str, ...]:
        """The names of the rules that block what is protected."""
        return tuple(rule.name for rule in rules if self.covered(rule, inventory))

    def overridden(self, state: State) -> list[str]:
        """A sentence for each dynamic rule of `state` that blocks what is protected.

        Rules that an earlier process left may do so, by other settings, and rules by the names of
        containers, which get their addresses later.
        """
        names = dict.fromkeys((*state.unprotecting, *state.dynamic.selecting))
        rules = [rule for name in names if (rule := state.dynamic.get(name))]
        return [
            f"rule {quote(rule.name)} blocks {covered[1].written}, which is protected "
            f"({covered[1].where})"
            for rule in rules
            if (covered := self.covered(rule, state.inventory))
            and not is_of_quarantine(state, rule.name)
        ]

    def spared(self, rule: DynamicRule, before: DynamicRule) -> DynamicRule:
        """A rule whose DNS names have new addresses, without those that are protected.

        A name of which nothing else is left stands for what it stood for `before`. Whoever answers
        for a name must not be able to have a protected address blocked.
        """
        if not self._networks or rule.action is not Action.BLOCK:
            return rule
        filters = tuple(
            replace(
                new,
                source=self._spared(new.source, old.source),
                destination=self._spared(new.destination, old.destination),
            )
            for new, old in zip(rule.filters, before.filters, strict=True)
        )
        return replace(rule, filters=filters)

    def _spared(self, new: Endpoint, old: Endpoint) -> Endpoint:
        address = new.address
        if not isinstance(address, HostName):
            return new
        kept = tuple(each for each in address.addresses if not self._networks.find(each))
        if len(kept) == len(address.addresses):
            return new
        return replace(new, address=HostName(address.name, kept)) if kept else old


def _networks_of(rule_filter: Filter, inventory: Inventory) -> Iterator[Network]:
    """The networks that a filter names, or names in it stand for, on either side.

    Which of two is the remote one depends on the packet: both are judged.
    """
    for endpoint in (rule_filter.source, rule_filter.destination):
        address = endpoint.address
        if isinstance(address, Network):
            yield address
        elif isinstance(address, HostName):
            yield from address.addresses
        elif isinstance(address, Selector):
            yield from inventory.addresses(address)
