"""Owns what is kept of policies that were read, so that none is read twice; must not know files.

A policy is known by the SHA-256 of its document: whatever else changes, the same bytes are the
same policy, as long as the same version of ipsecd reads them. What is kept holds no filters but
those that name containers or processes. The others are read when somebody asks for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ipsecd import __version__
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.model.remembered import RememberedPolicy
from ipsecd.model.values import Action, Facts, Policy, check_name
from ipsecd.sources.shapes import decode, items, members, text, whole

MAX_FILTERS = 1 << 32


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of one policy."""

    name: str
    description: str
    facts: Facts

    def policy(self, document: str) -> Policy:
        """The policy, whose filters are read from `document` when they are needed."""
        return RememberedPolicy(
            self.name, self.description, self.facts, lambda: parse_policy(document).rules
        )


class PolicyReader:
    """Reads documents, each only once."""

    def __init__(self) -> None:
        self._known: dict[str, Policy] = {}
        self._kept: Mapping[str, Known] = {}

    def read(self, document: str, source: str) -> Policy:
        """The policy in `document`; raises ``InvalidInput`` with `source` and line."""
        digest = digest_of(document)
        policy = self._known.get(digest)
        if policy is None and digest in self._kept:
            policy = self._kept[digest].policy(document)
        if policy is None:
            policy = parse_policy(document, source)
        self._known[digest] = policy
        return policy

    def note(self, document: str, policy: Policy) -> None:
        """Know the `policy` that `document` was written from."""
        self._known[digest_of(document)] = policy

    def remember(self, kept: Mapping[str, Known]) -> None:
        """Know what an earlier process knew, as ``known_from_json`` gave it."""
        self._kept = kept

    def keep_only(self, digests: AbstractSet[str]) -> Mapping[str, Policy]:
        """Forget all but the policies of these `digests`, and return them."""
        self._kept = {}
        self._known = {one: self._known[one] for one in sorted(digests & self._known.keys())}
        return self._known


def digest_of(document: str) -> str:
    """By what a document is known."""
    return hashlib.sha256(document.encode()).hexdigest()


def known_to_json(policies: Mapping[str, Policy]) -> bytes:
    """What is kept of policies, by the digests of their documents."""
    facts = {digest: known_to_node(policy) for digest, policy in sorted(policies.items())}
    return json.dumps({"reader": __version__, "policies": facts}, ensure_ascii=False).encode()


def known_from_json(content: bytes) -> dict[str, Known]:
    """The inverse, by the same digests; raises ``ValueError`` or ``InvalidInput``.

    Nothing if another version read the policies: it may have read them in another way.
    """
    found = members(decode(content), "the whole", ("reader", "policies"))
    policies = members(found["policies"], "the policies")
    if text(found["reader"], "the version") != __version__:
        return {}
    return {digest: known_from_node(node) for digest, node in policies.items()}


def known_to_node(policy: Policy) -> dict[str, object]:
    """All of a policy but the filters that its document has."""
    facts = policy.facts
    by_name = Policy(policy.name, facts.by_name, policy.description)
    return {
        "actions": [[name, action.value] for name, action in facts.actions.items()],
        "filters": facts.filters,
        "names": sorted(facts.names),
        "by_name": format_policy(by_name),
    }


def known_from_node(node: object) -> Known:
    """What ``known_to_node`` made; raises ``ValueError`` or ``InvalidInput``."""
    facts = members(node, "the facts", ("actions", "filters", "names", "by_name"))
    actions = {}
    for pair in items(facts["actions"], "the actions"):
        name, action = items(pair, "an action", 2)
        rule = text(name, "a rule")
        check_name("rule", rule)
        actions[rule] = Action(text(action, "an action"))
    by_name = parse_policy(text(facts["by_name"], "the filters by name"))
    if any(actions.get(rule.name) is not rule.action for rule in by_name.rules):
        raise ValueError("a filter goes by a name in a rule that is not there")
    known = Facts(
        actions,
        whole(facts["filters"], "the number of filters", len(actions), MAX_FILTERS),
        frozenset(text(name, "a DNS name") for name in items(facts["names"], "the names")),
        by_name.rules,
    )
    return Known(by_name.name, by_name.description, known)
