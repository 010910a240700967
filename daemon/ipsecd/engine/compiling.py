"""Owns compiling policies: with the settings, the addresses of DNS names, and those of containers.

It is pure, apart from asking the backend whether it can enforce what was compiled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace

from ipsecd import __version__
from ipsecd.compiler.classifier import Classifier, in_order
from ipsecd.compiler.merge import merged
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.rows import Row, rows_of
from ipsecd.config import Config, Unparsable
from ipsecd.errors import LimitExceeded
from ipsecd.garbage import collection_paused
from ipsecd.language.filters import format_filter
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Inventory, resolved
from ipsecd.model.list_names import as_domain_means, changes_by_itself, with_lengths
from ipsecd.model.lists import AddressList
from ipsecd.model.protected_filters import in_force
from ipsecd.model.united import joined
from ipsecd.model.values import (
    Action,
    Endpoint,
    Filter,
    InForce,
    Origin,
    Policy,
    Rule,
    Store,
    filters_of,
)
from ipsecd.progress import Phase, Progress, Tell, silent
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.last_good import CompiledPolicy
from ipsecd.sources.names import dns_names_of, policy_with_addresses
from ipsecd.sources.names_file import names_to_json
from ipsecd.sources.reading import StoredPolicy

Names = Mapping[str, tuple[Network, ...]]
ListsByName = Mapping[str, AddressList]
MAX_LIST_LOOK_UPS = 2000
"""Each costs packets that nothing decided before, and some milliseconds in which bans wait."""
TOLD_EVERY = 1000
"""Progress is told each time that so many filters are compiled, which takes milliseconds."""


class Compiling:
    """Compiles policies with the settings."""

    def __init__(self, config: Config, check: Callable[[Classifier], None]) -> None:
        """`check` raises ``Refused`` for what cannot be enforced here."""
        self._exemptions = tuple(sorted(exemption.name for exemption in config.exemptions))
        self._drop_unparsable = config.unparsable is Unparsable.DROP
        self._protected = config.protected_filters
        self._check = check

    def compile(
        self,
        stored: StoredPolicy | None,
        names: Names,
        previous: CompiledPolicy | None = None,
        tell: Tell = silent,
    ) -> CompiledPolicy:
        """A policy compiled with the settings; `previous` is used if it was made from the same.

        Without a policy, what the settings protect is compiled. `tell` hears how many of its
        filters are compiled.
        """
        policy = stored.policy if stored else None
        store = stored.store if stored else Store.STATIC
        used = dns_names_of(policy) if policy else frozenset()
        addresses = {name: names[name] for name in used if name in names}
        # Another version may compile the same policy in another way.
        digest = stored.digest if stored else None
        settings = (self._exemptions, self._drop_unparsable, self._protected_texts())
        made_from = (__version__, *settings, digest, store.value)
        key = hashlib.sha256(repr(made_from).encode() + names_to_json(addresses)).hexdigest()
        resolved_policy = policy_with_addresses(policy, addresses) if policy else None
        document = stored.text if stored else None
        if previous and previous.key == key:
            if previous.policy is resolved_policy:
                return previous
            return replace(previous, policy=resolved_policy, document=document)
        # Filters that name containers or lists are left out: this outcome is kept on disk, and what
        # these stand for is never enforced from there.
        with collection_paused():
            of_policy = filters_of(resolved_policy, store) if resolved_policy else ()
            filters = [
                rule_filter
                for rule_filter in (*in_force(self._protected), *of_policy)
                if not changes_by_itself(rule_filter.filter)
            ]
            classifier = compile_filters(
                _counted(filters, tell), self._exemptions, drop_unparsable=self._drop_unparsable
            )
        # A start must be able to go on without a policy, even if what is protected is too much for
        # the backend: that is refused when it is enforced.
        if policy:
            self._check(classifier)
        return CompiledPolicy(key, resolved_policy, classifier, document, store, self._protected)

    def protecting(self, compiled: CompiledPolicy) -> CompiledPolicy:
        """A policy that was compiled with other settings, with what these protect now.

        Its own tables stay as they are, so it can be put in force whatever became of its document.
        Raises ``IpsecdError`` if that cannot be enforced here.
        """
        if compiled.protected == self._protected:
            return compiled
        of_now = compile_filters(
            rule_filter
            for rule_filter in in_force(self._protected)
            if not changes_by_itself(rule_filter.filter)
        )
        of_policy = [table for table in compiled.classifier.tables if not table.id.protected]
        tables = in_order([*of_now.tables, *of_policy])
        classifier = replace(compiled.classifier, tables=tuple(tables))
        self._check(classifier)
        made_from = (compiled.key, self._protected_texts())
        return replace(
            compiled,
            key=hashlib.sha256(repr(made_from).encode()).hexdigest(),
            classifier=classifier,
            protected=self._protected,
        )

    def _protected_texts(self) -> tuple[str, ...]:
        return tuple(map(format_filter, self._protected))

    def everything_blocked(self, lists: ListsByName) -> Iterator[Classifier]:
        """Classifiers that block all until a policy is in force; the first that is taken counts.

        Exemptions pass, and what the settings protect; the last is without that.
        """
        block = InForce(
            Origin("boot", "", "until the policy is in force"),
            Filter(Endpoint(), Endpoint()),
            Action.BLOCK,
        )
        if self._protected:
            filters = [*joined(in_force(self._protected)), block]
            yield compile_filters(filters, self._exemptions, lists=lists)
        yield compile_filters([block], self._exemptions)


def _counted(filters: Sequence[InForce], tell: Tell) -> Iterator[InForce]:
    """Yield the filters, and tell how many of them were taken."""
    for number, rule_filter in enumerate(filters):
        if number % TOLD_EVERY == 0:
            tell(Progress(Phase.COMPILING, number, len(filters)))
        yield rule_filter
    tell(Progress(Phase.COMPILING, len(filters), len(filters)))


def classifier_by_names(
    compiled: CompiledPolicy, inventory: Inventory, lists: ListsByName
) -> Classifier:
    """The classifier of a policy, with entries for what its selectors and lists stand for now."""
    filters = compiled.protected_in_force
    if compiled.policy:
        by_name = Policy(compiled.policy.name, policy_rules_by_name(compiled, lists))
        filters += filters_of(by_name, compiled.store)
    changing = [rule_filter for rule_filter in filters if changes_by_itself(rule_filter.filter)]
    if not changing:
        return compiled.classifier
    of_now = compile_filters(resolved(joined(changing), inventory), lists=lists)
    # What is protected has its own bounds, and must not keep a policy from being in force.
    look_ups = sum(1 for table in of_now.tables if table.id.listed and not table.id.protected)
    if look_ups > MAX_LIST_LOOK_UPS:
        raise LimitExceeded(
            f"the policy looks into lists {look_ups:,} times for a packet: once for each prefix "
            "length and IP version of the lists, in each kind of filter of a rule; at most "
            f"{MAX_LIST_LOOK_UPS:,} times are taken",
            "name lists in filters of one rule that differ in nothing else, which are looked into "
            "as one, or put their entries into one list",
        )
    return merged(compiled.classifier, of_now).with_lists(lists)


def policy_rules_by_name(compiled: CompiledPolicy, lists: Container[str]) -> tuple[Rule, ...]:
    """The rules of a policy with those of their filters that go by names, as they are meant.

    In the domain's policy the names of lists mean the domain's, if these are among `lists`.
    """
    rules = compiled.policy.facts.by_name if compiled.policy else ()
    if compiled.store is not Store.DOMAIN:
        return rules
    return tuple(
        replace(rule, filters=tuple(as_domain_means(flt, lists) for flt in rule.filters))
        for rule in rules
    )


def rows_by_name(
    rules: Sequence[DynamicRule], inventory: Inventory, lists: ListsByName
) -> dict[str, tuple[Row, ...]]:
    """The entries of dynamic rules, by the rules' names.

    Of many that are alike, each costs a fraction of what one alone does.
    """
    by_name: dict[str, list[Row]] = {rule.name: [] for rule in rules}
    in_force = (rule_filter for rule in rules for rule_filter in rule.in_force)
    for row in rows_of(with_lengths(resolved(in_force, inventory), lists)):
        by_name[row.filter_in_force.origin.rule].append(row)
    return {name: tuple(rows) for name, rows in by_name.items()}


def rows_for(rule: DynamicRule, inventory: Inventory, lists: ListsByName) -> tuple[Row, ...]:
    """The entries of a dynamic rule."""
    return tuple(rows_of(with_lengths(resolved(rule.in_force, inventory), lists)))
