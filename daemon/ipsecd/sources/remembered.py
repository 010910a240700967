"""Owns excerpts of policies that were read, so that none is read twice; must not know files.

A policy is recognised by the SHA-256 of its document: the same bytes are the same policy, as long
as the same version of ipsecd reads them. An excerpt has only those filters that name containers or
processes. The others are read when somebody asks for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ipsecd import __version__
from ipsecd.language.documents import format_policy, parse_policy
from ipsecd.language.shared_filters import parse_shared_filters
from ipsecd.model.expectations import Expectation
from ipsecd.model.remembered import RememberedPolicy
from ipsecd.model.shared_filters import SharedFilters
from ipsecd.model.values import Action, Facts, Policy, check_name
from ipsecd.sources.strict_json import decode, integer, items, members, text

MAX_FILTERS = 1 << 32


@dataclass(frozen=True, slots=True)
class PolicyExcerpt:
    """What is kept of one policy."""

    name: str
    description: str
    expect: tuple[Expectation, ...]
    facts: Facts
    audit: bool = False

    def policy(self, document: str) -> Policy:
        """The policy, whose filters are read from `document` when they are needed."""
        return RememberedPolicy(
            self.name,
            self.description,
            self.expect,
            self.facts,
            lambda: parse_policy(document),
            audit=self.audit,
        )


class PolicyReader:
    """Reads documents, each of them only once."""

    def __init__(self) -> None:
        self._policies_by_digest: dict[str, Policy] = {}
        self._excerpts_by_digest: Mapping[str, PolicyExcerpt] = {}
        self._shared: tuple[str, SharedFilters] | None = None

    def read_shared(self, document: str, source: str) -> SharedFilters:
        """The shared filters in `document`; raises ``InvalidInput`` with `source` and line."""
        if self._shared is None or self._shared[0] != document:
            self._shared = document, parse_shared_filters(document, source)
        return self._shared[1]

    def read(self, document: str, source: str) -> Policy:
        """The policy in `document`; raises ``InvalidInput`` with `source` and line."""
        digest = digest_of(document)
        policy = self._policies_by_digest.get(digest)
        if policy is None and digest in self._excerpts_by_digest:
            policy = self._excerpts_by_digest[digest].policy(document)
        if policy is None:
            policy = parse_policy(document, source)
        self._policies_by_digest[digest] = policy
        return policy

    def remember(self, document: str, policy: Policy) -> None:
        """Remember the `policy` that `document` was written from, so that it need not be read."""
        self._policies_by_digest[digest_of(document)] = policy

    def use_excerpts(self, excerpts: Mapping[str, PolicyExcerpt]) -> None:
        """Use what an earlier process has read, as ``excerpts_from_json`` gave it."""
        self._excerpts_by_digest = excerpts

    def keep_only(self, digests: AbstractSet[str]) -> Mapping[str, Policy]:
        """Forget all but the policies of these `digests`, and return them."""
        self._excerpts_by_digest = {}
        self._policies_by_digest = {
            digest: self._policies_by_digest[digest]
            for digest in sorted(digests & self._policies_by_digest.keys())
        }
        return self._policies_by_digest


def digest_of(document: str) -> str:
    """What a document is recognised by: its SHA-256, in hexadecimal."""
    return hashlib.sha256(document.encode()).hexdigest()


def excerpts_to_json(policies: Mapping[str, Policy]) -> bytes:
    """Excerpts of `policies`, which are by the digests of their documents, as JSON."""
    facts = {digest: excerpt_to_object(policy) for digest, policy in sorted(policies.items())}
    return json.dumps({"reader": __version__, "policies": facts}, ensure_ascii=False).encode()


def excerpts_from_json(content: bytes) -> dict[str, PolicyExcerpt]:
    """The inverse of ``excerpts_to_json``; raises ``ValueError`` or ``InvalidInput``.

    Empty if another version read the policies: it may have read them in another way.
    """
    excerpts = members(decode(content), "the whole", ("reader", "policies"))
    policies = members(excerpts["policies"], "the policies")
    if text(excerpts["reader"], "the version") != __version__:
        return {}
    return {digest: excerpt_from_object(excerpt) for digest, excerpt in policies.items()}


def excerpt_to_object(policy: Policy) -> dict[str, object]:
    """All of a policy except the filters that are only in its document, for JSON."""
    facts = policy.facts
    by_name = Policy(policy.name, facts.by_name, policy.description, policy.expect, policy.audit)
    return {
        "actions": [[name, action.value] for name, action in facts.actions.items()],
        "filters": facts.filters,
        "names": sorted(facts.names),
        "by_name": format_policy(by_name),
    }


def excerpt_from_object(excerpt: object) -> PolicyExcerpt:
    """The inverse of ``excerpt_to_object``; raises ``ValueError`` or ``InvalidInput``."""
    members_by_key = members(excerpt, "the facts", ("actions", "filters", "names", "by_name"))
    actions = {}
    for pair in items(members_by_key["actions"], "the actions"):
        name, action = items(pair, "an action", 2)
        rule = text(name, "a rule")
        check_name("rule", rule)
        actions[rule] = Action(text(action, "an action"))
    by_name = parse_policy(text(members_by_key["by_name"], "the filters by name"))
    if any(actions.get(rule.name) is not rule.action for rule in by_name.rules):
        raise ValueError("a filter goes by a name in a rule that is not there")
    facts = Facts(
        actions,
        integer(members_by_key["filters"], "the number of filters", 0, MAX_FILTERS),
        frozenset(text(name, "a DNS name") for name in items(members_by_key["names"], "the names")),
        by_name.rules,
    )
    return PolicyExcerpt(by_name.name, by_name.description, by_name.expect, facts, by_name.audit)
