"""Owns what changes to stored policies come to, in values and in words; must not know any store.

The daemon makes such changes, and so does whoever works out many of them before asking for all at
once. Both say the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from ipsecd.errors import NotFound, Refused
from ipsecd.model.values import Policy
from ipsecd.quoting import few, quote


def reduced(policy: Policy, names: frozenset[str]) -> Policy:
    """`policy` without the rules of these names; raises ``NotFound`` if it has no such rule."""
    check_there(policy.name, names, {rule.name for rule, _ in policy.written_rules()})
    return policy.without_rules(names)


def check_there(policy: str, names: frozenset[str], there: AbstractSet[str]) -> None:
    """Raise ``NotFound`` for the first of `names` that no rule of a policy has."""
    missing = min(names - there, default=None)
    if missing is not None:
        raise NotFound(
            f"policy {policy!r} has no rule {quote(missing)}",
            f"run: ipsecctl policy show {policy!r}",
        )


def words_of_put(policy: str, rules: Iterable[str]) -> str:
    """What was done when rules of these names were stored in a policy."""
    names = [repr(name) for name in rules]
    verb = f"rules {few(names)} are" if len(names) > 1 else f"rule {few(names)} is"
    return f"{verb} stored in policy {policy!r}"


def words_of_removal(policy: str, rules: int) -> str:
    """What was done when so many rules were taken out of a policy that has others."""
    return f"{rules} rules are removed from policy {policy!r}"


def words_of_last_removal(policy: str) -> str:
    """What was done when a policy was deleted because no rule was left in it."""
    return f"policy {policy!r} is deleted with all its rules"


def absent(name: str) -> NotFound:
    """Why nothing can be done with a policy that is not stored."""
    return NotFound(
        f"there is no policy {quote(name)}",
        "ipsecctl policy list shows those there are; names are case-sensitive",
    )


def taken(name: str) -> Refused:
    """Why no policy of a name can be created."""
    return Refused(f"there is a policy {quote(name)} already", "choose another name, or add rules")


def still_assigned(name: str) -> Refused:
    """Why a policy is not deleted that is assigned."""
    return Refused(f"policy {name!r} is assigned", f"run first: ipsecctl policy unassign {name!r}")
