"""Owns refusing dynamic rules that would block what the settings protect.

It is about bans by address: a filter whose remote side is ``*`` blocks a port or a direction for
everybody, and is not meant. Policies are not judged here: who writes them means it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice

from ipsecd.engine.compiling import policy_rules_by_name
from ipsecd.engine.quarantines import is_of_quarantine
from ipsecd.engine.state import State
from ipsecd.errors import Refused
from ipsecd.language.addresses import format_address
from ipsecd.language.filters import format_filter
from ipsecd.model.addresses import HostName, Network, Selector, written_name
from ipsecd.model.inventory import Inventory
from ipsecd.model.list_names import lists_in
from ipsecd.model.lists import AddressList
from ipsecd.model.protected import Protected, ProtectedNetworks
from ipsecd.model.quarantine import Quarantine
from ipsecd.model.values import Action, Endpoint, Filter, Rule
from ipsecd.quoting import quote
from ipsecd.sources.dynamic import DynamicRule


class Protection:
    """Judges dynamic rules by what is protected."""

    def __init__(self, entries: Iterable[Protected] = ()) -> None:
        self._networks = ProtectedNetworks(entries)

    def check(self, rule: DynamicRule, state: State) -> None:
        """Raise ``Refused`` if the rule would block an address that is protected."""
        if covered := self.covered(rule, state):
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

    def check_lists(self, state: State, lists: Mapping[str, AddressList]) -> None:
        """Raise ``Refused`` if new `lists` have a protected address blocked, by whatever rule.

        Entries that are in the lists of the state already are not judged again.
        """
        if not self._networks:
            return
        blocked = blocked_lists(replace(state, lists={**state.lists, **lists}))
        for name in sorted(lists.keys() & blocked):
            present = state.lists.get(name, AddressList())
            for entry, network in self._in_list(lists[name]):
                if network not in present:
                    raise Refused(
                        f"list @{written_name(name)}, which a rule blocks, would have "
                        f"{format_address(network)}, "
                        f"and so block {entry.written}, which is protected: {entry.where}",
                        "nothing has changed; leave it out, or take the address off the list "
                        "protect in ipsecd.yaml and restart the daemon",
                    )

    def covered(self, rule: DynamicRule, state: State) -> tuple[Filter, Protected] | None:
        """A filter of a rule that blocks what is protected, and what that is; None if none does."""
        if not self._networks or rule.action is not Action.BLOCK:
            return None
        for rule_filter in rule.filters:
            for network in _networks_of(rule_filter, state.inventory):
                if entry := self._networks.find(network):
                    return rule_filter, entry
            for name in lists_in(rule_filter):
                for entry, _ in self._in_list(state.lists.get(name, AddressList())):
                    return rule_filter, entry
        return None

    def _in_list(self, addresses: AddressList) -> Iterator[tuple[Protected, Network]]:
        """What is protected and an entry of a list has to do with, and these entries."""
        for entry in self._networks:
            for network in addresses.sharing(entry.network):
                yield entry, network

    def covering(self, rules: Iterable[DynamicRule], state: State) -> tuple[str, ...]:
        """The names of the rules that block what is protected."""
        return tuple(rule.name for rule in rules if self.covered(rule, state))

    def overridden(self, state: State) -> list[str]:
        """A sentence for each dynamic rule and list of `state` that blocks what is protected.

        Rules that an earlier process left may do so, by other settings, and rules by the names of
        containers, which get their addresses later; and lists that were there before a policy.
        """
        names = dict.fromkeys((*state.unprotecting, *state.dynamic.selecting))
        rules = [rule for name in names if (rule := state.dynamic.get(name))]
        of_rules = [
            f"rule {quote(rule.name)} blocks {covered[1].written}, which is protected "
            f"({covered[1].where})"
            for rule in rules
            if (covered := self.covered(rule, state)) and not is_of_quarantine(state, rule.name)
        ]
        of_lists = [
            f"list @{written_name(name)}, which a rule blocks, has {format_address(network)}: "
            f"{entry.written} is protected ({entry.where})"
            for name in sorted(blocked_lists(state) & state.lists.keys())
            for entry, network in islice(self._in_list(state.lists[name]), 1)
        ]
        return [*of_rules, *of_lists]

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


def blocked_lists(state: State) -> frozenset[str]:
    """The names of the lists that rules of a state block."""
    of_policy: Iterable[Rule] = policy_rules_by_name(state.compiled, state.lists)
    rules: Iterable[Rule | DynamicRule] = chain(of_policy, state.dynamic.listing.values())
    return frozenset(
        name
        for rule in rules
        if rule.action is Action.BLOCK
        for rule_filter in rule.filters
        for name in lists_in(rule_filter)
    )


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
