"""Owns a policy whose rules are read only when they are needed; must not know where they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from ipsecd.model.expectations import Expectation
from ipsecd.model.values import Facts, Policy, Rule


class RememberedPolicy(Policy):
    """A policy that was read before; its rules are read again when somebody asks for them."""

    def __init__(
        self,
        name: str,
        description: str,
        expect: tuple[Expectation, ...],
        facts: Facts,
        read: Callable[[], Policy],
        *,
        audit: bool = False,
    ) -> None:
        """`read` gives a policy with its rules; `facts` are about them. It is called only once."""
        # A policy is immutable, so attributes cannot be set in the usual way.
        vars(self).update(
            name=name, description=description, expect=expect, facts=facts, _read=read, audit=audit
        )

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """The rules. The first access takes as long as reading the document."""
        return self._whole.rules

    @cached_property
    def resting(self) -> tuple[Rule, ...]:
        """The rules that are switched off. The first access takes as long as to ``rules``."""
        return self._whole.resting

    @cached_property
    def _whole(self) -> Policy:
        read: Callable[[], Policy] = vars(self)["_read"]
        return read()

    def __eq__(self, other: object) -> bool:
        """Whether the two policies are equal; reads the rules."""
        if not isinstance(other, Policy):
            return NotImplemented
        return _parts(self) == _parts(other)

    def __hash__(self) -> int:
        """The hash of an equal policy that is not remembered."""
        return hash(
            (self.name, self.rules, self.description, self.expect, self.audit, self.resting)
        )


def _parts(policy: Policy) -> tuple[object, ...]:
    """All that a policy is; what may have to be read comes last."""
    head = (policy.name, policy.description, policy.expect, policy.audit)
    return (*head, policy.rules, policy.resting)
