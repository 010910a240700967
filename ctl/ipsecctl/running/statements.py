"""Owns what a batch file is made of, as values; must not know how it is written or carried out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """One command as it is written, without redirections; its variables are not replaced yet.

    ``hides_output`` and ``hides_errors`` say that these go to ``nul``. ``filters`` are the commands
    that its output is piped through, one after the other.
    """

    line: int
    text: str
    hides_output: bool = False
    hides_errors: bool = False
    filters: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """Statements after each other, each with ``&``, ``&&`` or ``||`` before it; ``&`` at first."""

    parts: tuple[tuple[str, Statement], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Statements in parentheses."""

    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """``errorlevel N`` if ``operator`` is empty, else a comparison of two texts."""

    left: str
    operator: str = ""
    right: str = ""
    negated: bool = False
    ignores_case: bool = False


@dataclass(frozen=True, slots=True)
class If:
    """A statement under a condition, and perhaps one for when that is not met."""

    line: int
    condition: Condition
    then: Statement
    otherwise: Statement | None = None


@dataclass(frozen=True, slots=True)
class For:
    """A statement for each member of a set, or if ``counts``, for start, step and end."""

    line: int
    variable: str
    members: str
    body: Statement
    counts: bool = False


Statement = Command | Chain | Block | If | For
