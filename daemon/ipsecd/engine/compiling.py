"""Owns making a policy enforceable: its names, the settings, and the addresses of containers.

Pure but for asking the backend whether it can enforce the outcome.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from ipsecd import __version__
from ipsecd.compiler.classifier import Classifier
from ipsecd.compiler.merge import merged
from ipsecd.compiler.policy import compile_filters
from ipsecd.compiler.tables import Row, rows_of
from ipsecd.config import Config, Unparsable
from ipsecd.garbage import collection_paused
from ipsecd.model.addresses import Network
from ipsecd.model.inventory import Inventory, has_selectors, resolved
from ipsecd.model.values import Action, Endpoint, Filter, InForce, Origin, Policy, Store, filters_of
from ipsecd.progress import Phase, Progress, Tell, silent
from ipsecd.sources.cache import names_to_json
from ipsecd.sources.dynamic import DynamicRule
from ipsecd.sources.last_good import Enforceable
from ipsecd.sources.names import names_of, policy_with_addresses
from ipsecd.sources.reading import StoredPolicy

Names = Mapping[str, tuple[Network, ...]]
TOLD_EVERY = 1000
"""How many filters are compiled between two times that it is told how many: milliseconds."""


class Compiling:
    """Compiles policies with the settings."""

    def __init__(self, config: Config, check: Callable[[Classifier], None]) -> None:
        """`check` raises ``Refused`` for what cannot be enforced here."""
        self._exemptions = tuple(sorted(one.name for one in config.exemptions))
        self._drop_unparsable = config.unparsable is Unparsable.DROP
        self._check = check

    def enforceable(
        self,
        stored: StoredPolicy | None,
        names: Names,
        kept: Enforceable | None = None,
        tell: Tell = silent,
    ) -> Enforceable:
        """A policy compiled with the settings; `kept` is used if it was made from the same.

        `tell` hears how many of its filters are compiled.
        """
        policy = stored.policy if stored else None
        used = names_of(policy) if policy else frozenset()
        known = {name: names[name] for name in used if name in names}
        # Another version may compile the same policy in another way.
        digest = stored.digest if stored else None
        made_from = (__version__, self._exemptions, self._drop_unparsable, digest)
        key = hashlib.sha256(repr(made_from).encode() + names_to_json(known)).hexdigest()
        named = policy_with_addresses(policy, known) if policy else None
        document = stored.text if stored else None
        if kept and kept.key == key:
            return (
                kept if kept.policy is named else Enforceable(key, named, kept.classifier, document)
            )
        # What containers have for addresses is no part of it: it is never enforced from disk.
        with collection_paused():
            filters = [
                one
                for one in (filters_of(named, Store.STATIC) if named else ())
                if not has_selectors(one.filter)
            ]
            classifier = compile_filters(
                _counted(filters, tell), self._exemptions, drop_unparsable=self._drop_unparsable
            )
        self._check(classifier)
        return Enforceable(key, named, classifier, document)

    def everything_blocked(self) -> Classifier:
        """What lets nothing through but what is exempt, until a policy is in force."""
        everything = InForce(
            Origin("boot", "", "until the policy is in force"),
            Filter(Endpoint(), Endpoint()),
            Action.BLOCK,
        )
        return compile_filters([everything], self._exemptions)


def _counted(filters: Sequence[InForce], tell: Tell) -> Iterator[InForce]:
    """The filters; `tell` hears how many of them were taken."""
    for number, one in enumerate(filters):
        if number % TOLD_EVERY == 0:
            tell(Progress(Phase.COMPILING, number, len(filters)))
        yield one
    tell(Progress(Phase.COMPILING, len(filters), len(filters)))


def with_containers(good: Enforceable, inventory: Inventory) -> Classifier:
    """The compiled policy, and the entries for what its selectors stand for now."""
    if not good.policy:
        return good.classifier
    by_name = Policy(good.policy.name, good.policy.facts.by_name)
    filters = filters_of(by_name, Store.STATIC)
    selecting = [one for one in filters if has_selectors(one.filter)]
    if not selecting:
        return good.classifier
    return merged(good.classifier, compile_filters(resolved(selecting, inventory)))


def rows_for(rule: DynamicRule, inventory: Inventory) -> tuple[Row, ...]:
    """The entries of a dynamic rule."""
    return tuple(rows_of(resolved(rule.in_force, inventory)))
