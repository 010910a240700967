"""Owns a policy of which everything is known but its rules; must not know where those are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from ipsecd.model.values import Facts, Policy, Rule


class RememberedPolicy(Policy):
    """A policy that was read before; its rules are read again when somebody asks for them."""

    def __init__(
        self, name: str, description: str, facts: Facts, read: Callable[[], tuple[Rule, ...]]
    ) -> None:
        """`read` gives the rules that `facts` were found in; it is called once at the most."""
        # As in every policy, nothing can be set from outside.
        vars(self).update(name=name, description=description, facts=facts, _read=read)

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, which takes as long as reading the document."""
        read: Callable[[], tuple[Rule, ...]] = vars(self)["_read"]
        return read()

    def __eq__(self, other: object) -> bool:
        """Whether the two say the same; needs the rules."""
        if not isinstance(other, Policy):
            return NotImplemented
        return (self.name, self.description, self.rules) == (
            other.name,
            other.description,
            other.rules,
        )

    def __hash__(self) -> int:
        """As that of an equal policy that is at hand."""
        return hash((self.name, self.rules, self.description))
