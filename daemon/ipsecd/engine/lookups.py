"""Owns how far the looking at the domain is: what was asked for, and what came of it; a value."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Lookups:
    """Looks at the domain, which others take: they are asked to, and tell what came of it.

    Each that is asked for has a number, and the answer to one is an answer to those before it.
    ``message`` says what came of the last one that was answered, and ``changed`` whether anything
    did; ``problem`` why the last look failed, empty if it did not. ``checked_at`` is when that was,
    in seconds since the epoch.
    """

    asked: int = 0
    answered: int = 0
    message: str = ""
    changed: bool = False
    problem: str = ""
    checked_at: float | None = None

    @classmethod
    def beginning(cls, at: float) -> Lookups:
        """For a daemon that starts at a time in seconds since the epoch.

        Numbers begin at its milliseconds, so that a fetcher that has heard one of an earlier daemon
        does not take a new one for the same, which it has answered.
        """
        number = int(at * 1000)
        return cls(asked=number, answered=number)

    def asking(self, *, new: bool = False) -> Lookups:
        """With one more that is asked for; `new`: what came of those before counts no more."""
        last = Lookups() if new else self
        return replace(self, asked=self.asked + 1, problem=last.problem, checked_at=last.checked_at)

    def told(
        self, number: int, message: str, at: float, *, changed: bool = False, problem: str = ""
    ) -> Lookups:
        """After a look that answers all up to `number`."""
        answered = max(self.answered, min(number, self.asked))
        return replace(
            self,
            answered=answered,
            message=message,
            changed=changed,
            problem=problem,
            checked_at=at,
        )
